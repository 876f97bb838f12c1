"""The codes that are compared: each fits to some vectors and codes others with about so many bits a value."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from codebound import BitTrellis, Product, Residual, Trellis, VectorQuantizer
from codebound.codec import compress_vectors, decompress_vectors, inspect_vectors
from codebound.codec.arrays import Aim, fitted
from codebound.extras import imported
from codebound.quantize.base import Quantizer
from codebound.quantize.init import KMeans
from codebound.theory.gaussian import eigensystem
from codebound.theory.lloyd import lloyd_max

Rows = Float[Tensor, "_n D"]
INDEX_BITS = 8  # of a k-means codebook
ITERATIONS = 10  # of k-means
TURNS = 3  # of OPQ's rotation
ZSTD = 1 << 16  # values that its step is found on
LEAST_ROW = 48  # components of a row that closes upon itself: shorter ones pay too much for it
STAGES = 4  # of a residual code, at most: each is fitted to what those before leave, which takes long
MOST_FITTED = 64  # dimensions of codes that take minutes to fit to more


class Coded(NamedTuple):
    """What comes back from a code, its bits a value, and the bytes that a decoder needs beside."""

    rows: Rows
    bits: float
    model_bytes: int


@dataclass(frozen=True)
class Code:
    """A code: its name in tables, its colour, whether it is a peer's, and at which (bits, dim) there is one."""

    label: str
    colour: str
    work: Callable[[Rows, Rows, float, int], Coded]
    fits: Callable[[float, int], bool] = lambda bits, dim: True
    peer: bool = False
    fixed: float | None = None  # bits of a code that has one rate only


def trellis(train: Rows, test: Rows, bits: float, seed: int, states: int) -> Coded:
    """`Trellis` in a `.cbv` file, as `codebound compress-vectors` writes it; its header is counted as the model."""
    return _filed(fitted(train, Aim(bits=bits, states=states), test.shape[1]), test)


def bit_trellis(train: Rows, test: Rows, bits: float, seed: int) -> Coded:
    """`BitTrellis` of 12 state bits in a `.cbv` file, as `codebound compress-vectors --fixed` writes it."""
    return _filed(fitted(train, Aim(bits=bits, fixed=True), test.shape[1]), test)


def _filed(quantizer: Trellis | BitTrellis, test: Rows) -> Coded:
    data = compress_vectors(test, quantizer)
    header = inspect_vectors(data).header_bytes
    return Coded(decompress_vectors(data), 8 * (len(data) - header) / test.numel(), header)


def product(train: Rows, test: Rows, bits: float, seed: int) -> Coded:
    """`Product` of k-means codebooks of 256: product quantization."""
    part = round(INDEX_BITS / bits)
    books = [_book(part) for _ in range(test.shape[1] // part)]
    return _indices(Product(books), train, test, bits, seed, 4 * 256 * test.shape[1])


def residual(train: Rows, test: Rows, bits: float, seed: int) -> Coded:
    """`Residual` of k-means codebooks of 256."""
    dim = test.shape[1]
    books = [_book(dim) for _ in range(round(bits * dim / INDEX_BITS))]
    return _indices(Residual(books), train, test, bits, seed, 4 * 256 * dim * len(books))


def scalars(train: Rows, test: Rows, bits: float, seed: int) -> Coded:
    """Uniform levels, a wider zero and centroids of `train`, with ideal entropy codes.

    Of principal axes and the components as they are, and of several widths of the zero, what has the least error at
    these bits; the entropies are the test vectors' own.
    """
    axes, mean = _axes(train)
    found = []
    for turn in (axes, torch.eye(len(axes), dtype=torch.float64)):
        seen, fresh = (train.double() - mean) @ turn, (test.double() - mean) @ turn
        for rounding in (0.5, 0.33):
            got, points = _scalars_at(seen, fresh, rounding, bits)
            error = float((points - fresh).square().sum())
            found.append(
                (
                    error * 4 ** (got - bits),
                    Coded((points @ turn.t() + mean).float(), got, 2 * len(axes) ** 2),
                )
            )
    return min(found, key=lambda each: each[0])[1]


def _scalars_at(seen: Tensor, fresh: Tensor, rounding: float, bits: float) -> tuple[float, Tensor]:
    """Bits a value, and what stands for each, at the step whose entropy is nearest to these bits."""

    def levels(y: Tensor, step: float) -> Tensor:
        return (y.sign() * (y.abs() / step + rounding).floor()).long()

    def entropy(step: float) -> float:
        total = 0.0
        for column in levels(fresh, step).t():
            counts = torch.bincount(column - column.min()).double()
            total += float(torch.special.entr(counts / len(column)).sum()) / math.log(2)
        return total / fresh.shape[1]

    low, high = 1e-4 * float(fresh.std()), 100.0 * float(fresh.std())
    for _ in range(18):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if entropy(middle) > bits else (low, middle)

    # What levels stand for: the means of the vectors seen, or the middle where none was.
    points = torch.empty_like(fresh)
    for number, (own, new) in enumerate(zip(levels(seen, high).t(), levels(fresh, high).t(), strict=True)):
        least = int(min(own.min(), new.min()))
        count = int(max(own.max(), new.max())) - least + 1
        hits = torch.bincount(own - least, minlength=count)
        sums = torch.zeros(count, dtype=torch.float64).index_add(0, own - least, seen[:, number])
        middles = high * torch.arange(least, least + count)
        points[:, number] = torch.where(hits > 0, sums / hits.clamp_min(1), middles)[new - least]
    return entropy(high), points


def zstd(train: Rows, test: Rows, bits: float, seed: int) -> Coded:
    """Uniform levels on the principal axes, as bytes, component after component, through zstd."""
    pyarrow = imported("pyarrow", "lab", "zstd")
    axes, mean = _axes(train)
    y = (test.double() - mean) @ axes
    coder = pyarrow.Codec("zstd", compression_level=19)

    def coded(rows: Tensor, step: float) -> tuple[float, Tensor]:
        levels = (rows / step).round()
        small = float(levels.abs().max()) < 128
        octets = levels.t().contiguous().to(torch.int8 if small else torch.int16).numpy().tobytes()
        return 8 * len(coder.compress(octets)) / rows.numel(), levels * step

    # The step is found on some of the vectors: the highest level of compression is slow.
    some, low, high = y[: max(1, ZSTD // y.shape[1])], 1e-3 * float(y.std()), 100.0 * float(y.std())
    for _ in range(12):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if coded(some, middle)[0] > bits else (low, middle)
    got, points = coded(y, high)
    return Coded((points @ axes.t() + mean).float(), got, 2 * test.shape[1] ** 2)


def rotated_lloyd_max(train: Rows, test: Rows, bits: float, seed: int) -> Coded:
    """Lloyd–Max's quantizer of a Gaussian on every component after a random rotation."""
    dim = test.shape[1]
    axes = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed)))[0].double()
    mean = train.double().mean(0)
    scale = ((train.double() - mean) @ axes).std(0)
    quantizer = lloyd_max(2 ** int(bits))
    y = (test.double() - mean) @ axes / scale
    cells = np.searchsorted(quantizer.thresholds, y.numpy())
    points = torch.from_numpy(quantizer.levels[cells]) * scale
    return Coded((points @ axes.t() + mean).float(), bits, 4 * 2 * dim)


def faiss_scalar(train: Rows, test: Rows, bits: float, seed: int, kind: str) -> Coded:
    """faiss's ScalarQuantizer: uniform between the least and the largest value of a component."""
    faiss = _faiss()
    quantizer = faiss.ScalarQuantizer(test.shape[1], getattr(faiss.ScalarQuantizer, kind))
    return _faiss_codes(quantizer, train, test, bits, 8 * test.shape[1])


def faiss_product(train: Rows, test: Rows, bits: float, seed: int, rotation: bool) -> Coded:
    """faiss's PQ, after OPQ's learned rotation or without."""
    faiss, dim = _faiss(), test.shape[1]
    parts = round(bits * dim / INDEX_BITS)
    quantizer = faiss.ProductQuantizer(dim, parts, INDEX_BITS)
    quantizer.cp.niter = ITERATIONS
    if not rotation:
        return _faiss_codes(quantizer, train, test, bits, 4 * 256 * dim)
    turn = faiss.OPQMatrix(dim, parts)
    turn.niter = TURNS
    turn.train(train.numpy())
    turned, fresh = (torch.from_numpy(turn.apply(rows.numpy())) for rows in (train, test))
    coded = _faiss_codes(quantizer, turned, fresh, bits, 4 * 256 * dim + 4 * dim * dim)
    return coded._replace(rows=torch.from_numpy(turn.reverse_transform(coded.rows.numpy())))


def faiss_residual(train: Rows, test: Rows, bits: float, seed: int) -> Coded:
    """faiss's ResidualQuantizer, with its beam."""
    dim = test.shape[1]
    stages = round(bits * dim / INDEX_BITS)
    quantizer = _faiss().ResidualQuantizer(dim, stages, INDEX_BITS)
    return _faiss_codes(quantizer, train, test, bits, 4 * 256 * dim * stages)


def _book(dim: int) -> VectorQuantizer:
    return VectorQuantizer(dim, 256, init=KMeans(iterations=ITERATIONS))


def _indices(
    quantizer: Quantizer, train: Rows, test: Rows, bits: float, seed: int, model_bytes: int
) -> Coded:
    """A code of a fixed number of bits for each index."""
    quantizer.init_(train, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        z_q = quantizer.eval()(test).z_q
    return Coded(z_q, bits, model_bytes)


def _axes(train: Rows) -> tuple[Tensor, Tensor]:
    rows = train.double()
    return torch.from_numpy(eigensystem(torch.cov(rows.t()).numpy())[1].copy()), rows.mean(0)


def _faiss() -> Any:
    faiss = imported("faiss", "bench", "faiss's codes")
    faiss.omp_set_num_threads(1)
    return faiss


def _faiss_codes(quantizer: Any, train: Rows, test: Rows, bits: float, model_bytes: int) -> Coded:
    quantizer.train(train.numpy())
    again = torch.from_numpy(quantizer.decode(quantizer.compute_codes(test.numpy())))
    return Coded(again, bits, model_bytes)


def _whole(bits: float, dim: int) -> bool:
    return bits in (1, 2, 4)


def _splits(bits: float, dim: int) -> bool:
    """Whether k-means codebooks of 256 divide the vector evenly at this rate."""
    return dim % (INDEX_BITS / bits) == 0


def _staged(bits: float, dim: int) -> bool:
    return dim <= MOST_FITTED and bits * dim % INDEX_BITS == 0 and 0 < bits * dim / INDEX_BITS <= STAGES


CODES: dict[str, Code] = {
    "trellis-8": Code("Trellis, 8 states", "#5b9bd5", partial(trellis, states=8)),
    "trellis-32": Code("Trellis, 32 states", "#2f7fc1", partial(trellis, states=32)),
    "trellis-256": Code("Trellis, 256 states", "#0b63a5", partial(trellis, states=256)),
    "bit-trellis": Code(
        "BitTrellis, 12 state bits",
        "#117733",
        bit_trellis,
        lambda bits, dim: _whole(bits, dim) and dim >= LEAST_ROW,
    ),
    "product": Code(
        "Product of k-means",
        "#c2410c",
        product,
        lambda bits, dim: _splits(bits, dim) and dim <= MOST_FITTED,
    ),
    "residual": Code("Residual k-means", "#e39a6b", residual, _staged),
    "scalars": Code("scalars, ideal entropy code", "#8a6100", scalars),
    "zstd": Code("uniform levels, zstd", "#b08f3c", zstd, peer=True),
    "lloyd-max": Code("rotation, Lloyd–Max", "#777777", rotated_lloyd_max, _whole, peer=True),
    "faiss-sq4": Code("faiss SQ4", "#aa4499", partial(faiss_scalar, kind="QT_4bit"), peer=True, fixed=4.0),
    "faiss-sq8": Code("faiss SQ8", "#7a3fa0", partial(faiss_scalar, kind="QT_8bit"), peer=True, fixed=8.0),
    "faiss-pq": Code("faiss PQ", "#b3261e", partial(faiss_product, rotation=False), _splits, peer=True),
    "faiss-opq": Code(
        "faiss OPQ",
        "#e0726b",
        partial(faiss_product, rotation=True),
        lambda bits, dim: _splits(bits, dim) and bits == 2 and dim <= MOST_FITTED,
        peer=True,
    ),
    "faiss-rq": Code(
        "faiss RQ",
        "#00798c",
        faiss_residual,
        _staged,
        peer=True,
    ),
}
