"""Quantizers made of quantizers: `Product`, `Projected`, `Scaled`, and what all compositions share.

`Residual` has a file of its own. Grouped residual is a `Product` of `Residual`s, multi-head a `Product` of heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from codebound.errors import InputError
from codebound.quantize import sync
from codebound.quantize.base import CodeStats, Quantized, Quantizer, UpdateReport
from codebound.quantize.codebook import Codebook
from codebound.quantize.sketch import Sketch


class Composed(Quantizer):
    """Quantizers in places, each place giving some of the Q indices; a module may stand in several places.

    A module that stands in several is stored once (`members`, with `order` saying which stands where), so its
    parameters, its state and its file have no duplicates, and `update_` moves its codewords once, by the joined
    statistics of all its places. `stats` has one entry per index, empty for a place without a codebook; an
    `UpdateReport` has one entry per codebook, in the order of `members`.
    """

    members: nn.ModuleList  # each module once
    order: tuple[int, ...]  # the member that stands in each place

    def __init__(self, places: Sequence[Quantizer], share: bool, name: str) -> None:
        super().__init__()
        if not places:
            raise InputError(f"{name} must hold at least one quantizer")
        for place in places:
            if not isinstance(place, Quantizer):
                raise InputError(f"{name} must be quantizers; got {type(place).__name__}")
        members = list(dict.fromkeys(places))
        if len(members) < len(places) and not share:
            # [VectorQuantizer(…)] * 8 is one codebook in eight places: often a slip.
            raise InputError(f"{name} hold the same module more than once: pass share=True if that is meant")
        inner = [module for member in members for module in member.modules() if module is not member]
        inner_codebooks = [module for module in [*members, *inner] if isinstance(module, Quantizer)]
        if len(set(inner_codebooks)) < len(inner_codebooks):
            raise InputError(f"{name} share a module inside different quantizers; only whole {name} may be shared")
        self.members = nn.ModuleList(members)
        self.order = tuple(members.index(place) for place in places)
        self.share = share
        self.codebook_sizes = tuple(size for place in places for size in place.codebook_sizes)

    @property
    def places(self) -> list[Quantizer]:
        """The quantizers, a shared one as often as it stands there."""
        members: list[Quantizer] = list(self.members)  # pyright: ignore[reportAssignmentType]
        return [members[i] for i in self.order]

    def codebook_parameters(self) -> list[nn.Parameter]:
        """What an optimizer moves in the codebooks: for a parameter group with a learning rate of its own."""
        return codebook_parameters(self)

    @torch.no_grad()
    def update_(self, *results: Quantized) -> UpdateReport:
        """Each codebook's update, once; see `Quantizer.update_`.

        Raises:
            InputError: before `init_`, or for results of an eval forward.
        """
        reports = []
        for i, member in enumerate(self.members):
            mine = [self._part(r, at) for r in results for at, o in enumerate(self.order) if o == i]
            frozen = not member.training and any(r.stats for r in results) and not any(r.stats for r in mine)
            if not frozen:  # a member set to eval on purpose holds its codewords
                assert isinstance(member, Quantizer)
                reports.append(member.update_(*mine))
        tokens, non_finite = _totals(results)
        return UpdateReport(
            tokens=tokens,
            non_finite=non_finite,
            revived=tuple(rows for report in reports for rows in report.revived),
            window_usage=tuple(usage for report in reports for usage in report.window_usage),
            window_perplexity=tuple(value for report in reports for value in report.window_perplexity),
        )

    def _slots(self) -> list[slice]:
        """Where in the Q indices each place's are."""
        slots, start = [], 0
        for place in self.places:
            slots.append(slice(start, start + len(place.codebook_sizes)))
            start = slots[-1].stop
        return slots

    def _part(self, result: Quantized, at: int) -> Quantized:
        slot = self._slots()[at]
        stats = tuple(stat for stat in result.stats[slot] if stat.counts.shape[0] > 0)
        return result._replace(indices=result.indices[..., slot], stats=stats)

    def _joined(self, z_q: Tensor, results: Sequence[Quantized]) -> Quantized:
        """One result from those of the places; the losses' names get the place's number before them."""
        losses = {f"{i}.{name}": value for i, r in enumerate(results) for name, value in r.losses.items()}
        loss = sum((r.loss for r in results[1:]), results[0].loss)
        stats: list[CodeStats] = []
        if any(r.stats for r in results):
            for place, r in zip(self.places, results, strict=True):
                stats += r.stats or [_nothing(r.z_q)] * len(place.codebook_sizes)
        indices = torch.cat([r.indices for r in results], dim=-1)
        return Quantized(z_q, indices, loss, losses, tuple(stats))


class Product(Composed):
    """Each part of the vector has its own quantizer (Jégou, Douze & Schmid 2011, "Product quantization", eq. 8).

        z ──split──┬─ parts[0] ─┬──cat── z_q
                   ├─ parts[1] ─┤
                   └─ parts[2] ─┘

    Multi-head codes are a `Product` of heads, of one shared codebook with `Product([head] * 4, share=True)`;
    grouped residual codes (HiFi-Codec: Yang et al. 2023) are a `Product` of `Residual`s.

    Args:
        parts: D is the sum of their `dim`s, in this order.
        share: allow one module in several places.

    Raises:
        InputError: no parts, or one twice without `share`.
    """

    def __init__(self, parts: Sequence[Quantizer], *, share: bool = False) -> None:
        super().__init__(parts, share, "parts")
        self.dim = sum(part.dim for part in parts)

    @property
    def parts(self) -> list[Quantizer]:
        """The quantizers of the slices."""
        return self.places

    def forward(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Quantized:
        self.check_input(z, mask)
        slices = zip(self.parts, self._split(z), strict=True)
        results = [part(piece, mask=mask, generator=generator) for part, piece in slices]
        return self._joined(torch.cat([result.z_q for result in results], dim=-1), results)

    def encode(self, z: Float[Tensor, "*b D"]) -> Int64[Tensor, "*b Q"]:
        self.check_input(z, None)
        slices = zip(self.parts, self._split(z), strict=True)
        return torch.cat([part.encode(piece) for part, piece in slices], dim=-1)

    def decode(
        self, indices: Int64[Tensor, "*b Q"], *, mask: Bool[Tensor, "*b"] | None = None
    ) -> Float[Tensor, "*b D"]:
        self.check_indices(indices, mask)
        slots = zip(self.parts, self._slots(), strict=True)
        return torch.cat([part.decode(indices[..., slot], mask=mask) for part, slot in slots], dim=-1)

    @torch.no_grad()
    def init_(self, z: Float[Tensor, "*b D"], *, generator: torch.Generator | None = None) -> None:
        """Each part's `init_` on its slice; a shared part's on all its slices together."""
        self.check_input(z, None)
        pieces = self._split(z)
        for i, member in enumerate(self.members):
            assert isinstance(member, Quantizer)
            mine = [piece.reshape(-1, member.dim) for piece, o in zip(pieces, self.order, strict=True) if o == i]
            member.init_(torch.cat(mine), generator=generator)

    def _split(self, z: Tensor) -> tuple[Tensor, ...]:
        # A token that is not finite in one slice is lost in all: NaN tells every part, and each counts it.
        z = torch.where(z.isfinite().all(-1, keepdim=True), z, math.nan)
        return z.split([part.dim for part in self.parts], dim=-1)


class Wrapped(Quantizer):
    """One inner quantizer between two maps: `_into` its space and `_back`."""

    def __init__(self, inner: Quantizer, dim: int) -> None:
        super().__init__()
        if not isinstance(inner, Quantizer):
            raise InputError(f"inner must be a quantizer; got {type(inner).__name__}")
        self.inner, self.dim = inner, dim
        self.codebook_sizes = inner.codebook_sizes

    def _into(self, rows: Float[Tensor, "n D"]) -> Float[Tensor, "n d"]:
        raise NotImplementedError

    def _back(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n D"]:
        raise NotImplementedError

    def codebook_parameters(self) -> list[nn.Parameter]:
        """What an optimizer moves in the codebooks (not the maps)."""
        return codebook_parameters(self)

    def forward(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Quantized:
        self.check_input(z, mask)
        flat = None if mask is None else mask.reshape(-1)
        with torch.autocast(z.device.type, enabled=False):
            rows, finite = self._inside(z, flat)
            result = self.inner(rows, mask=flat, generator=generator)
            valid = finite if flat is None else finite & flat
            z_q = torch.where(valid.unsqueeze(-1), self._back(result.z_q), 0.0)
        indices = result.indices.view(*z.shape[:-1], -1)
        return result._replace(z_q=z_q.view(z.shape).to(z.dtype), indices=indices)

    @torch.no_grad()
    def encode(self, z: Float[Tensor, "*b D"]) -> Int64[Tensor, "*b Q"]:
        self.check_input(z, None)
        with torch.autocast(z.device.type, enabled=False):
            indices = self.inner.encode(self._inside(z, None)[0])
        return indices.view(*z.shape[:-1], len(self.codebook_sizes))

    def decode(
        self, indices: Int64[Tensor, "*b Q"], *, mask: Bool[Tensor, "*b"] | None = None
    ) -> Float[Tensor, "*b D"]:
        self.check_indices(indices, mask)
        flat = None if mask is None else mask.reshape(-1)
        with torch.autocast(indices.device.type, enabled=False):
            z_q = self._back(self.inner.decode(indices.reshape(-1, indices.shape[-1]), mask=flat))
        z_q = z_q if flat is None else torch.where(flat.unsqueeze(-1), z_q, 0.0)
        return z_q.view(*indices.shape[:-1], self.dim)

    @torch.no_grad()
    def init_(self, z: Float[Tensor, "*b D"], *, generator: torch.Generator | None = None) -> None:
        """The inner quantizer's `init_`, in its own space."""
        self.check_input(z, None)
        self.inner.init_(self._inside(z, None)[0], generator=generator)

    @torch.no_grad()
    def update_(self, *results: Quantized) -> UpdateReport:
        """The inner quantizer's update."""
        return self.inner.update_(*results)

    def _inside(self, z: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Rows in the inner space, NaN where `z` is not finite so that the inner quantizer counts them."""
        rows = as_rows(z)
        finite = rows.isfinite().all(-1)
        valid = finite if mask is None else finite & mask
        # Zeros go through the map: 0·NaN would reach the gradient of its weights.
        inside = self._into(torch.where(valid.unsqueeze(-1), rows, 0.0))
        return torch.where(finite.unsqueeze(-1), inside, math.nan), finite


class Projected(Wrapped):
    """Linear maps around a quantizer of another dimension, mostly a lower one.

        z ── W_in z + b_in ── (normalise) ── inner ── W_out e + b_out ── z_q

    Few dimensions make near codewords and high usage: 32 in ViT-VQGAN (Yu et al. 2022, §3.2), 8 with cosine codes
    in DAC (Kumar et al. 2023, §3.2). `frozen` with `normalise` is the random-projection quantizer of BEST-RQ (Chiu
    et al. 2022, eq. 1). The inner losses are in the inner space; gradients of z_q reach both maps.

    Args:
        inner: quantizer of the projected vectors.
        dim: D, the size of the vectors outside.
        normalise: projected vectors are divided by their length.
        orthogonal: W_in begins with orthonormal rows (columns where it is taller than wide) and W_out as its
            transpose; else both as `nn.Linear`'s, U(±1/√inputs), with biases.
        frozen: the maps are buffers, orthogonal, W_out = W_inᵀ, without biases.
        seed: of the maps.

    Raises:
        InputError: `dim` under 1.
    """

    def __init__(
        self,
        inner: Quantizer,
        dim: int,
        *,
        normalise: bool = False,
        orthogonal: bool = False,
        frozen: bool = False,
        seed: int = 0,
    ) -> None:
        if dim < 1:
            raise InputError(f"dim must be at least 1; got {dim}")
        super().__init__(inner, dim)
        self.normalise, self.orthogonal, self.frozen, self.seed = normalise, orthogonal, frozen, seed
        generator = torch.Generator().manual_seed(seed)
        shapes = {"weight_in": (inner.dim, dim), "weight_out": (dim, inner.dim)}
        basis = _orthonormal(inner.dim, dim, generator)
        if frozen:
            self.register_buffer("weight_in", basis)
            return
        for name, (rows, columns) in shapes.items():
            bound = 1 / math.sqrt(columns)
            weight = torch.empty(rows, columns).uniform_(-bound, bound, generator=generator)
            bias = torch.empty(rows).uniform_(-bound, bound, generator=generator)
            if orthogonal:
                weight, bias = basis if name == "weight_in" else basis.T.contiguous(), torch.zeros(rows)
            self.register_parameter(name, nn.Parameter(weight))
            self.register_parameter(name.replace("weight", "bias"), nn.Parameter(bias))

    def _into(self, rows: Tensor) -> Tensor:
        bias = None if self.frozen else self.bias_in.to(rows)
        inside = F.linear(rows, self.weight_in.to(rows), bias)
        if not self.normalise:
            return inside
        # F.normalize has a gradient of 1/ε at the origin; here a vector without direction stays as it is.
        length = inside.norm(dim=-1, keepdim=True)
        return torch.where(length > 1e-6, inside / length.clamp_min(1e-6), inside)

    def _back(self, rows: Tensor) -> Tensor:
        if self.frozen:
            return F.linear(rows, self.weight_in.to(rows).T)
        return F.linear(rows, self.weight_out.to(rows), self.bias_out.to(rows))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, normalise={self.normalise}, frozen={self.frozen}"


class Scaled(Wrapped):
    """A quantizer at another scale: z_q = scale · inner(z / scale). What residual FSQ and LFQ stages are made of.

    Args:
        inner: quantizer of z / scale; its losses are in those units.
        scale: one positive number, or one per dimension.

    Raises:
        InputError: a scale that is not positive, or as many as `inner.dim`.
    """

    factor: Tensor

    def __init__(self, inner: Quantizer, scale: float | Sequence[float]) -> None:
        super().__init__(inner, inner.dim)
        self.scale = float(scale) if isinstance(scale, int | float) else tuple(float(s) for s in scale)
        factor = torch.tensor(self.scale, dtype=torch.float32)
        if factor.ndim and factor.shape[0] != inner.dim:
            raise InputError(f"scale must be one number or {inner.dim}; got {factor.shape[0]}")
        if not bool(((factor > 0) & factor.isfinite()).all()):
            raise InputError(f"scale must be positive; got {scale}")
        self.register_buffer("factor", factor, persistent=False)

    def _into(self, rows: Tensor) -> Tensor:
        return rows / self.factor.to(rows.dtype)

    def _back(self, rows: Tensor) -> Tensor:
        return rows * self.factor.to(rows.dtype)

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


def codebook_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The trained parameters of all codebooks in `model`: for a parameter group with its own learning rate."""
    books = [module for module in model.modules() if isinstance(module, Codebook)]
    return list(dict.fromkeys(parameter for book in books for parameter in book.parameters()))


def quantizers(model: nn.Module) -> dict[str, Quantizer]:
    """The outermost quantizers inside a model by their names (`""` if it is one itself), each module once."""
    found: dict[str, Quantizer] = {}

    def look(module: nn.Module, name: str) -> None:
        if not isinstance(module, Quantizer):
            for child_name, child in module.named_children():
                look(child, f"{name}.{child_name}" if name else child_name)
        elif all(module is not other for other in found.values()):
            found[name] = module

    look(model, "")
    return found


def as_rows(z: Float[Tensor, "*b D"]) -> Float[Tensor, "n D"]:
    """Rows in float32 (float64 stays), whatever is not finite as it came."""
    rows = z.reshape(-1, z.shape[-1])
    return rows if rows.dtype == torch.float64 else rows.float()


def _orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Uniformly random with orthonormal rows, or columns where it is tall (Mezzadri 2007)."""
    gaussian = torch.randn(max(rows, columns), min(rows, columns), generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    q = (q * r.diagonal().sign()).float()
    return (q if rows >= columns else q.T).contiguous()


def _nothing(like: Tensor) -> CodeStats:
    """The statistic of a place that has no codebook."""
    empty = torch.zeros(0, dtype=torch.float64, device=like.device)
    none = torch.zeros(0, dtype=torch.int64, device=like.device)
    rows = torch.zeros(0, like.shape[-1], device=like.device)
    zero = torch.zeros((), dtype=torch.float64, device=like.device)
    return CodeStats(empty, rows.double(), empty, zero, zero.long(), Sketch(rows, none))


def _totals(results: Sequence[Quantized]) -> tuple[int, int]:
    """Valid and non-finite tokens over all results and ranks; a shared codebook counts its tokens repeatedly."""
    if not results:
        return 0, 0
    device = results[0].indices.device
    tokens = torch.stack([(r.indices[..., :1] >= 0).sum() for r in results]).sum().double().reshape(1)
    bad = [torch.stack([s.non_finite for s in r.stats]).max() for r in results if r.stats]
    non_finite = torch.stack(bad).sum() if bad else torch.zeros((), dtype=torch.int64, device=device)
    sketch = Sketch(torch.zeros(0, 1, device=device), torch.zeros(0, dtype=torch.int64, device=device))
    total = sync.joined(CodeStats(tokens, tokens.unsqueeze(-1), tokens, tokens.sum(), non_finite, sketch))
    return int(total.hits), int(total.non_finite)


