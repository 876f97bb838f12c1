"""The quantizers that a run can ask for by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from codebound.errors import InputError
from codebound.quantize import (
    BSQ,
    FSQ,
    LFQ,
    Product,
    Quantizer,
    Residual,
    Trellis,
    VectorQuantizer,
    from_spec,
)
from codebound.quantize.assign import Soft
from codebound.quantize.estimator import Rotation
from codebound.quantize.init import Init, KMeans
from codebound.quantize.revival import Never, Resample
from codebound.quantize.update import BlahutArimoto, Gradient
from codebound.recipes import papers

LARGE = 2048  # codewords from which the start is one Lloyd step from data points: k-means would take minutes
LEAST_LEVELS = 5  # of FSQ: Mentzer et al. 2023, §4.1


class QuantizerRequest(NamedTuple):
    """What a name alone does not say."""

    codebook_size: int
    dim: int
    depth: int  # stages or parts of rvq and pq
    commitment: float
    steps: int  # of the training: a soft assignment anneals over it
    tokens: int  # that the training will see: how long dead codewords can be waited for
    seed: int


def quantizer(kind: str | Mapping[str, Any], request: QuantizerRequest) -> Quantizer:
    """The quantizer of a name in `KINDS`, or of a description as `to_spec` gives.

    Raises:
        InputError: an unknown name, a description that is none, or a codebook size that the quantizer can't have.
    """
    if not isinstance(kind, str):
        return from_spec(kind)
    if kind not in KINDS:
        raise InputError(f"quantizer={kind!r} is unknown; accepted: {', '.join(KINDS)}")
    return KINDS[kind](request)


def table(request: QuantizerRequest, **choices: Any) -> VectorQuantizer:
    """A codebook of vectors, but for `choices` by EMA from k-means, dead codewords revived."""
    return VectorQuantizer(
        request.dim,
        request.codebook_size,
        **{
            "init": start(request.codebook_size),
            "revival": revival(request),
            "seed": request.seed,
            "loss_weights": _weights(request),
            **choices,
        },
    )


def _weights(request: QuantizerRequest) -> dict[str, float]:
    return {"commitment": request.commitment, "codebook": 1.0}


def start(codebook_size: int) -> Init:
    """k-means where it takes seconds, one Lloyd step from data points beyond."""
    return KMeans(20) if codebook_size <= LARGE else KMeans(1, "sample")


def revival(request: QuantizerRequest) -> Resample:
    """Windows of 50 tokens a codeword, shorter where a training has not twenty of them, but of 5 at least.

    (A codeword of average use is without a hit in 5 by chance once in 148 windows.)
    """
    window = min(50.0, max(5.0, request.tokens / (20 * request.codebook_size)))
    return Resample(window=window, candidates=max(1024, request.codebook_size // 16))


def _simvq(request: QuantizerRequest) -> VectorQuantizer:
    plain = papers.simvq(request.dim, request.codebook_size)
    return VectorQuantizer(
        request.dim,
        request.codebook_size,
        form=plain.form,
        update=plain.update,
        revival=plain.revival,
        init=plain.init,
        loss_weights=_weights(request),
        seed=request.seed,
    )


def _several(request: QuantizerRequest, dim: int) -> list[VectorQuantizer]:
    return [table(request._replace(dim=dim, seed=request.seed + i)) for i in range(request.depth)]


def _pq(request: QuantizerRequest) -> Product:
    if request.dim % request.depth:
        raise InputError(
            f"pq divides dim={request.dim} into depth={request.depth} equal parts; that leaves a rest"
        )
    return Product(_several(request, request.dim // request.depth))


def levels(codebook_size: int) -> tuple[int, ...]:
    """FSQ's levels for about this many codes, each at least 5: the paper's where it has them (table 1).

    Raises:
        InputError: fewer than 25 codes.
    """
    bits = math.log2(codebook_size) if codebook_size > 0 else 0
    if bits in papers.FSQ_LEVELS:
        return papers.FSQ_LEVELS[int(bits)]
    if codebook_size < LEAST_LEVELS**2:
        raise InputError(f"fsq needs a codebook_size of at least {LEAST_LEVELS**2}; got {codebook_size}")
    return min(
        (sizes for dims in range(2, 7) for sizes in _descending(dims, 16, codebook_size)),
        key=lambda sizes: (abs(math.log(math.prod(sizes) / codebook_size)), len(sizes)),
    )


def _descending(dims: int, most: int, codes: int) -> list[tuple[int, ...]]:
    """Levels in falling order whose product is at most twice `codes`."""
    if dims == 0:
        return [()]
    return [
        (first, *rest)
        for first in range(LEAST_LEVELS, most + 1)
        if first * LEAST_LEVELS ** (dims - 1) <= 2 * codes
        for rest in _descending(dims - 1, first, max(1, codes // first))
    ]


def _bits(request: QuantizerRequest) -> int:
    bits = round(math.log2(max(request.codebook_size, 1)))
    if request.codebook_size != 2**bits or bits < 1:
        raise InputError(
            f"lfq and bsq have 2^bits codes; codebook_size={request.codebook_size} is no power of two"
        )
    return bits


def _trellis(request: QuantizerRequest, surrogate: Literal["straight_through", "dither"]) -> Trellis:
    """A trellis code of log2(codebook_size) bits a token, entropy-coded."""
    return papers.ectcq(request.dim, _log2(request.codebook_size), surrogate=surrogate)


def _log2(codebook_size: int) -> float:
    if codebook_size < 2:
        raise InputError(f"codebook_size must be at least 2; got {codebook_size}")
    return math.log2(codebook_size)


KINDS: dict[str, Callable[[QuantizerRequest], Quantizer]] = {
    "vq-ema": lambda request: table(request),
    "vq-ema-norevival": lambda request: table(request, revival=Never()),
    "ba": lambda request: table(request, assign=Soft(steps=request.steps), update=BlahutArimoto()),
    "gradient": lambda request: table(request, update=Gradient()),
    "rotation": lambda request: table(request, estimator=Rotation()),
    "simvq": _simvq,
    "fsq": lambda request: FSQ(levels(request.codebook_size)),
    "lfq": lambda request: LFQ(_bits(request), group_bits=8),
    "bsq": lambda request: BSQ(_bits(request)),
    "rvq": lambda request: Residual(_several(request, request.dim)),
    "pq": _pq,
    "trellis": lambda request: _trellis(request, "straight_through"),
    "trellis-dither": lambda request: _trellis(request, "dither"),
}
