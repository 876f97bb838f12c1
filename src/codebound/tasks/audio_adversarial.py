"""An audio tokenizer against discriminators of spectra and of periods, with feature matching (EnCodec: Défossez et al.
2022; HiFi-GAN: Kong et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import relu

from codebound.data.sound_sets import SoundSet
from codebound.engine.recipe import Schedule
from codebound.engine.task import OptimizerPlan, ParameterGroup, StepLosses
from codebound.nets.sound_discriminator import (
    JoinedDiscriminator,
    Judgement,
    PeriodDiscriminator,
    SoundDiscriminator,
    SpectralDiscriminator,
)
from codebound.sound.resampling import LOUDEST
from codebound.tasks.audio import BETAS, AudioOptimization, AudioTask, Crops
from codebound.tokenizers.audio import AudioTokenizer
from codebound.tokenizers.audio_fitting import FrameCodeSettings

Kind = Literal["stft", "period"]
KINDS: Mapping[Kind, type[SoundDiscriminator]] = {
    "stft": SpectralDiscriminator,
    "period": PeriodDiscriminator,
}


class AudioAdversarialOptimization(AudioOptimization):
    """How an audio tokenizer is trained against a discriminator.

    Attributes:
        adversarial, features: weights of the adversarial loss, and of feature matching; 0 for no discriminator.
        begin: share of the run after which both act; the discriminator learns from there on.
        discriminators: what judges: "stft", spectra of three resolutions; "period", samples at five periods.
        discriminator_lr: their highest learning rate.
    """

    adversarial: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    features: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    begin: float = Field(default=0.5, ge=0, le=1)
    discriminators: tuple[Kind, ...] = Field(default=("stft",), min_length=1, max_length=2)
    discriminator_lr: float = Field(default=4e-4, ge=0, allow_inf_nan=False)


class AudioAdversarialTask(AudioTask):
    """An `AudioTokenizer` and the discriminator that it is to deceive.

    Args:
        tokenizer, sounds, settings, code, seed, begun: as `AudioTask`.
        discriminator: of sound in [−1, 1].
        steps: of the whole run, of which `begin` is a share.
    """

    settings: AudioAdversarialOptimization  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        tokenizer: AudioTokenizer,
        discriminator: SoundDiscriminator,
        sounds: SoundSet,
        settings: AudioAdversarialOptimization,
        code: FrameCodeSettings,
        steps: int,
        seed: int = 0,
        begun: bool = False,
    ) -> None:
        super().__init__(tokenizer, sounds, settings, code, seed, begun)
        self.discriminator, self.steps = discriminator, steps
        self.modules: Mapping[str, nn.Module] = {**self.modules, "discriminator": discriminator}

    def optimizers(self) -> Mapping[str, OptimizerPlan]:
        """One for each of both."""
        schedule = Schedule(peak=self.settings.discriminator_lr, warmup=self.settings.warmup)
        group = ParameterGroup(list(self.discriminator.parameters()), schedule)
        own = OptimizerPlan([group], BETAS, self.settings.clip)
        return {**super().optimizers(), "discriminator": own}

    def losses(self, batch: Crops, step: int) -> StepLosses:
        """As without a discriminator until it acts; then what it says of the decoded sound, too."""
        x = batch[0] / LOUDEST
        coded = self.codes.coded(*batch)
        made = self.tokenizer(coded.z)
        values = self.distances(x, made, step)
        loss, values = self.weighed(values) + coded.loss, {**values, **coded.values}
        if step < self.settings.begin * self.steps:
            # Nothing to learn yet: a loss of zero that its parameters stand in.
            nothing = sum(
                (p.sum() * 0.0 for p in self.discriminator.parameters()), torch.zeros((), device=x.device)
            )
            losses, values = {"tokenizer": loss, "discriminator": nothing}, {"loss": loss, **values}
            return StepLosses(losses, values, coded.record, coded.usable)

        # Hinge losses, place by place; features of the real sound are what those of the decoded one should be.
        real, judged = self.discriminator(x), self.discriminator(made)
        deceived = mean([relu(1 - scores).mean() for scores in judged.scores])
        matched = features_apart(real, judged)
        apart = self.discriminator(made.detach())
        caught = [
            relu(1 - a).mean() + relu(1 + b).mean() for a, b in zip(real.scores, apart.scores, strict=True)
        ]
        loss = loss + self.settings.adversarial * deceived + self.settings.features * matched
        values |= {"deceived": deceived, "features": matched, "caught": mean(caught), "loss": loss}
        losses = {"tokenizer": loss, "discriminator": mean(caught)}
        return StepLosses(losses, values, coded.record, coded.usable)


def untrained_discriminator(kinds: Sequence[Kind]) -> SoundDiscriminator:
    """Judges of these kinds, each kind once; weights drawn by the caller's generator."""
    parts = [KINDS[kind]() for kind in dict.fromkeys(kinds)]
    return parts[0] if len(parts) == 1 else JoinedDiscriminator(parts)


def features_apart(real: Judgement, made: Judgement) -> Tensor:
    """Mean absolute difference of features, in units of the real ones' size."""
    parts = [
        (a.detach() - b).abs().mean() / a.detach().abs().mean().clamp_min(1e-6)
        for a, b in zip(real.features, made.features, strict=True)
    ]
    return mean(parts)


def mean(values: list[Tensor]) -> Tensor:
    """The mean of scalars."""
    return torch.stack(values).mean()
