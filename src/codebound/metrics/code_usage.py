"""How a code is used over a whole data set, as a torchmetrics `Metric`: it adds up over batches and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torchmetrics import Metric

from codebound import arguments
from codebound.errors import InputError
from codebound.metrics.usage import DEAD, usage, used

LARGEST = 2**28  # the counts are a table of int64: 2 GB


class CodeUsage(Metric):
    """Usage, perplexity, index entropy and dead codewords over everything seen since `reset`.

        p_j = n_j / Σn,   entropy_bits = −Σ p_j log₂ p_j,   perplexity = 2^entropy_bits

    `update` adds indices of any shape; −1 (masked or not finite) is left out. `compute` returns float64 tensors by
    name: `usage` (fraction of codewords with a vector), `perplexity`, `entropy_bits` (plug-in estimates over the
    whole set), `dead` (number of codewords with a share under 1e-4), `tokens`. NaN where no index was seen.

    Args:
        codebook_sizes: K of a single codebook, whose figures are scalars; or K of each of Q codebooks
            (`quantizer.codebook_sizes`), for indices `[*, Q]` and figures `[Q]`.
        dead_below: the share under which a codeword is dead.

    Raises:
        InputError: a size under 1, more than 2²⁸ codewords (count the bits of such a code instead); in `update`,
            an index out of range or a last axis that is not Q.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False
    counts: Tensor

    def __init__(
        self, codebook_sizes: int | Sequence[int], *, dead_below: float = DEAD, **metric_options: Any
    ) -> None:
        super().__init__(**metric_options)
        if not isinstance(codebook_sizes, int | Sequence) or isinstance(codebook_sizes, str):
            raise InputError(f"codebook_sizes must be an int, or a sequence of them; got {codebook_sizes!r}")
        self.single = isinstance(codebook_sizes, int)
        self.sizes = (codebook_sizes,) if isinstance(codebook_sizes, int) else tuple(codebook_sizes)
        for size in self.sizes:
            arguments.whole("codebook_sizes", size)
        if not self.sizes or sum(self.sizes) > LARGEST:
            raise InputError(
                f"codebook_sizes must be at least 1, and at most {LARGEST} together; got {codebook_sizes}"
            )
        self.dead_below = dead_below
        self.add_state("counts", torch.zeros(sum(self.sizes), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, indices: Int[Tensor, "*b"]) -> None:
        """Add indices: of any shape for a single codebook, `[*, Q]` for several."""
        require_indices(indices)
        if not self.single and (indices.ndim < 1 or indices.shape[-1] != len(self.sizes)):
            raise InputError(f"indices must have shape [*, {len(self.sizes)}]; got {list(indices.shape)}")
        self.counts += count(indices.reshape(-1, len(self.sizes)).to(self.counts.device), self.sizes)

    def compute(self) -> dict[str, Tensor]:
        """The figures by name, scalars or `[Q]`."""
        columns = [self._figures(part) for part in self.counts.split(self.sizes)]
        if self.single:
            return columns[0]
        return {name: torch.stack([column[name] for column in columns]) for name in columns[0]}

    def _figures(self, counts: Tensor) -> dict[str, Tensor]:
        statistics, tokens = usage(counts, self.dead_below), counts.sum().double()
        figures = {
            "usage": used(counts),
            "perplexity": statistics.perplexity,
            "entropy_bits": statistics.entropy_bits,
            "dead": statistics.dead,
        }
        nothing = tokens == 0
        return {k: torch.where(nothing, torch.nan, v) for k, v in figures.items()} | {"tokens": tokens}


def require_indices(indices: Tensor) -> None:
    """Refuse what is no tensor of integers."""
    kind = indices.dtype if isinstance(indices, Tensor) else type(indices).__name__
    if kind not in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        raise InputError(f"indices must be a tensor of integers; got {kind}")


def count(indices: Int[Tensor, "n Q"], sizes: Sequence[int]) -> Int[Tensor, " _"]:
    """How often each codeword occurs, the Q codebooks one after another; −1 is left out.

    Raises:
        InputError: an index out of range.
    """
    counts = []
    for size, column in zip(sizes, indices.long().unbind(1), strict=True):
        if column.numel() and (int(column.min()) < -1 or int(column.max()) >= size):
            raise InputError(
                f"indices must be in −1 … {size - 1}; got {int(column.min())} … {int(column.max())}"
            )
        counts.append(torch.bincount(column[column >= 0], minlength=size))
    return torch.cat(counts)
