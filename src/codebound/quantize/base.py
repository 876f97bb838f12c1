"""What every quantizer is: the abstract class, its result, and what an update needs to know."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from codebound.errors import InputError
from codebound.exact import wide
from codebound.graphs import has_numbers, is_recorded, is_traced
from codebound.quantize.ranks import Ranks
from codebound.quantize.sketch import Sketch
from codebound.quantize.surgery import Surgery


class CodeStats(NamedTuple):
    """What an update needs to know of a batch, for one codebook: Lloyd, EMA and the codebook loss all consume it.

    `counts` and `sums` are float64, so that adding up ranks or accumulation steps is exact enough to be
    rounded once and not depend on how the batch was divided.
    """

    counts: Float[Tensor, " K"]  # what the update consumes: soft where the assignment is
    sums: Float[Tensor, "K D"]
    hits: Float[Tensor, " K"]  # how often each codeword was chosen: what usage and revival consume
    squared_error: Float[Tensor, ""]  # of the hard choice, summed over the valid tokens
    non_finite: Int64[Tensor, ""]  # tokens left out because they hold NaN or Inf
    sketch: Sketch  # a few of the tokens, for revival
    version: Int64[Tensor, ""]  # of the codebook, when this was counted

    @staticmethod
    def merge(stats: tuple[CodeStats, ...]) -> CodeStats:
        """The statistic of the joined batch."""
        first, *rest = stats
        for other in rest:
            first = CodeStats(
                first.counts + other.counts,
                first.sums + other.sums,
                first.hits + other.hits,
                first.squared_error + other.squared_error,
                first.non_finite + other.non_finite,
                first.sketch.merge(other.sketch),
                first.version,
            )
        return first


class Quantized(NamedTuple):
    """What a quantizer returns. `*b` are any leading axes, Q is the number of indices per vector."""

    z_q: Float[Tensor, "*b D"]  # reproduction, in the input's dtype, gradient estimator attached
    indices: Int64[Tensor, "*b Q"]  # −1 where masked or not finite
    loss: Float[Tensor, ""]  # weighted sum of `losses`: what a user adds to theirs
    losses: dict[str, Float[Tensor, ""]]  # unweighted, by name: commitment, codebook, …
    stats: tuple[CodeStats, ...]  # one per codebook; () in eval


@dataclass(frozen=True)
class UpdateReport:
    """What `update_` did and saw, over the whole (joined) batch and the current window."""

    tokens: int  # valid tokens in the batch
    non_finite: int  # tokens left out because they hold NaN or Inf
    revived: tuple[Int64[Tensor, " _"], ...]  # rows replaced, per codebook: zero an optimizer's moments there
    windows: tuple[Int64[Tensor, " _"] | None, ...]  # hits in the window so far; None: not counted
    slope: float | None = None  # of a soft assignment that anneals: minimise rate + slope·distortion
    critical_slope: float | None = None  # under 1/(2λ_max) all codewords merge

    # Computed when somebody asks: an update waits for no figure that nobody reads.

    @cached_property
    def window_usage(self) -> tuple[float, ...]:
        """Fraction of codewords used in the window, per codebook; NaN where nothing is counted."""
        return tuple(
            math.nan if hits is None else int(hits.count_nonzero()) / hits.shape[0] for hits in self.windows
        )

    @cached_property
    def window_perplexity(self) -> tuple[float, ...]:
        """Perplexity of the codewords' shares in the window, per codebook; NaN where nothing is counted."""
        return tuple(math.nan if hits is None else _perplexity(hits) for hits in self.windows)


class Quantizer(Surgery, ABC):
    """A map from vectors to a finite set of reproductions, and back from indices.

    `forward` is pure: it changes no state. Codewords move in `update_`, called after `optimizer.step()` with
    all the results since the last one; so gradient accumulation, checkpoint recomputation and a GAN's double
    forward can't update twice.

    Attributes:
        dim: D, the size of the last axis.
        codebook_sizes: K of each of the Q codebooks.
        dtype: of what `decode` returns; casts of the module (`.bfloat16()`) change it, though not the codewords.
    """

    dim: int
    codebook_sizes: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    ranks: Ranks = Ranks()  # whose batches count as one

    def __init__(self) -> None:
        super().__init__()
        self.dtype = torch.get_default_dtype()

    def distribute_(self, *, sync: bool = True, process_group: Any = None) -> None:
        """Say whose batches count as one in `init_` and `update_`, of all codebooks inside.

        Without a call it is all ranks of the default group. This is not part of the state dict nor of a description.

        Args:
            sync: False keeps each rank's codewords to its own tokens; DistributedDataParallel then needs
                `broadcast_buffers=False`, or it copies those of the first rank to all.
            process_group: a `torch.distributed.ProcessGroup` with this rank in it; None for the default one.
        """
        self.ranks = Ranks(sync, process_group)

    @abstractmethod
    def forward(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Quantized:
        """Quantize `z`. Tokens where `mask` is False or that are not finite: index −1, z_q 0, no gradient."""

    @abstractmethod
    def encode(
        self, z: Float[Tensor, "*b D"], *, mask: Bool[Tensor, "*b"] | None = None
    ) -> Int64[Tensor, "*b Q"]:
        """Indices only; −1 where `mask` is False or the token is not finite."""

    @abstractmethod
    def decode(
        self,
        indices: Int64[Tensor, "*b Q"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "*b D"]:
        """Reproductions of `indices`. An index out of range raises, −1 too unless its token is masked.

        Their type is `dtype`, or what the module was cast to: a decoder that was cast along with it takes them.
        """

    @abstractmethod
    def init_(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Choose the codewords from a batch: explicit, before the first step, never inside `forward`.

        Where there are several ranks, all of them call it, as they do `update_`: one alone waits for the others until
        the process group's timeout.

        Tokens where `mask` is False have no part in it.
        """

    @abstractmethod
    def update_(self, *results: Quantized) -> UpdateReport:
        """Move the codewords; `results` are the training forwards since the last call, on this rank.

        Every rank calls it, as often as the others: one alone waits for them until the process group's timeout.
        """

    @property
    def sequential(self) -> bool:
        """Whether a token's index depends on the tokens before it along the last axis but one, its sequence.

        A masked token is then no part of its sequence, and what comes of a batch of sequences comes of each alone.
        """
        return any(
            part.sequential for part in self.modules() if part is not self and isinstance(part, Quantizer)
        )

    def declared_jacobian(self, z: Float[Tensor, "n D"]) -> Float[Tensor, "n D D"] | None:
        """∂z_q/∂z that a training forward's back-propagation sees, for the contract; None if not declared."""
        return None

    def check_input(self, z: Tensor, mask: Tensor | None, generator: torch.Generator | None = None) -> None:
        """Refuse what can't be quantized, by name."""
        # (Dynamo of PyTorch 2.9 does not know a union with None.)
        if not (generator is None or isinstance(generator, torch.Generator)):
            raise InputError(f"generator must be a torch.Generator; got {type(generator).__name__}")
        if not isinstance(z, Tensor) or not (mask is None or isinstance(mask, Tensor)):
            raise InputError(f"z and mask must be tensors; got {type(z).__name__} and {type(mask).__name__}")
        if z.ndim < 1 or z.shape[-1] != self.dim:
            raise InputError(f"z must have shape [*, {self.dim}] (dim={self.dim}); got {list(z.shape)}")
        if not z.is_floating_point():
            raise InputError(f"z must be a floating-point tensor; got {z.dtype}")
        if mask is not None and (mask.dtype != torch.bool or mask.shape != z.shape[:-1]):
            raise InputError(
                f"mask must be a bool tensor of shape {list(z.shape[:-1])}, as z without its last axis; "
                f"got {mask.dtype} {list(mask.shape)}"
            )

    def check_mode(self) -> None:
        """Refuse to be traced while training: noise, statistics and parts of a batch would be recorded as they are."""
        if self.training and is_traced():
            raise InputError(
                "a quantizer is traced in eval mode only (torch.jit.trace, torch.onnx.export); "
                "got training=True: call .eval() first"
            )

    def check_numbers(self, *tensors: Tensor) -> None:
        """Refuse to learn from, or into, tensors that hold no numbers."""
        if any(tensor.is_meta for tensor in tensors):
            raise InputError(
                "init_ and update_ need numbers; got tensors on the device meta: "
                "make the module's with to_empty(device=…) and load its state, and give it latents of that device"
            )

    def check_results(self, results: tuple[Quantized, ...]) -> None:
        """Refuse results that can't be of this quantizer's training forwards, before anything moves."""
        self.check_once(results)

        # In eval nothing is counted.
        if not results or not all(r.stats for r in results):
            raise InputError(
                "update_ needs the results of forwards in training mode; in eval they carry no statistic"
            )

        # Statistics of another quantizer would have other codebook sizes.
        for result in results:
            sizes = tuple(stat.counts.shape[0] for stat in result.stats)
            # None: a place without a codebook, or in eval. One: too many codes to be told apart.
            fits = (size in (0, 1, own) for size, own in zip(sizes, self.codebook_sizes, strict=False))
            if len(sizes) != len(self.codebook_sizes) or not all(fits):
                raise InputError(
                    f"update_ takes results of this quantizer's own forwards, with codebooks of "
                    f"{list(self.codebook_sizes)} codewords; got {list(sizes)}"
                )

    @staticmethod
    def check_once(results: tuple[Quantized, ...]) -> None:
        """Refuse what is no result, and a result that is given twice: one tuple of statistics is one batch."""
        if wrong := [result for result in results if not isinstance(result, Quantized)]:
            raise InputError(f"update_ takes what training forwards returned; got {type(wrong[0]).__name__}")
        if len({id(result.stats) for result in results}) < len(results):
            raise InputError("update_ takes each result once; got one twice")

    def decoded_dtype(self, dtype: torch.dtype | None) -> torch.dtype:
        """The type of what `decode` returns: the one asked for, or the module's.

        Raises:
            InputError: no type of floating-point numbers.
        """
        if dtype is None:
            return self.dtype
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise InputError(f"dtype must be a floating-point torch.dtype; got {dtype!r}")
        return dtype

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Quantizer:
        # What a cast does to numbers of the present type, the module has become.
        self.dtype = fn(torch.empty(0, dtype=self.dtype, device="cpu")).dtype
        return super()._apply(fn, recurse)

    @staticmethod
    def check_codes(indices: Tensor, codebook_size: int) -> None:
        """Refuse indices that are no codes; a recorded graph has no place for an error that depends on numbers."""
        check = not is_recorded() and has_numbers(indices) and indices.numel() > 0
        if check and not bool(((indices >= 0) & (indices < codebook_size)).all()):
            raise InputError(
                f"indices must be in 0 … {codebook_size - 1} (−1 only where there is no token); "
                f"got {int(indices.min())} … {int(indices.max())}"
            )

    def check_indices(self, indices: Tensor, mask: Tensor | None) -> None:
        """Refuse what can't be decoded, by name; the values are the codebook's to check."""
        if not isinstance(indices, Tensor) or not (mask is None or isinstance(mask, Tensor)):
            kinds = f"{type(indices).__name__} and {type(mask).__name__}"
            raise InputError(f"indices and mask must be tensors; got {kinds}")
        depth = len(self.codebook_sizes)
        if indices.ndim < 1 or indices.shape[-1] != depth:
            raise InputError(f"indices must have shape [*, {depth}]; got {list(indices.shape)}")
        if indices.is_floating_point() or indices.dtype == torch.bool:
            raise InputError(f"indices must be integers; got {indices.dtype}")
        if mask is not None and (mask.dtype != torch.bool or mask.shape != indices.shape[:-1]):
            raise InputError(
                f"mask must be a bool tensor of shape {list(indices.shape[:-1])}, as indices without "
                f"their last axis; got {mask.dtype} {list(mask.shape)}"
            )


def _perplexity(hits: Int64[Tensor, " K"]) -> float:
    share = hits.to(wide(hits.device)) / hits.sum().clamp_min(1)
    return float(torch.special.entr(share).sum().exp())


def complete(valid: Tensor) -> bool:
    """Whether no token is left out, so that nothing need be masked: only where a look costs next to nothing, not in a
    recorded graph, nor on a device that would be waited for."""
    return valid.is_cpu and not is_recorded() and has_numbers(valid) and bool(valid.all())


class TokenRows(NamedTuple):
    """Tokens as rows."""

    tokens: Float[Tensor, "n D"]  # float32 (float64 stays), zero where not valid
    valid: Bool[Tensor, " n"]
    finite: Bool[Tensor, " n"]  # whether masked or not
    every: bool  # whether all are known to be valid, so that nothing need be masked


def token_rows(z: Tensor, mask: Tensor | None, longest: float = math.inf) -> TokenRows:
    """`z` as rows; a token longer than `longest` counts as not finite."""
    flat = z.reshape(-1, z.shape[-1])
    # A comparison is false for NaN and Inf, too.
    bounded = longest < math.inf
    plain = flat.detach()
    finite = plain.float().square().sum(-1) <= longest**2 if bounded else plain.isfinite().all(-1)
    valid = finite if mask is None else finite & mask.reshape(-1)
    if not (every := complete(valid)):
        flat = torch.where(valid.unsqueeze(-1), flat, 0.0)
    return TokenRows(flat if flat.dtype == torch.float64 else flat.float(), valid, finite, every)
