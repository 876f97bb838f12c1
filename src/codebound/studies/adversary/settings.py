"""What can be set in the adversary study."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from codebound.runs.settings import PictureData
from codebound.studies.framework.networks import StudyNetworks

Space = Literal["effnet", "pixels"]


class Settings(StudyNetworks, PictureData):
    """Equal codes, pictures and steps for every arm.

    Attributes:
        weights: of the adversary, as a share of the gradient of the reconstruction (`tasks.adversarial`); 0 is squared
            error alone, which the others are compared with.
        base_steps: of the tokenizer whose codes are then frozen; steps: of its decoder in each arm.
        begin, ramp: as `AdversarialOptimization`.
        points: of the curves, besides the first one.
        pictures: held-out pictures whose reproductions are compared with as many others.
        features: what they are compared in; "effnet" needs the extra `perceptual`, and is left out without it.
    """

    CHOOSES: ClassVar = frozenset({"seeds", "workers"})

    weights: tuple[float, ...] = (0.0, 0.2, 0.8)
    pictures: int = Field(600, ge=16)
    codebook_size: int = Field(512, ge=2)
    depth: int = Field(2, ge=0)
    stride: int = 8
    base_steps: int = Field(1500, ge=1)
    steps: int = Field(2000, ge=1)
    batch_size: int = Field(32, ge=1)
    decoder_lr: float = Field(2e-3, gt=0, allow_inf_nan=False)
    discriminator_lr: float = Field(1e-3, gt=0, allow_inf_nan=False)
    discriminator_width: int = Field(32, ge=1)
    discriminator_layers: int = Field(2, ge=1, le=5)
    begin: float = Field(0.1, ge=0, le=1)
    ramp: float = Field(0.1, ge=0, le=1)
    points: int = Field(5, ge=1)
    features: tuple[Space, ...] = ("effnet", "pixels")

    @field_validator("weights")
    @classmethod
    def _comparable(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 <= weight < math.inf for weight in value) or len(set(value)) < len(value):
            raise ValueError("finite numbers ≥ 0, each once, are accepted")
        if 0.0 not in value or len(value) < 2:
            raise ValueError("0, which the others are compared with, and at least one more are needed")
        return value

    @field_validator("features")
    @classmethod
    def _some(cls, value: tuple[Space, ...]) -> tuple[Space, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError("one or both of effnet and pixels, each once, are accepted")
        return value
