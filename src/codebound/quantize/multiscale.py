"""Multi-scale residual quantization: one codebook over a pyramid of resolutions of a feature map."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from codebound.errors import InputError
from codebound.quantize.base import CodeStats, Quantized, UpdateReport, token_rows
from codebound.quantize.compose import nothing, present
from codebound.quantize.estimator import StraightThrough
from codebound.quantize.noise import placed, seeded
from codebound.quantize.sharding import whole
from codebound.quantize.update import Frozen
from codebound.quantize.vector import LONGEST, VectorQuantizer
from codebound.quantize.wrap import Around, linear

Size = tuple[int, int]  # height and width of a level, in tokens


class MultiScale(Around):
    """Each level quantizes what the coarser ones left of a feature map (VAR: Tian et al. 2024, §3.2, alg. 1 and 2).

        r ← f;  for each level (h, w):  i ← nearest(down(r));  p ← φ(up(c_i));  r ← r − p;  z_q = Σ p

    `down` is the mean over areas and `up` bicubic; both do nothing at the last level, whose size is the map's. φ(x) =
    (1 − blend)·x + blend·conv(x), with 3×3 convolutions that neighbouring levels share.

    A vector is a whole feature map here: a quantizer keeps the leading shape, and no token of a level belongs to one
    place of the map. So D = H·W·d, channels last, and Q counts the tokens of all levels, coarse to fine:

        result = quantizer(f.movedim(1, -1).flatten(1))                     # f [b, d, H, W]
        f_hat = result.z_q.unflatten(1, (H, W, d)).movedim(-1, 1)           # as f
        grids = quantizer.levels(result.indices)                            # [b, h, w] for each level

    Fewer levels are a prefix of the indices, for `decode` as for `levels`.

    The gradient of z_q is the identity. Losses are means over levels, of the partial sums f̂_s after each: `commitment`
    ‖f − sg(f̂_s)‖², and `codebook` ‖sg(f) − f̂_s‖², which trains φ, and the codewords where a gradient moves them;
    each is summed over d and averaged over the places of valid maps. Their weights are the codebook's.

    Args:
        inner: the codebook of all levels, for vectors of d; with `estimator=StraightThrough()`.
        sizes: of the levels, coarse to fine; a number n stands for (n, n). The last is the map's.
        blends: how many convolutions the levels share; 0 for none.
        blend: the part of the convolution in φ, in [0, 1].
        seed: of the convolutions.

    Raises:
        InputError: no levels, levels that are not below the last, or a value out of its range.
    """

    inner: VectorQuantizer
    weights: Tensor  # [blends, d, 9 d]
    biases: Tensor  # [blends, d]

    def __init__(
        self,
        inner: VectorQuantizer,
        sizes: Sequence[int | Size],
        *,
        blends: int = 4,
        blend: float = 0.5,
        seed: int = 0,
    ) -> None:
        # The codebook's own estimator would have no part in the sum.
        if not isinstance(inner, VectorQuantizer):
            raise InputError(f"inner must be a VectorQuantizer; got {type(inner).__name__}")
        if not isinstance(inner.estimator, StraightThrough):
            raise InputError(
                f"inner must have estimator=StraightThrough(), as the sum has; got {inner.estimator}"
            )

        # Levels fit into the map.
        if not sizes:
            raise InputError("sizes must hold at least one level")
        pairs = tuple((size, size) if isinstance(size, int) else tuple(size) for size in sizes)
        height, width = pairs[-1]
        if not all(0 < h <= height and 0 < w <= width for h, w in pairs):
            raise InputError(f"sizes must be positive and none above the last, the map's; got {list(sizes)}")
        if blends < 0 or not 0.0 <= blend <= 1.0:
            raise InputError(f"blends must not be negative and blend in [0, 1]; got {blends} and {blend}")

        # The arguments by their own names: a description is read off them.
        super().__init__(inner, height * width * inner.dim)
        self.sizes, self.blends, self.blend, self.seed = pairs, blends, float(blend), seed
        self._places = _shared_places(len(pairs), blends) if blends else ()

        # φ begins as `nn.Conv2d` does, U(±1/√inputs); a row of the weights sees d channels of 3×3 places.
        generator, inputs = seeded(seed), 9 * inner.dim
        bound = inputs**-0.5
        for name, shape in (("weights", (blends, inner.dim, inputs)), ("biases", (blends, inner.dim))):
            values = torch.empty(shape, dtype=torch.float32, device="cpu")
            values = placed(values.uniform_(-bound, bound, generator=generator))
            self.register_parameter(name, nn.Parameter(values) if blends else None)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The codebook's, for the tokens of all levels."""
        return self.inner.codebook_sizes * sum(h * w for h, w in self.sizes)

    @property
    def loss_weights(self) -> dict[str, float]:
        """The codebook's: of `commitment` and `codebook`."""
        return self.inner.loss_weights

    def forward(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Quantized:
        self.check_input(z, mask, generator)
        with torch.autocast(z.device.type, enabled=False):
            # Maps that are masked or not finite have no part in anything.
            rows, valid, finite, _ = token_rows(z, mask, LONGEST)
            maps = self._maps(rows.float())

            # Level by level, on what is left.
            rest, total = maps.detach(), torch.zeros_like(maps)
            results: list[Quantized] = []
            errors: dict[str, list[Tensor]] = {"commitment": [], "codebook": []}
            for level, (h, w) in enumerate(self.sizes):
                tokens = valid.repeat_interleave(h * w)
                with torch.no_grad():  # the choice has no gradient, and the codewords get theirs from the sum
                    results.append(self.inner(self._down(rest, level), mask=tokens, generator=generator))
                part = self._part(level, results[-1].indices)
                rest, total = rest - part.detach(), total + part
                errors["commitment"].append(self._error(maps, total.detach(), valid))
                errors["codebook"].append(self._error(maps.detach(), total, valid))

            # All levels are one training forward of the codebook.
            if self.training and not isinstance(self.inner.update, Frozen):
                self.inner.reminder.passed(self.inner.codebook, self.inner._idle)

            # The sum, and past it the gradient, unchanged.
            z_q = total.detach().movedim(1, -1).reshape(rows.shape).to(rows) + (rows - rows.detach())
            z_q = torch.where(valid.unsqueeze(-1), z_q, 0.0)
            losses = {name: torch.stack(each).mean() for name, each in errors.items()}
            loss = torch.stack([self.loss_weights[name] * value for name, value in losses.items()]).sum()

        indices = self._together([result.indices for result in results], z)
        is_present = finite if mask is None else finite | ~mask.reshape(-1)
        stats = self._stats(results, (~is_present).sum())
        return Quantized(z_q.view(z.shape).to(z.dtype), indices, loss, losses, stats)

    @torch.no_grad()
    def encode(
        self, z: Float[Tensor, "*b D"], *, mask: Bool[Tensor, "*b"] | None = None
    ) -> Int64[Tensor, "*b Q"]:
        self.check_input(z, mask)
        with torch.autocast(z.device.type, enabled=False):
            rows, valid, *_ = token_rows(z, mask, LONGEST)
            rest, indices = self._maps(rows.float()), []
            for level, (h, w) in enumerate(self.sizes):
                tokens = valid.repeat_interleave(h * w)
                indices.append(self.inner.encode(self._down(rest, level), mask=tokens))
                rest = rest - self._part(level, indices[-1])
        return self._together(indices, z)

    def decode(
        self,
        indices: Int64[Tensor, "*b q"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "*b D"]:
        """The sum of all levels, or of the first where there are fewer indices."""
        total = self._totals(indices, mask)[-1].to(self.decoded_dtype(dtype))
        z_q = total.movedim(1, -1).reshape(*indices.shape[:-1], self.dim)
        return z_q if mask is None else torch.where(mask.unsqueeze(-1), z_q, 0.0)

    def levels(self, indices: Int64[Tensor, "*b q"]) -> list[Int64[Tensor, "*b _h _w"]]:
        """The indices of each level as a grid, coarse to fine; of a prefix those of its levels.

        Raises:
            InputError: indices that end within a level.
        """
        counts = self._counts(indices, None)
        grids = zip(indices.split(counts, dim=-1), self.sizes, strict=False)
        return [part.unflatten(-1, size) for part, size in grids]

    def contexts(self, indices: Int64[Tensor, "*b q"]) -> list[Float[Tensor, "*b _h _w _d"]]:
        """What a model of the next level may see: the sum of the levels so far, at the next one's size.

        Of indices of s levels, what precedes levels 2 … s + 1 (… s, where there is no further one).
        """
        seen = []
        for level, total in enumerate(self._totals(indices, None)[: len(self.sizes) - 1], start=1):
            shape = (*indices.shape[:-1], *self.sizes[level], self.inner.dim)
            seen.append(self._down(total, level).view(shape).to(self.dtype))
        return seen

    @torch.no_grad()
    def init_(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """The codebook's `init_` on what all levels would see if each left nothing that it can represent."""
        # The vectors of a map together: those of two ranks one after the other are the joined batch's.
        self.check_input(z, mask, generator)
        rows, valid, *_ = token_rows(present(z, mask), None, LONGEST)
        rest, seen = self._maps(rows[valid].float()), []
        for level, (h, w) in enumerate(self.sizes):
            tokens = self._down(rest, level)
            seen.append(tokens.view(len(rest), h * w, self.inner.dim))
            rest = rest - self._up(level, tokens)
        self.inner.init_(torch.cat(seen, dim=1).flatten(0, 1), generator=generator)

    @torch.no_grad()
    def update_(self, *results: Quantized) -> UpdateReport:
        """The codebook's update, by the tokens of all levels; the report counts maps."""
        self.check_results(results)
        report = self.inner.update_(*map(self._own, results))
        return dataclasses.replace(report, tokens=report.tokens // len(self.codebook_sizes))

    def check_results(self, results: tuple[Quantized, ...]) -> None:
        """Refuse results that the codebook would refuse, and one given twice."""
        self.check_once(results)
        self.inner.check_results(tuple(map(self._own, results)))

    def declared_jacobian(self, z: Float[Tensor, "n D"]) -> Float[Tensor, "n D D"]:
        return torch.eye(self.dim, device=z.device).to(z).expand(len(z), -1, -1)

    def extra_repr(self) -> str:
        return f"sizes={self.sizes}, blends={self.blends}, blend={self.blend}"

    def _together(self, indices: Sequence[Tensor], z: Tensor) -> Int64[Tensor, "*b Q"]:
        """The indices of all levels, each level's of a map one after the other."""
        each = [i.view(*z.shape[:-1], h * w) for i, (h, w) in zip(indices, self.sizes, strict=True)]
        return torch.cat(each, dim=-1)

    def _maps(self, rows: Float[Tensor, "n D"]) -> Float[Tensor, "n d H W"]:
        return rows.unflatten(1, (*self.sizes[-1], self.inner.dim)).movedim(-1, 1)

    def _down(self, maps: Float[Tensor, "n d H W"], level: int) -> Float[Tensor, "m d"]:
        """The vectors of a level, map by map."""
        size, (height, width) = self.sizes[level], self.sizes[-1]
        if size != (height, width):
            maps = _resized(maps, _area(height, size[0], maps), _area(width, size[1], maps))
        return maps.movedim(1, -1).reshape(-1, self.inner.dim)

    def _up(self, level: int, tokens: Float[Tensor, "m d"]) -> Float[Tensor, "n d H W"]:
        """A level's vectors as a part of the sum."""
        # To the size of the map.
        (h, w), (height, width), d = self.sizes[level], self.sizes[-1], self.inner.dim
        count = tokens.shape[0] // (h * w)
        maps = tokens.view(count, h, w, d).movedim(-1, 1)
        if (h, w) != (height, width):
            maps = _resized(maps, _bicubic(h, height, maps), _bicubic(w, width, maps))
        if not self.blends:
            return maps

        # φ as a map of neighbourhoods: its every bit does not depend on how many maps come along.
        place = self._places[level]
        weight, bias = (whole(stack)[place].to(maps) for stack in (self.weights, self.biases))
        around = F.unfold(maps, 3, padding=1).movedim(1, -1).reshape(count * height * width, 9 * d)
        mixed = linear(around, weight, bias).view(count, height, width, d).movedim(-1, 1)
        return (1 - self.blend) * maps + self.blend * mixed

    def _part(self, level: int, indices: Tensor, tokens: Tensor | None = None) -> Tensor:
        """What the codewords of `indices` [m, 1] add to the maps; no token where `tokens` [m] or the index says so."""
        tokens = (indices >= 0).squeeze(-1) if tokens is None else tokens
        return self._up(level, self.inner.decode(indices, mask=tokens, dtype=torch.float32))

    def _totals(self, indices: Tensor, mask: Tensor | None) -> list[Tensor]:
        """The sum after each level that `indices` have, `[n, d, H, W]`."""
        counts = self._counts(indices, mask)
        rows = indices.reshape(-1, indices.shape[-1])
        valid = torch.ones_like(rows[:, 0], dtype=torch.bool) if mask is None else mask.reshape(-1)
        totals: list[Tensor] = []
        with torch.autocast(indices.device.type, enabled=False):
            for level, part in enumerate(rows.split(counts, dim=1)):
                tokens = valid.repeat_interleave(counts[level])
                added = self._part(level, part.reshape(-1, 1), tokens)
                totals.append(totals[-1] + added if totals else added)
        return totals

    def _counts(self, indices: Tensor, mask: Tensor | None) -> list[int]:
        """How many indices each level has, of as many levels as are given."""
        counts = [h * w for h, w in self.sizes]
        stops = list(accumulate(counts))
        width = indices.shape[-1] if indices.ndim else 0
        if width not in stops:
            raise InputError(f"indices must have {stops} in the last axis, of whole levels; got {width}")
        self.check_indices(indices.new_zeros((*indices.shape[:-1], stops[-1])), mask)
        return counts[: stops.index(width) + 1]

    def _error(self, maps: Tensor, total: Tensor, valid: Tensor) -> Tensor:
        """Squared error, summed over d, averaged over the places of valid maps."""
        squares = (maps - total).square().sum(1).mean((1, 2))
        return torch.where(valid, squares, 0.0).sum() / valid.sum().clamp_min(1)

    def _stats(self, results: Sequence[Quantized], non_finite: Tensor) -> tuple[CodeStats, ...]:
        """The codebook's statistic of all levels, in the first place; the others count for no codebook."""
        if not results[0].stats:
            return ()
        of_tokens = CodeStats.merge(tuple(result.stats[0] for result in results))
        merged = CodeStats(*of_tokens[:4], non_finite, *of_tokens[5:])
        rest = nothing(results[0].z_q, merged.hits.sum())
        return (merged, *[rest] * (len(self.codebook_sizes) - 1))

    def _own(self, result: Quantized) -> Quantized:
        """A result as the codebook's own."""
        return result._replace(stats=tuple(stat for stat in result.stats if stat.counts.shape[0] > 0))


def _shared_places(depth: int, blends: int) -> tuple[int, ...]:
    """Which convolution each level has: the nearest of `blends` places over the depth, by the authors' margins."""
    margin = 1 / 3 / blends if blends == 4 else 1 / 2 / blends
    places = np.linspace(margin, 1 - margin, blends)
    levels = np.arange(depth) / max(depth - 1, 1)
    return tuple(np.abs(places - levels[:, None]).argmin(1).tolist())


def _resized(
    maps: Float[Tensor, "n d H W"], rows: Float[Tensor, "h H"], columns: Float[Tensor, "w W"]
) -> Float[Tensor, "n d h w"]:
    """Maps of another size, by a linear map along each axis."""
    (n, d, height, width), (h, w) = maps.shape, (len(rows), len(columns))
    across = linear(maps.reshape(n * d * height, width), columns, None).view(n, d, height, w)
    down = linear(across.transpose(2, 3).reshape(n * d * w, height), rows, None).view(n, d, w, h)
    return down.transpose(2, 3)


def _area(size: int, smaller: int, like: Tensor) -> Float[Tensor, "smaller size"]:
    """Means over the places that a smaller grid's places touch: `interpolate(mode="area")` along an axis."""
    target = torch.arange(smaller, device=like.device).unsqueeze(1)
    source = torch.arange(size, device=like.device)
    first, stop = target * size // smaller, -((target + 1) * -size // smaller)
    inside = ((source >= first) & (source < stop)).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)


def _bicubic(size: int, larger: int, like: Tensor) -> Float[Tensor, "larger size"]:
    """Cubic convolution (Keys 1981) with a = −0.75, edges repeated: `interpolate(mode="bicubic")` along an axis."""
    # Where each place of the larger grid lies on the smaller, and its distance from the four places around.
    at = (torch.arange(larger, device=like.device, dtype=like.dtype) + 0.5) * (size / larger) - 0.5
    around = at.floor().unsqueeze(1) + torch.arange(-1, 3, device=like.device)
    distance = (at.unsqueeze(1) - around).abs()

    # The kernel's two pieces: for the near two places, and for the far two.
    a = -0.75
    near = ((a + 2) * distance - (a + 3)) * distance.square() + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    weights = torch.where(distance <= 1, near, far)

    # A place outside is the edge's.
    place = around.clamp(0, size - 1).unsqueeze(-1) == torch.arange(size, device=like.device)
    return (weights.unsqueeze(-1) * place).sum(1)
