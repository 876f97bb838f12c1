"""`BitTrellis`: a trellis code of a fixed number of bits, each vector by itself, for random access."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from codebound import arguments
from codebound.errors import InputError
from codebound.exact import wide
from codebound.graphs import has_numbers, is_recorded, without_autocast
from codebound.quantize.base import CodeStats, Quantized, UpdateReport, token_rows
from codebound.quantize.bit_trellis_search import best_symbols, best_symbols_op, reproduced
from codebound.quantize.bit_trellis_table import gaussian_table, trained_table
from codebound.quantize.trellis_code import TrellisCode
from codebound.quantize.wrap import linear

MOST_TRAINED = 12  # state bits of which a table is trained unless asked for


class BitTrellis(TrellisCode):
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
            32·2^L values (at most all): seconds at 12 state bits, at 16 ten minutes with Numba and hours without.
            By default trained up to 12 state bits.
        rotation: "hadamard" mixes all components with random signs first (D a power of two), so that heavy tails and
            unequal variances become nearly Gaussian; None takes them as they are, each by its own variance.
        seed: of the table's order and the signs.

    Raises:
        InputError: a value that is not accepted.
    """

    scale: Tensor
    entries: Tensor
    rotation_matrix: Tensor

    def __init__(
        self,
        dim: int,
        bits: int = 2,
        state_bits: int = 12,
        table: Literal["quantiles", "trained"] | None = None,
        rotation: Literal["hadamard"] | None = None,
        seed: int = 0,
    ) -> None:
        bits = arguments.whole("bits", bits, most=4)
        state_bits = arguments.whole("state_bits", state_bits, most=16)
        if state_bits % bits or state_bits // bits < 2:
            raise InputError(
                f"state_bits is {state_bits}; a multiple of bits={bits}, twice that at least, is accepted"
            )
        super().__init__(arguments.whole("dim", dim, least=state_bits // bits), 1 << bits)
        table = table or ("trained" if state_bits <= MOST_TRAINED else "quantiles")
        arguments.one_of("table", table, ("quantiles", "trained"))
        arguments.one_of("rotation", rotation, ("hadamard", None))
        if rotation and dim & (dim - 1):
            raise InputError(f"dim is {dim}; rotation='hadamard' accepts powers of two")
        self.bits, self.state_bits = bits, state_bits
        self.table, self.rotation, self.seed = table, rotation, arguments.seed(seed)

        # Until `init_` the latents are taken for N(0, I).
        generator = torch.Generator("cpu").manual_seed(seed)
        self.register_buffer("entries", gaussian_table(bits, state_bits, seed))
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("rotation_matrix", _hadamard(dim, generator) if rotation else torch.zeros(0, 0))

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
            stats = self._counted(tokens - chosen, valid, present)
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
        flat = self._codes(indices, mask, absent=0)
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
        tokens = self._latents(z, mask, generator)
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
        self.check_results(results)
        stats = self._joined(results)
        self.version.advance_()
        return self._reported(stats)

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


def _hadamard(dim: int, generator: torch.Generator) -> Float[Tensor, "D D"]:
    """Sylvester's Hadamard matrix with random signs, orthonormal."""
    matrix = torch.ones(1, 1)
    while len(matrix) < dim:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    signs = torch.randint(2, (dim,), generator=generator) * 2.0 - 1
    return matrix * signs / math.sqrt(dim)
