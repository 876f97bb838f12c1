"""`BitTrellis`: a trellis code of a fixed number of bits, each vector by itself, for random access."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from codebound import arguments
from codebound.errors import InputError
from codebound.exact import wide
from codebound.graphs import has_numbers, is_recorded, without_autocast
from codebound.quantize import sync
from codebound.quantize.base import CodeStats, Quantized, Quantizer, UpdateReport, token_rows
from codebound.quantize.bit_trellis_search import best_symbols, best_symbols_op, reproduced
from codebound.quantize.bit_trellis_table import gaussian_table, trained_table
from codebound.quantize.codebook import same_dtype
from codebound.quantize.sketch import Sketch
from codebound.quantize.version import Version
from codebound.quantize.wrap import linear


class BitTrellis(Quantizer):
    """Exactly `bits` bits for each component: 0.9 to 0.4 dB above Shannon's bound at 2 bits, where scalars stand 2.7.

    ```
    z ── (z − mean)·scale, rotated ── x ── Viterbi around a circle ── symbols of `bits` bits ── z_q
    ```

    A bit-shift trellis (Mao and Gray 2010; QTIP, Tseng et al. 2024): the state at a component is made of the last
    `state_bits` bits of the symbols up to there, around the circle of the vector's components (tail-biting), and the
    component is reproduced as the entry of a table at that state. So a component can be decoded from few bits, and a
    vector from its own. The path is found in two rounds (`bit_trellis_search`), the table is `bit_trellis_table`'s.

    Args:
        dim: D, at least state_bits / bits.
        bits: of a component, 1 to 4.
        state_bits: L, a multiple of `bits` up to 16; time and memory grow as 2^L.
        table: "quantiles", those of a Gaussian; "trained", their means over what `init_` sees, in ten searches of
            32·2^L values (at most all): seconds at 12 state bits, most of an hour at 16.
        rotation: "hadamard" mixes all components with random signs first (D a power of two), so that heavy tails and
            unequal variances become nearly Gaussian; None takes them as they are, each by its own variance.
        seed: of the table's order and the signs.

    Raises:
        InputError: a value that is not accepted.
    """

    mean: Tensor
    scale: Tensor
    entries: Tensor
    rotation_matrix: Tensor
    initialised: Tensor

    def __init__(
        self,
        dim: int,
        bits: int = 2,
        state_bits: int = 12,
        table: Literal["quantiles", "trained"] = "trained",
        rotation: Literal["hadamard"] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.bits = arguments.whole("bits", bits, most=4)
        self.state_bits = arguments.whole("state_bits", state_bits, most=16)
        if state_bits % bits or state_bits // bits < 2:
            raise InputError(
                f"state_bits is {state_bits}; a multiple of bits={bits}, twice that at least, is accepted"
            )
        self.dim = arguments.whole("dim", dim, least=state_bits // bits)
        arguments.one_of("table", table, ("quantiles", "trained"))
        arguments.one_of("rotation", rotation, ("hadamard", None))
        if rotation and dim & (dim - 1):
            raise InputError(f"dim is {dim}; rotation='hadamard' accepts powers of two")
        self.table, self.rotation, self.seed = table, rotation, arguments.seed(seed)
        self.codebook_sizes = (1 << bits,) * dim
        self.version = Version()

        # Until `init_` the latents are taken for N(0, I).
        generator = torch.Generator("cpu").manual_seed(seed)
        self.register_buffer("entries", gaussian_table(bits, state_bits, seed))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("rotation_matrix", _hadamard(dim, generator) if rotation else torch.zeros(0, 0))
        self.register_buffer("initialised", torch.zeros((), dtype=torch.uint8))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BitTrellis:
        # Numbers of a code stay float32, as a codebook's do.
        super()._apply(lambda tensor: same_dtype(fn, tensor), recurse)
        self.dtype = fn(torch.empty(0, dtype=self.dtype, device="cpu")).dtype
        return self

    def codebooks(self) -> tuple[None, ...]:
        """None for each component: what a symbol stands for depends on those before it."""
        return (None,) * self.dim

    def forward(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Quantized:
        """The reproduction; its gradient is z's own (straight-through)."""
        self.check_input(z, mask, generator)
        self.check_mode()
        with without_autocast(z.device):
            tokens, valid, finite, _ = token_rows(z, mask)
            symbols = self._symbols(tokens)
            chosen = self._reproduced(symbols).to(tokens.dtype)
            z_q = torch.where(valid.unsqueeze(-1), chosen + (tokens - tokens.detach()), 0.0)
        indices = torch.where(valid.unsqueeze(-1), symbols, -1)
        stats: tuple[CodeStats, ...] = ()
        if self.training:
            present = finite if mask is None else finite | ~mask.reshape(-1)
            error = torch.where(valid.unsqueeze(-1), (tokens - chosen).detach(), 0.0).to(wide(z.device))
            stats = self._stats(valid, error.square().sum(), (~present).sum())
        shaped = indices.view(*z.shape[:-1], self.dim)
        return Quantized(z_q.view(z.shape).to(z.dtype), shaped, z_q.new_zeros(()), {}, stats)

    def encode(
        self, z: Float[Tensor, "*b D"], *, mask: Bool[Tensor, "*b"] | None = None
    ) -> Int64[Tensor, "*b D"]:
        self.check_input(z, mask)
        with without_autocast(z.device):
            tokens, valid, *_ = token_rows(z.detach(), mask)
            symbols = self._symbols(tokens)
        return torch.where(valid.unsqueeze(-1), symbols, -1).view(*z.shape[:-1], self.dim)

    def decode(
        self,
        indices: Int64[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "*b D"]:
        self.check_indices(indices, mask)
        flat = indices.to(torch.int64)
        if mask is not None:
            flat = torch.where(mask.unsqueeze(-1), flat, 0)
        self.check_codes(flat, 1 << self.bits)
        with without_autocast(flat.device):
            z_q = self._reproduced(flat.reshape(-1, self.dim)).view(flat.shape)
        z_q = z_q.to(self.decoded_dtype(dtype))
        return z_q if mask is None else torch.where(mask.unsqueeze(-1), z_q, 0.0)

    @torch.no_grad()
    def init_(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Mean and scales from `z` (of all ranks), and the table's entries if it is to be trained.

        Raises:
            InputError: no finite token.
        """
        self.check_input(z, mask, generator)
        self.check_numbers(self.mean, z)
        tokens, valid, *_ = token_rows(z, mask)
        tokens = sync.joined_rows(tokens[valid].float(), self.ranks)
        if tokens.shape[0] == 0:
            raise InputError("z holds no finite token to initialise a code from")
        rows = tokens.to(wide(tokens.device))
        self.mean.copy_(rows.mean(0))
        self.scale.fill_(1.0)
        spread = self._rotated(tokens).to(rows).square().mean(0).sqrt()
        self.scale.copy_(torch.where(spread > 0, spread, 1.0))
        table = gaussian_table(self.bits, self.state_bits, self.seed).to(self.entries.device)
        if self.table == "trained":
            table = trained_table(self._rotated(tokens), table, self.bits)
        self.entries.copy_(table)
        self.initialised.fill_(True)
        self.version.renew_()

    @torch.no_grad()
    def update_(self, *results: Quantized) -> UpdateReport:
        """Nothing moves; only the report is made.

        Raises:
            InputError: before `init_`; for results of an eval forward, of another quantizer, or given twice.
        """
        self.check_once(results)
        self.check_numbers(self.mean, *(result.indices for result in results))
        if not bool(self.initialised):
            raise InputError("update_ before init_: call init_(z) with a batch of latents first")
        self.check_results(results)
        for result in results:
            self.version.check(result.stats[0].version)
        stats = sync.joined(CodeStats.merge(tuple(r.stats[0] for r in results)), self.ranks)
        self.version.advance_()
        nothing = torch.empty(0, dtype=torch.int64, device=self.mean.device)
        return UpdateReport(
            tokens=int(stats.hits.sum()),
            non_finite=int(stats.non_finite),
            revived=(nothing,) * self.dim,
            windows=(None,) * self.dim,
        )

    def declared_jacobian(self, z: Float[Tensor, "n D"]) -> Float[Tensor, "n D D"]:
        return torch.eye(self.dim, dtype=z.dtype).expand(len(z), -1, -1)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, bits={self.bits}, state_bits={self.state_bits}, rotation={self.rotation!r}"

    def _rotated(self, tokens: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        """Components as the trellis sees them, of variance 1."""
        x = tokens.float() - self.mean
        x = x if self.rotation is None else linear(x, self.rotation_matrix, None)
        return x / self.scale

    def _symbols(self, tokens: Float[Tensor, "n D"]) -> Int64[Tensor, "n D"]:
        x = self._rotated(tokens).detach()
        search = best_symbols if not is_recorded() and has_numbers(x) else best_symbols_op
        return search(x, self.entries, self.bits)

    def _reproduced(self, symbols: Int64[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        x = reproduced(symbols, self.entries, self.bits) * self.scale
        return (x if self.rotation is None else linear(x, self.rotation_matrix.t(), None)) + self.mean

    def _stats(
        self, valid: Bool[Tensor, " n"], squared_error: Tensor, non_finite: Tensor
    ) -> tuple[CodeStats, ...]:
        """Tokens counted in the first component's statistic: all components have the same."""
        hits = valid.sum().to(squared_error).view(1)
        sums = hits.new_zeros(1, 0)
        sketch = Sketch(hits.new_zeros(0, self.dim), non_finite.new_zeros(0))
        first = CodeStats(hits, sums, hits, squared_error, non_finite, sketch, self.version.stamp())
        return (first, *[first._replace(counts=hits[:0], sums=sums[:0], hits=hits[:0])] * (self.dim - 1))


def _hadamard(dim: int, generator: torch.Generator) -> Float[Tensor, "D D"]:
    """Sylvester's Hadamard matrix with random signs, orthonormal."""
    matrix = torch.ones(1, 1)
    while len(matrix) < dim:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    signs = torch.randint(2, (dim,), generator=generator) * 2.0 - 1
    return matrix * signs / math.sqrt(dim)
