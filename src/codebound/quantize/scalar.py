"""Codes without a table: each coordinate is quantized by itself, and a codeword is a formula of its index.

`ScalarQuantizer` is what FSQ, LFQ and BSQ share; `binary.py` holds the latter two.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from codebound.errors import InputError
from codebound.exact import wide
from codebound.graphs import constant, without_autocast
from codebound.quantize import habits, sync
from codebound.quantize.base import CodeStats, Quantized, Quantizer, UpdateReport, token_rows
from codebound.quantize.habits import answered
from codebound.quantize.sketch import Sketch
from codebound.quantize.version import Version

TRACKED_CODES = 2**18  # up to here codes are counted one by one, and can be listed
WINDOW = 50.0  # tokens per code, as in `Resample`
MAX_CODES = 2**62  # int64 indices, and K itself fits too


class ScalarQuantizer(Quantizer):
    """A quantizer whose codewords are a formula of the index: nothing to initialise, nothing that moves.

    ```
    z ── _quantize ──┬── soft: what the gradient passes through
                     └── indices ── _codewords ── z_q = codeword + (soft − sg(soft))
    ```

    The reproduction is always computed from the index, in float32, so `decode(encode(z))` is the forward's z_q bit
    for bit. `init_` checks its input and does nothing. `update_` moves nothing and reports; the counts behind
    `window_usage` and `window_perplexity` run over a window of 50·K tokens, whatever the batch size, and are no
    part of the state dict. Above 2¹⁸ codes they are not kept: both figures are NaN, and the statistic has one cell
    that counts tokens. Memory O(N·D + min(K, 2¹⁸)).
    """

    window_counts: Tensor

    def __init__(self, dim: int, codebook_size: int, loss_weights: Mapping[str, float]) -> None:
        super().__init__()
        if codebook_size > MAX_CODES:
            raise InputError(f"at most 2^62 codes have int64 indices; got {codebook_size}")
        self.dim, self.codebook_sizes = dim, (codebook_size,)
        self.loss_weights = dict(loss_weights)
        cells = codebook_size if codebook_size <= TRACKED_CODES else 1
        # Integers: `.half()` leaves them alone.
        self.register_buffer("window_counts", torch.zeros(cells, dtype=torch.int64), persistent=False)
        self.version = Version()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ScalarQuantizer:
        # No state dict holds the counts, so they stay what they are even where `to_empty` gives room without numbers.
        before = self.window_counts
        super()._apply(fn, recurse)
        after = self.window_counts
        self.window_counts = torch.zeros_like(after) if before.is_meta else before.to(after.device)
        return self

    @property
    def codebook_size(self) -> int:
        """K."""
        return self.codebook_sizes[0]

    @abstractmethod
    def _quantize(
        self, z: Float[Tensor, "n D"], sample: bool, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "n D"], Int64[Tensor, " n"]]:
        """What the gradient passes through, and indices; random ones only where `sample`."""

    @abstractmethod
    def _codewords(self, indices: Int64[Tensor, " n"]) -> Float[Tensor, "n D"]:
        """The float32 codewords of valid indices."""

    def _losses(
        self, soft: Float[Tensor, "n D"], codewords: Float[Tensor, "n D"], valid: Bool[Tensor, " n"]
    ) -> dict[str, Tensor]:
        """Terms of the loss by name, unweighted: none, unless a subclass has some."""
        return {}

    @abstractmethod
    def declared_jacobian(self, z: Float[Tensor, "n D"]) -> Float[Tensor, "n D D"]: ...

    def codebooks(self) -> tuple[None]:
        """None, for the one formula."""
        return (None,)

    def codewords(self) -> Float[Tensor, "K D"]:
        """All codewords in the order of their indices.

        Raises:
            InputError: there are more than 2¹⁸.
        """
        if self.codebook_size > TRACKED_CODES:
            raise InputError(
                f"codewords() lists at most {TRACKED_CODES} codewords; there are {self.codebook_size}: "
                "decode the indices you need"
            )
        return self._codewords(torch.arange(self.codebook_size, device=self.window_counts.device))

    def forward(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Quantized:
        self.check_input(z, mask, generator)
        self.check_mode()
        with without_autocast(z.device):
            # Indices, and the codewords that they stand for.
            tokens, valid, finite, _ = token_rows(z, mask)
            soft, indices = self._quantize(tokens, self.training, generator)
            chosen = self._codewords(indices).to(tokens.dtype)

            # soft − sg(soft) is zero exactly: the value is the codeword's, the gradient soft's.
            z_q = torch.where(valid.unsqueeze(-1), chosen + (soft - soft.detach()), 0.0)
            losses = self._losses(soft, chosen, valid)
            loss = sum((self.loss_weights[name] * value for name, value in losses.items()), z_q.new_zeros(()))

        # In training also what an update reports: hits, error, tokens that were left out.
        indices = torch.where(valid, indices, -1)
        stats: tuple[CodeStats, ...] = ()
        if self.training:
            present = finite if mask is None else finite | ~mask.reshape(-1)
            error = torch.where(valid.unsqueeze(-1), (soft - chosen).detach(), 0.0)
            error = error.to(wide(z.device)).square().sum()
            stats = (self._stats(indices, error, (~present).sum()),)
        return Quantized(z_q.view(z.shape).to(z.dtype), indices.view(*z.shape[:-1], 1), loss, losses, stats)

    def encode(
        self, z: Float[Tensor, "*b D"], *, mask: Bool[Tensor, "*b"] | None = None
    ) -> Int64[Tensor, "*b 1"]:
        self.check_input(z, mask)
        with without_autocast(z.device):
            tokens, valid, *_ = token_rows(z.detach(), mask)
            _, indices = self._quantize(tokens, False, None)
        return torch.where(valid, indices, -1).view(*z.shape[:-1], 1)

    def decode(
        self,
        indices: Int64[Tensor, "*b 1"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "*b D"]:
        # Masked tokens have no index of their own: any valid one stands in.
        self.check_indices(indices, mask)
        flat = indices.squeeze(-1).to(torch.int64)
        if mask is not None:
            flat = torch.where(mask, flat, 0)

        self.check_codes(flat, self.codebook_size)

        # Codewords are computed from their indices.
        z_q = self._codewords(flat.reshape(-1)).view(*flat.shape, self.dim)
        z_q = z_q.to(self.decoded_dtype(dtype))
        return z_q if mask is None else torch.where(mask.unsqueeze(-1), z_q, 0.0)

    def init_(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Nothing: the codewords are what they are."""
        self.check_input(z, mask, generator)

    def check_results(self, results: tuple[Quantized, ...]) -> None:
        """Refuse results that are not of this quantizer since its last `update_`."""
        self.check_once(results)
        self.check_numbers(self.window_counts, *(result.indices for result in results))
        super().check_results(results)
        for result in results:
            self.version.check(result.stats[0].version)

    @torch.no_grad()
    def update_(self, *results: Quantized) -> UpdateReport:
        """Report on the results' joined batch; only the window of the report changes.

        Raises:
            InputError: for results of an eval forward, of another quantizer, from before the last `update_`, or given
                twice.
        """
        # The joined batch of all results and ranks, counted into the window.
        self.check_results(results)
        stats = sync.joined(CodeStats.merge(tuple(r.stats[0] for r in results)), self.ranks)
        self.window_counts += stats.hits.to(torch.int64)
        self.version.advance_()

        # A window that is full begins anew, after it was reported; too many codewords are not counted one by one.
        window = self.window_counts.clone() if self.codebook_size <= TRACKED_CODES else None
        if float(self.window_counts.sum()) >= WINDOW * self.codebook_size:
            self.window_counts.zero_()
        return UpdateReport(
            tokens=int(stats.hits.sum()),
            non_finite=int(stats.non_finite),
            revived=(torch.empty(0, dtype=torch.int64, device=stats.hits.device),),
            windows=(window,),
        )

    def _stats(self, indices: Tensor, squared_error: Tensor, non_finite: Tensor) -> CodeStats:
        """What an update reports of a batch: hits of each code, or of all together where they are too many."""
        valid = (indices >= 0).to(wide(indices.device))
        cell = indices.clamp_min(0) if self.codebook_size <= TRACKED_CODES else torch.zeros_like(indices)
        hits = valid.new_zeros(self.window_counts.shape[0]).index_add(0, cell, valid)
        return CodeStats(
            counts=hits,
            sums=hits.new_zeros(hits.shape[0], 0),  # no codeword moves
            hits=hits,
            squared_error=squared_error,
            non_finite=non_finite,
            sketch=Sketch(hits.new_zeros(0, self.dim), indices[:0]),  # nor dies
            version=self.version.stamp(),
        )


class FSQ(ScalarQuantizer):
    """Finite scalar quantization (Mentzer, Minnen, Agustsson & Tschannen 2023, "VQ-VAE made simple", §3.1, App. A).

    Coordinate i is bounded, rounded to one of L_i integers and divided by ⌊L_i/2⌋:

        h = (L − 1)(1 + ε)/2,   b = tanh(z + s)·h − o,   z_q = round(b)/⌊L/2⌋ ∈ [−1, 1],   ∂z_q/∂z = b′(z)/⌊L/2⌋,

    with o = ½ and s = artanh(o/h) for even L, else o = s = 0, so that z = 0 gives b = 0. The index is the mixed-radix
    number of the digits round(b) + ⌊L/2⌋, the first coordinate the least significant.

    Where this is not the paper's listing: it has tan for artanh and 1 − ε for 1 + ε (ε = 10⁻³). With 1 + ε the outer
    codes of every L are reached; it is also what vector-quantize-pytorch does, index for index. At L = 2 no shift puts
    z = 0 at b = 0 and between thresholds, so s = 0 there: the codes are −1 (z ≤ 0) and 0.

    Args:
        levels: L_i, at least 2 each; their product at most 2⁶². dim = len(levels).

    There is no loss: nothing is drawn to the codes but through the reproduction.

    Raises:
        InputError: levels that are none, too small, not whole, or too many.
    """

    EPSILON = 1e-3

    @answered(habits.FSQ)
    def __init__(self, levels: Sequence[int]) -> None:
        whole = isinstance(levels, Sequence) and all(_is_whole(level) and level >= 2 for level in levels)
        if not whole or not levels:
            raise InputError(
                f"levels must be whole numbers, at least 2 each (one level carries 0 bits); got {levels!r}"
            )
        levels = tuple(int(level) for level in levels)
        super().__init__(len(levels), math.prod(levels), {})
        self.levels = levels
        self._radix = tuple(math.prod(levels[:i]) for i in range(len(levels)))

    def bound(self, z: Float[Tensor, "*b D"]) -> Float[Tensor, "*b D"]:
        """b(z), before rounding: an interval of length (L − 1)(1 + ε) in each coordinate."""
        # For an even number of levels the interval is moved by half a step, so that z = 0 still gives b = 0.
        levels = constant(self.levels, z.device, z.dtype)
        half = (levels - 1) * (1 + self.EPSILON) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0).to(z.dtype)
        shift = torch.where(levels > 2, offset / half, 0.0).atanh()
        return torch.tanh(z + shift) * half - offset

    def _digits(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """How many values each digit of an index has, and what one of it is worth, int64."""
        return constant(self.levels, device, torch.int64), constant(self._radix, device, torch.int64)

    def _quantize(self, z: Tensor, sample: bool, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        bounded, (levels, radix) = self.bound(z), self._digits(z.device)
        half_width = levels // 2
        digits = bounded.detach().round().to(torch.int64) + half_width
        # From L = 1001 on, (1 + ε) reaches beyond the outer codes.
        digits = digits.clamp_min(0).minimum(levels - 1)
        return bounded / half_width, (digits * radix).sum(-1)

    def _codewords(self, indices: Tensor) -> Tensor:
        levels, radix = self._digits(indices.device)
        half_width = levels // 2
        digits = indices.unsqueeze(-1) // radix % levels
        return (digits - half_width).to(torch.float32) / half_width

    def declared_jacobian(self, z: Float[Tensor, "n D"]) -> Float[Tensor, "n D D"]:
        levels = constant(self.levels, z.device, z.dtype)
        half = (levels - 1) * (1 + self.EPSILON) / 2
        tanh = (self.bound(z) + torch.where(levels % 2 == 0, 0.5, 0.0).to(z.dtype)) / half
        return torch.diag_embed((1 - tanh.square()) * half / (levels // 2))

    def extra_repr(self) -> str:
        return f"levels={list(self.levels)}, codebook_size={self.codebook_size}"


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
