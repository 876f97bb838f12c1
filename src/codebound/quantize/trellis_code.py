"""What the trellis codes share: an index for each component, no table of codewords, and results that count once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from codebound.errors import InputError
from codebound.exact import wide
from codebound.quantize import sync
from codebound.quantize.base import CodeStats, Quantized, Quantizer, UpdateReport, token_rows
from codebound.quantize.codebook import same_dtype
from codebound.quantize.sketch import Sketch
from codebound.quantize.version import Version

LARGEST = 1e16  # magnitude of latents that `init_` accepts


class TrellisCode(Quantizer):
    """A code whose indices are the steps of a path, one for each component; what one stands for depends on others.

    Attributes:
        mean: of the latents that the code is for.
        initialised: 1 after `init_`.
    """

    mean: Tensor
    initialised: Tensor

    def __init__(self, dim: int, codes: int) -> None:
        super().__init__()
        self.dim, self.codebook_sizes = dim, (codes,) * dim
        self.version = Version()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("initialised", torch.zeros((), dtype=torch.uint8))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TrellisCode:
        # Numbers of a code stay float32, as a codebook's do.
        super()._apply(lambda tensor: same_dtype(fn, tensor), recurse)
        self.dtype = fn(torch.empty(0, dtype=self.dtype, device="cpu")).dtype
        return self

    def codebooks(self) -> tuple[None, ...]:
        """None for each component: there is no table of codewords."""
        return (None,) * self.dim

    def check_results(self, results: tuple[Quantized, ...]) -> None:
        """Refuse results that are not of this quantizer since its last `update_`."""
        self.check_once(results)
        self.check_numbers(self.mean, *(result.indices for result in results))
        if not bool(self.initialised):
            raise InputError("update_ before init_: call init_(z) with a batch of latents first")
        super().check_results(results)
        for result in results:
            self.version.check(result.stats[0].version)

    def _latents(
        self, z: Float[Tensor, "*b D"], mask: Bool[Tensor, "*b"] | None, generator: torch.Generator | None
    ) -> Float[Tensor, "n D"]:
        """The valid tokens of all ranks, for `init_`.

        Raises:
            InputError: no finite token, or values beyond `LARGEST`.
        """
        self.check_input(z, mask, generator)
        self.check_numbers(self.mean, z)
        tokens, valid, *_ = token_rows(z, mask)
        tokens = sync.joined_rows(tokens[valid].float(), self.ranks)
        if tokens.shape[0] == 0:
            raise InputError("z holds no finite token to initialise a code from")
        # Variances are kept in float32, and their sum must fit, too.
        if not float(tokens.abs().max()) <= LARGEST:
            raise InputError(
                f"z holds values of up to {float(z.detach().abs().max()):.3g}; values up to {LARGEST:g} are accepted"
            )
        return tokens

    def _codes(
        self, indices: Int64[Tensor, "*b D"], mask: Bool[Tensor, "*b"] | None, absent: int
    ) -> Int64[Tensor, "*b D"]:
        """Indices that can be decoded, with `absent` where there is no token; `decode` refuses others."""
        self.check_indices(indices, mask)
        codes = indices.to(torch.int64)
        codes = codes if mask is None else torch.where(mask.unsqueeze(-1), codes, absent)
        self.check_codes(codes, self.codebook_sizes[0])
        return codes

    def _counted(
        self,
        error: Float[Tensor, "n D"],
        valid: Bool[Tensor, " n"],
        present: Bool[Tensor, " n"],
        sums: Float[Tensor, "1 s"] | None = None,
    ) -> tuple[CodeStats, ...]:
        """A batch's statistic, tokens counted in the first component's: all components have the same.

        Args:
            error: of the reproductions, whatever where a token is not valid.
            present: tokens that hold finite numbers, or are masked.
            sums: what else an update is to know, added up.
        """
        squares = torch.where(valid.unsqueeze(-1), error.detach(), 0.0).to(wide(error.device)).square()
        hits, non_finite = valid.sum().to(squares).view(1), (~present).sum()
        sums = hits.new_zeros(1, 0) if sums is None else sums
        sketch = Sketch(hits.new_zeros(0, self.dim), non_finite.new_zeros(0))
        first = CodeStats(hits, sums, hits, squares.sum(), non_finite, sketch, self.version.stamp())
        return (first, *[first._replace(counts=hits[:0], sums=sums[:0], hits=hits[:0])] * (self.dim - 1))

    def _joined(self, results: tuple[Quantized, ...]) -> CodeStats:
        """The first component's statistic of the results' batch and all ranks'."""
        return sync.joined(CodeStats.merge(tuple(result.stats[0] for result in results)), self.ranks)

    def _reported(self, stats: CodeStats) -> UpdateReport:
        """What is said of an update: codes of a path are not counted one by one, nor do they die."""
        nothing = torch.empty(0, dtype=torch.int64, device=self.mean.device)
        return UpdateReport(
            tokens=int(stats.hits.sum()),
            non_finite=int(stats.non_finite),
            revived=(nothing,) * self.dim,
            windows=(None,) * self.dim,
        )


def spread(tokens: Float[Tensor, "n D"], most: int) -> Float[Tensor, "_m D"]:
    """So many tokens at most, evenly from the first to the last, as what lies side by side is often alike."""
    count = len(tokens)
    return tokens if count <= most else tokens[torch.arange(most, device=tokens.device) * count // most]
