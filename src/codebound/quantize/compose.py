"""Quantizers made of quantizers: what all compositions share, and `Product`.

`residual.py` holds `Residual`, `wrap.py` `Projected` and `Scaled`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from codebound.errors import InputError
from codebound.exact import wide
from codebound.quantize import sync
from codebound.quantize.base import CodeStats, Quantized, Quantizer, UpdateReport
from codebound.quantize.codebook import Codebook
from codebound.quantize.ranks import Ranks
from codebound.quantize.reminder import speak_as_one
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

        # Only quantizers can stand in a place.
        if not isinstance(places, Sequence) or not places:
            raise InputError(
                f"{name} must be a sequence of at least one quantizer; got {type(places).__name__}"
            )
        for place in places:
            if not isinstance(place, Quantizer):
                raise InputError(f"{name} must be quantizers; got {type(place).__name__}")

        # A module may stand in several places if that is meant.
        members = list(dict.fromkeys(places))
        if len(members) < len(places) and not share:
            # [VectorQuantizer(…)] * 8 is one codebook in eight places: often a slip.
            raise InputError(f"{name} hold the same module more than once: pass share=True if that is meant")

        # A codebook inside two different members would be updated twice.
        inner = [module for member in members for module in member.modules() if module is not member]
        inner_codebooks = [module for module in [*members, *inner] if isinstance(module, Quantizer)]
        if len(set(inner_codebooks)) < len(inner_codebooks):
            raise InputError(
                f"{name} share a module inside different quantizers; only whole {name} may be shared"
            )

        # Nor may two codebooks have one table, which both would move and a file would hold twice.
        tables = [module.table for module in inner if isinstance(module, Codebook)]
        if len({id(table) for table in tables}) < len(tables):
            raise InputError(
                f"{name} have codebooks with one table: let one module stand twice, with share=True"
            )

        # Each module once, and which of them stands in each place.
        self.members = nn.ModuleList(members)
        self.order = tuple(members.index(place) for place in places)
        self.share = share
        reminders = [getattr(module, "reminder", None) for module in self.modules()]
        speak_as_one([reminder for reminder in reminders if reminder is not None])

    @property
    def places(self) -> list[Quantizer]:
        """The quantizers, a shared one as often as it stands there."""
        members = self._members
        return [members[i] for i in self.order]

    @property
    def _members(self) -> list[Quantizer]:
        return list(self.members)  # pyright: ignore[reportReturnType]

    @property
    def codebook_sizes(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """K for each of the Q indices."""
        return tuple(size for place in self.places for size in place.codebook_sizes)

    def codebooks(self) -> tuple[Codebook | None, ...]:
        """Those of the members, in their order."""
        return tuple(book for member in self._members for book in member.codebooks())

    @property
    def ranks(self) -> Ranks:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The first member's: whose tokens a report counts."""
        return self._members[0].ranks

    def distribute_(self, *, sync: bool = True, process_group: Any = None) -> None:
        """Of all members; see `Quantizer.distribute_`."""
        for member in self._members:
            member.distribute_(sync=sync, process_group=process_group)

    def codebook_parameters(self) -> list[nn.Parameter]:
        """What an optimizer moves in the codebooks: for a parameter group with a learning rate of its own."""
        return codebook_parameters(self)

    @torch.no_grad()
    def update_(self, *results: Quantized) -> UpdateReport:
        """Each codebook's update, once; see `Quantizer.update_`.

        Raises:
            InputError: before `init_`, or for results that a codebook inside refuses; then none has moved.
        """
        self.check_results(results)
        shares = dict(self._shares(results))
        reports = [self._report(member, shares.get(member)) for member in self._members]

        # One report for all codebooks.
        tokens, non_finite = _totals(results, self.ranks)
        return UpdateReport(
            tokens=tokens,
            non_finite=non_finite,
            revived=tuple(rows for report in reports for rows in report.revived),
            windows=tuple(window for report in reports for window in report.windows),
        )

    def _report(self, member: Quantizer, results: tuple[Quantized, ...] | None) -> UpdateReport:
        """A member's update; of one that does not move, or does not report, a place for each codebook all the same."""
        report = None if results is None else member.update_(*results)
        places = len(member.codebooks())
        if report is not None and len(report.revived) == places:
            return report
        nothing = torch.empty(0, dtype=torch.int64)
        return UpdateReport(0, 0, (nothing,) * places, (None,) * places)

    def check_results(self, results: tuple[Quantized, ...]) -> None:
        """Refuse results that a codebook inside would refuse, before any of them moves."""
        super().check_results(results)
        for member, mine in self._shares(results):
            if any(result.stats for result in mine):  # a class from outside may have none
                member.check_results(mine)

    def _shares(self, results: tuple[Quantized, ...]) -> list[tuple[Quantizer, tuple[Quantized, ...]]]:
        """Each member that is to move, once, with the results of all its places."""
        shares = []
        for i, member in enumerate(self._members):
            mine = [self._part(r, at) for r in results for at, o in enumerate(self.order) if o == i]
            # A member set to eval on purpose, or what is inside it, holds its codewords.
            inside = [module for module in member.modules() if isinstance(module, Quantizer)]
            rests = not any(r.stats for r in mine) and not all(module.training for module in inside)
            if not rests:
                shares.append((member, tuple(mine)))
        return shares

    def _slots(self) -> list[slice]:
        """Where in the Q indices each place's are."""
        slots, start = [], 0
        for place in self.places:
            slots.append(slice(start, start + len(place.codebook_sizes)))
            start = slots[-1].stop
        return slots

    def _part(self, result: Quantized, at: int) -> Quantized:
        slot = self._slots()[at]
        stats = result.stats[slot]
        counted = any(stat.counts.shape[0] > 0 for stat in stats)
        return result._replace(indices=result.indices[..., slot], stats=stats if counted else ())

    def _joined(self, z_q: Tensor, results: Sequence[Quantized]) -> Quantized:
        """One result from those of the places; the losses' names get the place's number before them."""
        # Losses by name, and their sum.
        losses = {f"{i}.{name}": value for i, r in enumerate(results) for name, value in r.losses.items()}
        loss = sum((r.loss for r in results[1:]), results[0].loss)

        # A statistic for each index; a place without a codebook has an empty one.
        stats: list[CodeStats] = []
        if any(r.stats for r in results):
            for place, r in zip(self.places, results, strict=True):
                empty = () if r.stats else (nothing(r.z_q, (r.indices[..., 0] >= 0).sum()),)
                stats += r.stats or empty * len(place.codebook_sizes)
        # (A new result, as everywhere in a forward: Dynamo of PyTorch 2.9 does not know `_replace`.)
        indices = torch.cat([r.indices for r in results], dim=-1)
        indices = indices.view(*z_q.shape[:-1], indices.shape[-1])
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
        self.check_input(z, mask, generator)
        slices = zip(self.parts, self._split(z), strict=True)
        results = [part(piece, mask=mask, generator=generator) for part, piece in slices]
        return self._joined(torch.cat([result.z_q for result in results], dim=-1), results)

    def encode(
        self, z: Float[Tensor, "*b D"], *, mask: Bool[Tensor, "*b"] | None = None
    ) -> Int64[Tensor, "*b Q"]:
        self.check_input(z, mask)
        slices = zip(self.parts, self._split(z), strict=True)
        return torch.cat([part.encode(piece, mask=mask) for part, piece in slices], dim=-1)

    def decode(
        self,
        indices: Int64[Tensor, "*b Q"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "*b D"]:
        self.check_indices(indices, mask)
        dtype, slots = self.decoded_dtype(dtype), zip(self.parts, self._slots(), strict=True)
        pieces = [part.decode(indices[..., slot], mask=mask, dtype=dtype) for part, slot in slots]
        return torch.cat(pieces, dim=-1)

    @torch.no_grad()
    def init_(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Each part's `init_` on its slice; a shared part's on all its slices together."""
        self.check_input(z, mask, generator)
        pieces = self._split(present(z, mask))
        for i, member in enumerate(self.members):
            assert isinstance(member, Quantizer)
            mine = [piece for piece, o in zip(pieces, self.order, strict=True) if o == i]
            member.init_(token_major(mine), generator=generator)

    def _split(self, z: Tensor) -> tuple[Tensor, ...]:
        # A token that is not finite in one slice is lost in all: NaN tells every part, and each counts it.
        z = torch.where(z.isfinite().all(-1, keepdim=True), z, math.nan)
        return z.split([part.dim for part in self.parts], dim=-1)


def codebook_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The trained parameters of all codebooks in `model`: for a parameter group with its own learning rate."""
    books = [module for module in model.modules() if isinstance(module, Codebook)]
    return list(dict.fromkeys(parameter for book in books for parameter in book.parameters()))


def quantizers(model: nn.Module) -> dict[str, Quantizer]:
    """The outermost quantizers inside a model by their names (`""` if it is one itself), each module once."""
    outermost: dict[str, Quantizer] = {}

    def look(module: nn.Module, name: str) -> None:
        if not isinstance(module, Quantizer):
            for child_name, child in module.named_children():
                look(child, f"{name}.{child_name}" if name else child_name)
        elif all(module is not other for other in outermost.values()):
            outermost[name] = module

    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    look(model, "")
    return outermost


def as_rows(z: Float[Tensor, "*b D"]) -> Float[Tensor, "n D"]:
    """Rows in float32 (float64 stays), whatever is not finite as it came."""
    rows = z.reshape(-1, z.shape[-1])
    return rows if rows.dtype == torch.float64 else rows.float()


def present(z: Float[Tensor, "*b D"], mask: Bool[Tensor, "*b"] | None) -> Float[Tensor, "*n D"]:
    """The tokens that `mask` leaves, as rows; all of `z` where there is no mask."""
    return z if mask is None else z[mask]


def token_major(places: Sequence[Float[Tensor, "*b D"]]) -> Float[Tensor, "n D"]:
    """What one module sees in several places, as rows: the places of a token together, so that the rows of two ranks
    one after the other are those of the joined batch."""
    return torch.stack(list(places), dim=-2).reshape(-1, places[0].shape[-1])


def nothing(like: Tensor, tokens: Tensor) -> CodeStats:
    """The statistic of a place that counts for no codebook: how many tokens came, and nothing of them."""
    empty = torch.zeros(0, dtype=wide(like.device), device=like.device)
    none = torch.zeros(0, dtype=torch.int64, device=like.device)
    rows = torch.zeros(0, like.shape[-1], dtype=torch.float32, device=like.device)
    zero = empty.sum()
    hits = tokens.to(empty).reshape(1)
    return CodeStats(empty, rows.to(empty), hits, zero, zero.long(), Sketch(rows, none), zero.long())


def _totals(results: Sequence[Quantized], ranks: Ranks) -> tuple[int, int]:
    """Valid and non-finite tokens over all results and ranks; a shared codebook counts its tokens repeatedly."""
    # Tokens of this rank, counted once, whatever the number of codebooks: some place has seen all of them.
    tokens = torch.stack([torch.stack([s.hits.sum() for s in r.stats]).max() for r in results]).sum()
    non_finite = torch.stack([torch.stack([s.non_finite for s in r.stats]).max() for r in results]).sum()

    # The ranks' numbers are added the way statistics are: one of no codebook carries them.
    carrier = nothing(results[0].z_q, tokens)._replace(non_finite=non_finite)
    total = sync.joined(carrier, ranks)
    return int(total.hits), int(total.non_finite)
