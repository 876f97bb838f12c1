"""`Trellis`: an entropy-coded trellis code as a layer, within half a decibel of the rate-distortion function."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from codebound import arguments
from codebound.errors import InputError
from codebound.exact import wide
from codebound.graphs import has_numbers, is_recorded, without_autocast
from codebound.quantize.base import CodeStats, Quantized, UpdateReport, token_rows
from codebound.quantize.trellis_adapt import ENOUGH, PARTS, Levels, adapted, refitted
from codebound.quantize.trellis_aim import AimControl, entropy_bits, visible_bits
from codebound.quantize.trellis_axes import check_axes, turned
from codebound.quantize.trellis_code import TrellisCode, spread
from codebound.quantize.trellis_design import MOST_BITS, REACH, Design, design, water_level
from codebound.quantize.trellis_model import AxisModel
from codebound.quantize.trellis_search import HALF, best_levels, best_levels_op, reproduced, search_work
from codebound.quantize.viterbi import announce
from codebound.quantize.wrap import linear
from codebound.theory.trellis import GRANULAR

LEVELS = 2 * HALF  # of a component: index n + HALF for the level n
MEASURED = 1 << 19  # values on which `init_` measures what its code reaches
ROUNDS = 4  # of a measurement and a correction, before levels are fitted
MOST_ROUNDS = 16  # after that
FITTED = 50  # searches or so, where levels are fitted


class Trellis(TrellisCode):
    """Vectors as levels of a trellis code: 0.46 to 0.18 dB above the rate-distortion function of a Gaussian, in bytes.

    ```
    z ── A·(z − mean) ── y ── Viterbi ── levels n ── ŷ = value(n) ── Aᵀŷ + mean = z_q
    ```

    A are the principal axes of the latents (`init_`), each axis gets its share of bits by reverse water-filling, and
    one path of the trellis runs through all axes of all tokens of a sequence (Marcellin and Fischer 1990; the
    entropy-coded design is that of `theory.trellis`). A sequence is the tokens along the last axis but one; leading
    axes are sequences side by side, and each begins in state 0, which costs about 1.15 bits. An index is a level, of
    small entropy but of no fixed number of bits.

    Args:
        dim: D.
        distortion: squared error summed over a vector, mean over tokens, that the code is to have; or
        rate: bits per vector, mean over tokens. One of the two.
        states: of the trellis, a power of two from 4 to 1024: more lose less, and take time in proportion.
        transform: "klt", the principal axes of what `init_` sees; "own", what `set_transform_` was given; None, the
            axes of z.
        surrogate: what a training forward returns. "straight_through": the reproduction, its gradient z's own.
            "dither": gain·(y + e) with the error e of a dithered code, which has the same variance and does not depend
            on y (Zamir and Feder 1992); for axes below a bit e is Gaussian.
        decay: of the running mean and variances in `update_`, from which the code is designed anew; 1 keeps it.
        holds_rate: whether the gradient knows that at the rate that is held the error grows with the latents. Without
            that, larger latents seem to have less error, and an encoder lets them grow in vain.
        loss_weights: of "rate", bits per vector under the code's own density: differentiable in z, so that an encoder
            can be trained for fewer bits.

    Memory O(N·D·(4 + states/8)) bytes in parts of 2²⁰ values. With Numba (extra
    `fast`) the search is compiled: the same levels, many times as fast on a processor.

    Raises:
        InputError: not one of `distortion` and `rate`, or a value that is not accepted.
    """

    _parts: tuple[float, ...] = PARTS  # of the fitted components that may be scalars
    sequential = True  # pyright: ignore[reportAssignmentType]
    transform_matrix: Tensor
    variances: Tensor
    aim: Tensor
    step: Tensor
    values: Tensor
    pitch: Tensor
    bits: Tensor
    slope: Tensor
    alone: Tensor
    noise: Tensor

    def __init__(
        self,
        dim: int,
        distortion: float | None = None,
        rate: float | None = None,
        states: int = 8,
        transform: Literal["klt", "own"] | None = "klt",
        surrogate: Literal["straight_through", "dither"] = "straight_through",
        decay: float = 0.99,
        holds_rate: bool = False,
        loss_weights: dict[str, float] | None = None,
    ) -> None:
        super().__init__(arguments.whole("dim", dim), LEVELS)
        if (distortion is None) == (rate is None):
            raise InputError(f"one of distortion and rate must be given; got {distortion!r} and {rate!r}")
        self.distortion = None if distortion is None else arguments.number("distortion", distortion, above=0)
        most = MOST_BITS * dim
        self.rate = None if rate is None else arguments.number("rate", rate, above=0, most=most)
        arguments.one_of("states", states, tuple(GRANULAR))
        arguments.one_of("transform", transform, ("klt", "own", None))
        arguments.one_of("surrogate", surrogate, ("straight_through", "dither"))
        self.states, self.surrogate = states, surrogate
        self.transform: Literal["klt", "own"] | None = transform
        self.decay = arguments.number("decay", decay, least=0, most=1)
        arguments.one_of("holds_rate", holds_rate, (False, True))
        if holds_rate and rate is None:
            raise InputError(
                "holds_rate=True needs a rate; at a given distortion use loss_weights={'rate': …}"
            )
        self.holds_rate = bool(holds_rate)
        self.loss_weights = {"rate": 0.0, **(loss_weights or {})}
        if set(self.loss_weights) != {"rate"}:
            raise InputError(f"loss_weights has {sorted(self.loss_weights)}; 'rate' is accepted")

        # Until `init_` the latents are taken for N(0, I), a code for which is refused where the aim is none for it.
        self.register_buffer("transform_matrix", torch.eye(dim))
        self.register_buffer("variances", torch.ones(dim))
        self.register_buffer("aim", torch.tensor(float(self.distortion or self.rate or 0.0)))
        for name, shape in (("values", (dim, REACH + 1)), ("bits", (dim, REACH + 1))):
            self.register_buffer(name, torch.zeros(shape))
        for name in ("step", "pitch", "slope", "alone", "noise"):
            self.register_buffer(name, torch.zeros(dim))
        self._design_()

    @property
    def code(self) -> Design:
        """The design for Gaussians of these variances: water level, and of each component rate, distortion and levels.

        Where components are not Gaussian, rates and distortions are what had to be aimed at, not what is reached.
        """
        variances = self.variances.double().cpu().numpy()
        aim = float(self.aim)
        targets = {"rate": aim} if self.distortion is None else {"distortion": aim}
        return design(variances, self.states, water_level(variances, self.states, **targets))

    def _design_(self) -> None:
        """Put the code for the present variances and aim in its place."""
        code = self.code
        for name in ("step", "values", "pitch", "bits", "slope", "noise"):
            getattr(self, name).copy_(torch.from_numpy(np.asarray(getattr(code, name))))
        self.alone.zero_()

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
            # Levels, and what they stand for; with dither the error is another one than that of the levels.
            tokens, valid, finite, every = token_rows(z, mask)
            y = self._analysed(tokens)
            dithers = self.training and self.surrogate == "dither"
            model = self._model
            dither = model.dither(y, generator) if dithers else None
            levels = self._levels(y if dither is None else y + dither, valid, z.shape)
            if dither is None:
                z_q = self._synthesised(levels).to(tokens.dtype)
                soft, error = z_q, (self._points(levels) - y).detach()
                z_q = z_q + (tokens - tokens.detach())
                if self.training and self.holds_rate:
                    coded = torch.where(self.step > 0, error, 0.0)
                    z_q = z_q + self._from_axes(coded * (model.growth(y, valid) - 1)).to(z_q.dtype)
            else:
                error = model.dithered_error(y, levels, dither, generator)
                error = error * model.growth(y, valid) if self.holds_rate else error
                soft = self._from_axes(model.gains() * (y + error)) + self.mean
                z_q = soft.to(tokens.dtype)
            z_q = torch.where(valid.unsqueeze(-1), z_q, 0.0)

            # Bits under the code's own density; the mean over tokens.
            losses = {"rate": model.rate(y + error, valid)} if self.training else {}
            loss = sum((self.loss_weights[name] * value for name, value in losses.items()), z_q.new_zeros(()))

        # In training also what an update needs: first and second moments on the axes.
        indices = levels + HALF if every else torch.where(valid.unsqueeze(-1), levels + HALF, -1)
        stats: tuple[CodeStats, ...] = ()
        if self.training:
            present = finite if mask is None else finite | ~mask.reshape(-1)
            on_axes = torch.where(valid.unsqueeze(-1), y.detach(), 0.0).to(wide(z.device))
            turns = self.transform == "klt"
            second = on_axes.t() @ on_axes if turns else on_axes.square().sum(0)
            moments = torch.cat([on_axes.sum(0), second.flatten()]).unsqueeze(0)
            stats = self._counted(soft - tokens, valid, present, moments)
        return Quantized(
            z_q.view(z.shape).to(z.dtype), indices.view(*z.shape[:-1], self.dim), loss, losses, stats
        )

    def encode(
        self, z: Float[Tensor, "*b D"], *, mask: Bool[Tensor, "*b"] | None = None
    ) -> Int64[Tensor, "*b D"]:
        self.check_input(z, mask)
        with without_autocast(z.device):
            tokens, valid, _, every = token_rows(z.detach(), mask)
            indices = self._levels(self._analysed(tokens), valid, z.shape) + HALF
        return (indices if every else torch.where(valid.unsqueeze(-1), indices, -1)).view(z.shape)

    def decode(
        self,
        indices: Int64[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "*b D"]:
        flat = self._codes(indices, mask, absent=HALF)
        with without_autocast(flat.device):
            z_q = self._synthesised(flat.reshape(-1, self.dim) - HALF).view(flat.shape)
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
        """Mean, axes and variances from `z` (of all ranks), and the code for them, corrected by what it reaches on `z`.

        From 2,048 tokens on, levels of components that are not Gaussian are fitted to `z` where that measures better;
        an `update_` that moves the variances goes back to Gaussian ones.

        Raises:
            InputError: no finite token, values beyond 1e16, or more than 16 bits would be needed for an axis.
        """
        tokens = self._latents(z, mask, generator)

        # Principal axes, or the variances on the given ones.
        rows = tokens.to(wide(tokens.device))
        mean = rows.mean(0)
        covariance = ((rows - mean).t() @ (rows - mean) / len(rows)).cpu().double().numpy()
        self.mean.copy_(mean)
        if self.transform == "klt":
            self.transform_matrix.copy_(torch.eye(self.dim))
            self._turn_(covariance)
        else:
            axes = self.transform_matrix.double().cpu().numpy()
            variances = np.einsum("ij,jk,ik->i", axes, covariance, axes).clip(min=0.0)
            self.variances.copy_(torch.from_numpy(np.ascontiguousarray(variances)))
        self._correct_(tokens)
        self.initialised.fill_(True)
        self.version.renew_()

    @torch.no_grad()
    def set_transform_(self, matrix: Float[Tensor, "D D"]) -> None:
        """Axes of one's own, as rows, for `transform="own"`: set before `init_`.

        Raises:
            InputError: not orthonormal, or `transform` is another.
        """
        if self.transform != "own":
            raise InputError(f"set_transform_ needs transform='own'; got transform={self.transform!r}")
        check_axes(matrix, self.dim)
        self.transform_matrix.copy_(matrix)
        self.version.renew_()

    @torch.no_grad()
    def update_(self, *results: Quantized) -> UpdateReport:
        """Move mean, principal axes and variances towards those of the results' joined batch, and design anew.

        Axes that were given stay. The principal ones take O(D³): some milliseconds for 256 components.

        Raises:
            InputError: before `init_`; for results of an eval forward, of another quantizer, from before the last
                `update_`, or given twice.
        """
        self.check_results(results)
        stats = self._joined(results)
        count = float(stats.hits.sum())
        if count > 0 and self.decay < 1:
            # Second moments about the mean as it moves, on the present axes.
            moments = stats.sums.view(-1).double().cpu() / count
            shift = (1 - self.decay) * moments[: self.dim]
            second = (1 - self.decay) * moments[self.dim :]
            self.mean += self._from_axes(shift.to(self.mean).unsqueeze(0)).squeeze(0)
            variances = self.decay * self.variances.double().cpu()
            if self.transform == "klt":
                covariance = variances.diag() + second.view(self.dim, self.dim) - shift.outer(shift)
                self._turn_(covariance.numpy())
            else:
                self.variances.copy_((variances + second - shift.square()).clamp_min(0.0))
            self._design_()
        self.version.advance_()
        return self._reported(stats)

    def declared_jacobian(self, z: Float[Tensor, "n D"]) -> Float[Tensor, "n D D"] | None:
        if self.holds_rate:  # a token's reproduction depends on all tokens' spread
            return None
        if self.surrogate == "straight_through":
            return torch.eye(self.dim, dtype=z.dtype).expand(len(z), -1, -1)
        axes = self.transform_matrix
        return (axes.t() @ (self._model.gains().unsqueeze(1) * axes)).to(z.dtype).expand(len(z), -1, -1)

    def extra_repr(self) -> str:
        aim = f"rate={self.rate}" if self.distortion is None else f"distortion={self.distortion}"
        return f"dim={self.dim}, {aim}, states={self.states}, transform={self.transform!r}"

    def _analysed(self, tokens: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        """Coefficients on the axes."""
        centred = tokens.float() - self.mean
        return centred if self.transform is None else linear(centred, self.transform_matrix, None)

    def _from_axes(self, y: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        return y if self.transform is None else linear(y, self.transform_matrix.t(), None)

    def _points(self, levels: Int64[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        return reproduced(levels, self.values, self.pitch)

    def _synthesised(self, levels: Int64[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        """What levels stand for, as vectors."""
        return self._from_axes(self._points(levels)) + self.mean

    def _levels(
        self, y: Float[Tensor, "n D"], valid: Bool[Tensor, " n"], shape: torch.Size
    ) -> Int64[Tensor, "n D"]:
        """The levels of tokens that were of that shape; one path through each sequence."""
        length, sequences = shape[-2] if len(shape) > 1 else 1, math.prod(shape[:-2])
        search = best_levels if not is_recorded() and has_numbers(y) else best_levels_op
        side_by_side = y.detach().view(sequences, length, self.dim), valid.view(sequences, length)
        code = self.step, self.values, self.bits, self.slope, self.alone
        found = search(*side_by_side, *code, self.states)
        return found.view(-1, self.dim)

    @property
    def _model(self) -> AxisModel:
        return AxisModel(self.step, self.slope, self.variances, self.noise)

    def _turn_(self, covariance: Float[np.ndarray, "D D"]) -> None:
        """Principal axes and variances from a covariance on the present axes."""
        variances, axes = turned(covariance, self.transform_matrix.double().cpu().numpy())
        self.transform_matrix.copy_(torch.from_numpy(axes))
        self.variances.copy_(torch.from_numpy(variances))

    def _correct_(self, tokens: Float[Tensor, "n D"]) -> None:
        """Move the aim until the code reaches on these tokens what was asked for; latents are not quite Gaussian.

        Then levels are fitted to them where that serves better (`trellis_adapt`), and the aim moves again.
        """
        some = spread(tokens, max(1, MEASURED // self.dim))
        asked = float(self.distortion or self.rate or 0.0)
        self.aim.fill_(asked)
        self._design_()
        # Entropies of many bits can't be seen on few samples: then the code's own account must do.
        if self.distortion is None and asked > visible_bits(len(some), int((self.step > 0).sum())):
            return
        y = self._analysed(some)
        announce((FITTED if len(y) >= ENOUGH else ROUNDS) * search_work(y.numel(), self.states))
        self._approach_(y, asked, ROUNDS, torch.zeros_like(self.step, dtype=torch.bool))
        levels, own = adapted(y, self._table(), self.code.theta, self.states, len(tokens), self._parts)
        if bool(own.any()):
            self._put_(levels)
        self._approach_(y, asked, MOST_ROUNDS, own)

    def _approach_(self, y: Float[Tensor, "n D"], asked: float, rounds: int, own: Bool[Tensor, " D"]) -> None:
        """Move the aim until the code reaches on these coefficients what was asked for.

        Args:
            own: components with fitted levels, if any: these follow the water level, fitted again in the first rounds.
        """
        most = MOST_BITS * self.dim
        if self.distortion is None:
            most = min(most, max(asked, visible_bits(len(y), int((self.step > 0).sum()))))
        control = AimControl(asked, self.distortion is not None, most)
        refits = ROUNDS if bool(own.any()) else 0
        for number in range(rounds):
            reached = self._reached(y)
            aim = control.following(float(self.aim), reached, alike=number > refits and rounds > ROUNDS)
            if number >= refits and (
                control.near(reached) or math.isclose(aim, float(self.aim), rel_tol=1e-6)
            ):
                break
            levels = self._table()
            self.aim.fill_(aim)
            self._design_()
            if not refits:
                continue
            slope = torch.where(own, 2 * math.log(2) * self.code.theta, self.slope)
            levels = self._table().with_own(levels, own)._replace(slope=slope)
            if number < refits:
                levels = refitted(y, levels, own & (levels.step > 0), self.states)
            self._put_(levels)

    def _reached(self, y: Float[Tensor, "n D"]) -> float:
        """Of these coefficients: bits per vector, or at a given distortion, squared error."""
        levels = self._levels(y, torch.ones(len(y), dtype=torch.bool, device=y.device), y.shape)
        if self.distortion is None:
            return entropy_bits(levels)
        return float((self._points(levels) - y).double().square().sum(-1).mean())

    def _table(self) -> Levels:
        return Levels(*(getattr(self, name).clone() for name in Levels._fields))

    def _put_(self, levels: Levels) -> None:
        for name, value in levels._asdict().items():
            getattr(self, name).copy_(value)
