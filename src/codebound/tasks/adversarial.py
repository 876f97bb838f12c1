"""An image tokenizer against a discriminator (VQ-GAN: Esser, Rombach & Ommer 2021), or its decoder alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from codebound.data.image_sets import ImageSet
from codebound.engine.optimize import tensor_over_devices
from codebound.engine.recipe import Schedule
from codebound.engine.task import AfterStep, OptimizerPlan, ParameterGroup, StepLosses
from codebound.errors import InputError
from codebound.metrics.effnet import EffnetDistance
from codebound.metrics.feature_distance import FeatureDistance
from codebound.metrics.vgg import VggDistance
from codebound.nets.discriminator import PatchDiscriminator
from codebound.quantize.base import Quantized
from codebound.tasks.decoder import decoder_group, from_frozen_codes
from codebound.tasks.tokenizer import TokenizerOptimization, TokenizerTask
from codebound.tokenizers.image import ImageTokenizer, Reconstruction

EFFNET, VGG = "effnet", "vgg:"  # networks of a perceptual loss
LARGEST_WEIGHT = 10.0  # of the adversarial loss: the ratio of two gradients jumps where one of them vanishes


class AdversarialOptimization(TokenizerOptimization):
    """How a tokenizer is trained against a discriminator.

    Attributes:
        adversarial: share of the adversarial gradient, as the last layer feels it, in that of the reconstruction.
        begin: share of the run after which it acts; the discriminator learns from the first step on.
        ramp: share of the run over which it grows from nothing to all.
        adversary: what both are judged by: "hinge", or "logistic" (non-saturating).
        lecam: weight of the LeCam regularisation (Tseng et al. 2021), which holds scores near their running means.
        discriminator_lr: its highest learning rate.
        perceptual: weight of a network's feature distance, on the first `perceptual_part` of a batch.
        perceptual_network: "effnet" (an extra) or "vgg:FILE", torchvision's weights of vgg16 or vgg19 (`VggDistance`).
        freeze: train the decoder alone, on frozen codes: files and priors stay valid.
    """

    lr: float = Field(default=2e-3, ge=0, allow_inf_nan=False)
    adversarial: float = Field(default=0.8, ge=0, allow_inf_nan=False)
    begin: float = Field(default=0.3, ge=0, le=1)
    ramp: float = Field(default=0.1, ge=0, le=1)
    adversary: Literal["hinge", "logistic"] = "hinge"
    lecam: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    discriminator_lr: float = Field(default=1e-3, ge=0, allow_inf_nan=False)
    perceptual: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    perceptual_network: str = "effnet"
    perceptual_part: float = Field(default=0.25, gt=0, le=1)
    freeze: bool = False

    @field_validator("perceptual_network")
    @classmethod
    def _known(cls, value: str) -> str:
        if value != EFFNET and not (value.startswith(VGG) and len(value) > len(VGG)):
            raise ValueError(f"{EFFNET} and {VGG}FILE are accepted")
        return value

    @model_validator(mode="after")
    def _in_use(self) -> AdversarialOptimization:
        if self.perceptual_network != EFFNET and not self.perceptual:
            raise ValueError(
                f"perceptual_network={self.perceptual_network} needs a weight: perceptual=0 has none"
            )
        return self

    @property
    def perceptual_weights(self) -> Path | None:
        """The file that the user gave VGG's weights in, where they are in use."""
        return Path(self.perceptual_network.removeprefix(VGG)) if self.perceptual_network != EFFNET else None


class RunningScores(nn.Module):
    """Running means of the scores of real and of made pictures, over all devices."""

    means: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(2))


class AdversarialTask(TokenizerTask):
    """An `ImageTokenizer` and the discriminator that it is to deceive.

    Args:
        tokenizer, images, settings: as `TokenizerTask`.
        discriminator: of the pictures in [−1, 1].
        steps: of the whole run, of which settings have shares.
        begun: the tokenizer's codebooks have been learned: they do not begin from latents.

    The last layer's gradients weigh the two losses: adversarial · |∇ reconstruction| / |∇ adversarial|, at most 10
    (Esser et al. 2021, eq. 7).

    Raises:
        InputError: pictures too small for the network of the perceptual loss, or weights that it can't use.
    """

    kind = "vqgan"
    settings: AdversarialOptimization  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        tokenizer: ImageTokenizer,
        discriminator: PatchDiscriminator,
        images: ImageSet,
        settings: AdversarialOptimization,
        steps: int,
        begun: bool = False,
    ) -> None:
        super().__init__(tokenizer, images, settings)
        self.discriminator, self.steps, self.begun = discriminator, steps, begun
        self.scores = RunningScores()
        self.modules: Mapping[str, nn.Module] = {
            "tokenizer": self.tokenizer,
            "discriminator": discriminator,
            "scores": self.scores,
        }
        self.distance = _distance(settings, images) if settings.perceptual else None

        # A frozen encoder finds the codes that it found before.
        if settings.freeze:
            for part in (self.tokenizer.encoder, self.tokenizer.quantizer):
                part.requires_grad_(False)

    def networks(self) -> Sequence[nn.Module]:
        """Encoder, decoder and discriminator."""
        return [*super().networks(), self.discriminator]

    def optimizers(self) -> Mapping[str, OptimizerPlan]:
        """That of the tokenizer, of its decoder where the rest is frozen, and that of the discriminator."""
        plans = dict(super().optimizers())
        if self.settings.freeze:
            plans["tokenizer"] = plans["tokenizer"]._replace(groups=[decoder_group(self)])
        schedule = Schedule(peak=self.settings.discriminator_lr, warmup=self.settings.warmup)
        groups = [ParameterGroup(list(self.discriminator.parameters()), schedule)]
        return plans | {"discriminator": OptimizerPlan(groups, (0.5, 0.9), self.settings.clip)}

    def initialise(self, batches: Iterator[Tensor], devices: int) -> None:
        """Codebooks begin from latents, unless they were learned before."""
        if not self.begun:
            super().initialise(batches, devices)

    def losses(self, batch: Tensor, step: int) -> StepLosses:
        """The tokenizer's loss with what the discriminator says of it, and the discriminator's own."""
        x = self.tokenizer.to_network(batch)
        result = self._reconstructed(x)
        loss, values = result.loss, {"reconstruction": result.reconstruction}

        # What a network sees of a part of the pictures.
        if self.distance is not None:
            count = max(1, round(self.settings.perceptual_part * len(x)))
            seen = (
                self.distance.to(x.device).between((result.x_hat[:count] + 1) / 2, (x[:count] + 1) / 2).mean()
            )
            loss = loss + self.settings.perceptual * seen
            values["perceptual"] = seen

        # The adversarial loss, where it acts already; its gradient is measured against the loss's so far.
        share = self.acting(step)
        if share:
            made = self.discriminator(result.x_hat)
            deceived = -made.mean() if self.settings.adversary == "hinge" else softplus(-made).mean()
            weight = self._weight(loss, deceived)
            loss = loss + share * weight * deceived
            values |= {"deceived": deceived, "adversarial_weight": weight}

        # The discriminator learns from the first step on, from pictures that have no gradient of their own.
        real, made = self.discriminator(x), self.discriminator(result.x_hat.detach())
        judged = self._judged(real, made)
        values |= {
            "loss": loss,
            "discriminator": judged,
            "score_real": real.mean(),
            "score_made": made.mean(),
        }
        known = (result.quantized.indices[..., 0] >= 0).all()
        record = (result.quantized, torch.stack([real.mean(), made.mean()]).detach())
        return StepLosses({"tokenizer": loss, "discriminator": judged}, values, record=record, usable=known)

    def acting(self, step: int) -> float:
        """How much of the adversarial loss acts in a step: none, then more and more, then all."""
        settings, done = self.settings, step / self.steps
        if not settings.adversarial or done < settings.begin:
            return 0.0
        return (
            1.0 if not settings.ramp else min(1.0, (done - settings.begin) / settings.ramp + 1 / self.steps)
        )

    def after_step(self, records: Sequence[tuple[Quantized, Tensor]]) -> AfterStep:  # pyright: ignore
        """Codebooks move unless they are frozen; running means of the scores take these in."""
        self.scores.means.lerp_(
            tensor_over_devices(torch.stack([scores for _, scores in records]).mean(0)), 0.01
        )
        if self.settings.freeze:
            return AfterStep({})
        return super().after_step([quantized for quantized, _ in records])

    def _reconstructed(self, x: Tensor) -> Reconstruction:
        """A forward pass; of a frozen encoder codes without gradient or losses of their own."""
        if not self.settings.freeze:
            return self.tokenizer(x)
        return from_frozen_codes(self.tokenizer, x)

    def _weight(self, loss: Tensor, deceived: Tensor) -> Tensor:
        """What the adversarial loss is multiplied by: from both gradients, over all devices, at the last kernel."""
        last = [p for p in self.tokenizer.decoder.parameters() if p.ndim > 1][-1]
        (one,) = torch.autograd.grad(loss, last, retain_graph=True)
        (other,) = torch.autograd.grad(deceived, last, retain_graph=True)
        ratio = tensor_over_devices(one).norm() / tensor_over_devices(other).norm().clamp_min(1e-8)
        return self.settings.adversarial * ratio.clamp(0, LARGEST_WEIGHT).detach()

    def _judged(self, real: Tensor, made: Tensor) -> Tensor:
        """The discriminator's loss."""
        if self.settings.adversary == "hinge":
            loss = (relu(1 - real).mean() + relu(1 + made).mean()) / 2
        else:
            loss = (softplus(-real).mean() + softplus(made).mean()) / 2
        if not self.settings.lecam:
            return loss
        mean_real, mean_made = self.scores.means
        distance = relu(real - mean_made).square().mean() + relu(mean_real - made).square().mean()
        return loss + self.settings.lecam * distance


def _distance(settings: AdversarialOptimization, images: ImageSet) -> FeatureDistance:
    """What the perceptual loss is measured with.

    Raises:
        InputError: its network sees nothing of pictures so small.
    """
    weights = settings.perceptual_weights
    distance = EffnetDistance() if weights is None else VggDistance(weights)
    if min(images.size) < distance.least_side:
        height, width = images.size
        raise InputError(
            f"perceptual={settings.perceptual:g} by {settings.perceptual_network} needs pictures with sides of at "
            f"least {distance.least_side}; these have {height}x{width}"
        )
    return distance
