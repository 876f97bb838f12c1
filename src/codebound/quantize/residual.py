"""Residual quantization: each stage quantizes what the stages before it left."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from codebound import arguments
from codebound.errors import InputError
from codebound.graphs import without_autocast
from codebound.quantize import habits
from codebound.quantize.assign import Nearest
from codebound.quantize.base import Quantized, Quantizer, UpdateReport
from codebound.quantize.beam import beam_search
from codebound.quantize.compose import Composed, as_rows, present, token_major
from codebound.quantize.estimator import Choice, Estimator, Gumbel, SoftmaxAll, StraightThrough
from codebound.quantize.habits import answered
from codebound.quantize.noise import mix, token_keys, uniform
from codebound.quantize.together import check_choices
from codebound.quantize.update import Memory
from codebound.quantize.vector import VectorQuantizer
from codebound.quantize.wrap import Projected


class Residual(Composed):
    """A sum of codewords, one from each stage (Juang & Gray 1982; SoundStream: Zeghidour et al. 2021, alg. 1).

        r ← z;  for each stage:  c ← stage(r),  r ← r − sg(c);  z_q ← estimator(z, Σ c)

    The codeword is detached, not the residual, so the commitment of every stage reaches the encoder; the stages'
    own estimators are not used. With `estimator=None` they are: z_q is the sum of the stages' reproductions and
    r ← r − z_q with its gradient (DAC: Kumar et al. 2023, §3.2), which stages with trained projections need.

    `encode(z, depth=q)` and `decode` of the first q stages' indices give every lower rate. Losses are named by
    stage (`0.commitment`, …); a nearest-codeword stage's commitment is the distortion at that depth.

    Args:
        stages: quantizers of the same `dim`.
        depth_dropout: probability in training that a sample (an entry of the first axis, all its tokens) uses only
            its first 1 … Q stages, uniformly (SoundStream, §III-C; DAC). A stage left out has index −1 and no part
            in losses and statistics. Drawn by a hash of the sample: the same on recomputation.
        beam_width: sums of codewords kept per token while searching, the greedy one always among them, so the
            result is never worse than greedy. More than 1 needs `VectorQuantizer` stages with `assign=Nearest()`.
        estimator: how a gradient passes the total; None for the stages' own.
        share: allow one module in several places: one codebook for several depths (VAR: Tian et al. 2024).
        seed: of depth dropout.

    Raises:
        InputError: stages that differ in `dim` or don't fit the other choices; a value out of its range.
    """

    step: Tensor
    salt: Tensor

    @answered(habits.RESIDUAL)
    def __init__(
        self,
        stages: Sequence[Quantizer],
        *,
        depth_dropout: float = 0.0,
        beam_width: int = 1,
        estimator: Estimator | None = StraightThrough(),  # noqa: B008  a frozen dataclass: safe to share
        share: bool = False,
        seed: int = 0,
    ) -> None:
        # Stages quantize vectors of one size.
        super().__init__(stages, share, "stages")
        self.dim = stages[0].dim
        if any(stage.dim != self.dim for stage in stages):
            raise InputError(f"stages must have the same dim; got {[stage.dim for stage in stages]}")

        # Dropout leaves out the later stages of the outermost residual quantizer alone.
        arguments.number("depth_dropout", depth_dropout, least=0, most=1)
        inner = [module for stage in stages for module in stage.modules()]
        if any(isinstance(module, Residual) and module.depth_dropout > 0 for module in inner):
            raise InputError("depth_dropout belongs to the outer Residual; a stage has some of its own")

        # An estimator on the total must be one that a sum of codewords can have.
        if estimator is not None:
            check_choices(estimator=estimator)
        trained = any(isinstance(module, Projected) and not module.frozen for module in inner)
        if trained and estimator is not None:
            raise InputError(
                "estimator must be None where stages have trained projections: an estimator on the total would "
                "leave them without a gradient"
            )
        if isinstance(estimator, Gumbel | SoftmaxAll):
            raise InputError(
                f"estimator={estimator} needs one codebook's logits; a sum of codewords has none"
            )

        arguments.seed(seed)
        # Step and salt decide what dropout draws, so both are part of the state.
        _check_beam(beam_width, self.places)
        self.depth_dropout, self.beam_width = float(depth_dropout), beam_width
        self.estimator, self.seed = estimator, seed
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("salt", mix(torch.tensor(seed, dtype=torch.int64)))

    @property
    def stages(self) -> list[Quantizer]:
        """The quantizers, first to last."""
        return self.places

    def forward(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Quantized:
        self.check_input(z, mask, generator)
        with without_autocast(z.device):
            # Each stage quantizes what the ones before it left.
            tokens, flat = as_rows(z), None if mask is None else mask.reshape(-1)
            salt = self._salt(generator)
            results, total = self._stagewise(tokens, flat, self._depths(z, flat, salt), generator)

            # One estimator for the sum: in eval it gives the gradient, and the value is the sum exactly.
            valid = (results[0].indices >= 0).all(-1, keepdim=True)
            z_q = total.to(tokens.dtype)
            if self.estimator is not None:
                clean = torch.where(valid, tokens, 0.0)
                z_q = self.estimator(clean, z_q, _choice(z_q, salt))
                z_q = z_q if self.training else total.detach().to(z_q) + (z_q - z_q.detach())
            z_q = torch.where(valid, z_q, 0.0).view(z.shape).to(z.dtype)

        # One result, with the stages' losses and statistics.
        return self._joined(z_q, results)

    @torch.no_grad()
    def encode(
        self, z: Float[Tensor, "*b D"], *, mask: Bool[Tensor, "*b"] | None = None, depth: int | None = None
    ) -> Int64[Tensor, "*b q"]:
        """Indices of the first `depth` stages (all by default); a prefix of them is the code at a lower depth.

        With a beam the prefix is not the best code at its depth: encode again with that `depth`.

        Raises:
            InputError: a depth that there is not.
        """
        # Any number of stages gives a code, of a lower rate where they are fewer.
        self.check_input(z, mask)
        depth = len(self.stages) if depth is None else depth
        arguments.whole("depth", depth, most=len(self.stages))
        with without_autocast(z.device):
            # A masked token is NaN to every stage, and gets no index.
            z = z if mask is None else torch.where(mask.unsqueeze(-1), z, math.nan)
            residual, indices = as_rows(z), []

            # A beam searches all stages together; otherwise the nearest, stage by stage.
            if self.beam_width > 1:
                return self._beam(residual, None, depth).view(*z.shape[:-1], depth)
            for stage in self.stages[:depth]:
                indices.append(stage.encode(residual))
                residual = residual - _codewords(stage, indices[-1]).to(residual)
        return torch.cat(indices, dim=-1).view(*z.shape[:-1], self._slots()[depth - 1].stop)

    def decode(
        self,
        indices: Int64[Tensor, "*b q"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "*b D"]:
        """The sum of the codewords of all stages, or of the first where there are fewer indices."""
        slots = self._slots()
        stops, width = [slot.stop for slot in slots], indices.shape[-1] if indices.ndim else 0
        if width not in stops:
            self.check_indices(indices, mask)  # raises
        slots = slots[: stops.index(width) + 1]
        # Added up as in a forward, where only the stages' own reproductions may be float64, and rounded once.
        dtype = self.decoded_dtype(dtype)
        inside = torch.float64 if self.estimator is None and dtype == torch.float64 else torch.float32
        parts = [
            stage.decode(indices[..., at], mask=mask, dtype=inside)
            for stage, at in zip(self.stages, slots, strict=False)
        ]
        return _sum(parts).to(dtype)

    @torch.no_grad()
    def init_(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Stage by stage, each on what the stages before it left.

        A module in several places is initialised on the first one's residuals, then again on those of all.
        """
        # Stage by stage: initialise, subtract, go on with what is left.
        self.check_input(z, mask, generator)
        residual = as_rows(present(z, mask))
        residuals: list[list[Tensor]] = [[] for _ in self.members]
        for stage, member in zip(self.stages, self.order, strict=True):
            if not residuals[member]:
                stage.init_(residual, generator=generator)
            residuals[member].append(residual)
            residual = residual - _codewords(stage, stage.encode(residual)).to(residual)

        # A module in several places begins again from what it will see in all of them.
        for member, inputs in zip(self.members, residuals, strict=True):
            if len(inputs) > 1:
                assert isinstance(member, Quantizer)
                member.init_(token_major(inputs), generator=generator)

    @torch.no_grad()
    def update_(self, *results: Quantized) -> UpdateReport:
        """Each codebook's update, once; see `Quantizer.update_`."""
        report = super().update_(*results)
        self.step += 1
        return report

    def declared_jacobian(self, z: Float[Tensor, "n D"]) -> Float[Tensor, "n D D"] | None:
        if self.estimator is None:
            return None
        salt = self._salt(None)
        _, total = self._stagewise(z, None, self._depths(z, None, salt), None)
        return self.estimator.jacobian(z, total.to(z), _choice(total, salt))

    def extra_repr(self) -> str:
        return (
            f"dim={self.dim}, order={self.order}, depth_dropout={self.depth_dropout}, "
            f"beam_width={self.beam_width}, estimator={self.estimator}"
        )

    def _stagewise(
        self,
        tokens: Tensor,
        mask: Tensor | None,
        depths: Tensor | None,
        generator: torch.Generator | None,
    ) -> tuple[list[Quantized], Tensor]:
        """The stages' results and the sum of their codewords (of their reproductions, without an estimator)."""
        # A beam has chosen all indices beforehand; else each stage chooses its own.
        residual, results, parts = tokens, [], []
        path = self._beam(tokens, depths) if self.beam_width > 1 else None
        for q, stage in enumerate(self.stages):
            # Leaving a stage out is masking all its tokens: no branch that depends on data.
            active = mask if depths is None else depths > q if mask is None else mask & (depths > q)
            if path is None:
                results.append(stage(residual, mask=active, generator=generator))
            else:
                assert isinstance(stage, VectorQuantizer)
                results.append(stage.quantize_as(residual, path[:, q : q + 1], mask=active))

            # What is left for the next stage: with a gradient only where the stages have their own estimators.
            if self.estimator is None:
                parts.append(results[-1].z_q)
                residual = residual - parts[-1]
            else:
                parts.append(_codewords(stage, results[-1].indices))
                residual = residual - parts[-1].detach().to(residual)
        return results, _sum(parts)

    def _beam(self, tokens: Tensor, depths: Tensor | None, stages: int | None = None) -> Tensor:
        """Indices of the best sums that a beam search finds, `[n, stages]`."""
        beamed = [stage for stage in self.stages[:stages] if isinstance(stage, VectorQuantizer)]
        return beam_search(beamed, tokens, self.beam_width, depths)

    def _depths(self, z: Tensor, mask: Tensor | None, salt: Tensor) -> Tensor | None:
        """How many stages each row of `z` uses; None for all."""
        # In eval, and without dropout, all stages.
        if not (self.training and self.depth_dropout > 0):
            return None

        # A number for each row, the same on recomputation and however the batch was divided.
        rows = as_rows(z)
        keys = token_keys(rows, salt)
        if z.ndim > 2:  # one draw for all valid tokens of a sample
            valid = rows.isfinite().all(-1) if mask is None else rows.isfinite().all(-1) & mask
            per_sample = torch.where(valid, keys, 0).view(z.shape[0], math.prod(z.shape[1:-1])).sum(-1)
            keys = mix(per_sample).repeat_interleave(math.prod(z.shape[1:-1]))

        # The first draw says whether stages are left out, the second how many stay.
        draws, stages = uniform(keys, 2), len(self.stages)
        cut = 1 + (draws[:, 1] * stages).long()
        return torch.where(draws[:, 0] < self.depth_dropout, cut, stages)

    def _salt(self, generator: torch.Generator | None) -> Tensor:
        """Where this step's noise begins: a number for each (seed, step), and for a draw where one is asked for."""
        salt = mix(self.salt ^ self.step)
        if generator is None:
            return salt
        fresh = torch.randint(2**62, (), generator=generator, device=generator.device)
        return mix(salt ^ fresh.to(salt.device))


def _codewords(stage: Quantizer, indices: Tensor) -> Tensor:
    """The raw codewords of `indices`, 0 where there is none."""
    return stage.decode(indices, mask=(indices >= 0).all(-1), dtype=torch.float32)


def _sum(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _choice(total: Tensor, salt: Tensor) -> Choice:
    """What estimators of a sum may look at: noise, and no codebook."""
    zero = torch.zeros((), device=total.device)
    memory = Memory(total.new_zeros(0), salt.new_zeros(()), zero, salt, zero.bool())
    return Choice(total[:0], memory)


def _check_beam(beam_width: int, stages: Sequence[Quantizer]) -> None:
    arguments.whole("beam_width", beam_width)
    plain = all(isinstance(s, VectorQuantizer) and isinstance(s.assign, Nearest) for s in stages)
    if beam_width > 1 and not plain:
        raise InputError("beam_width over 1 needs stages that are VectorQuantizers with assign=Nearest()")
