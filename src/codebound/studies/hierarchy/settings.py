"""What can be set in the hierarchy study."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from codebound.runs.settings import PictureData
from codebound.studies.framework.networks import StudyNetworks
from codebound.studies.framework.pictures import refuse_augmentation

NAMES = ("one", "two", "three", "two-0", "two-50")
Space = Literal["pixels", "effnet"]


class Settings(StudyNetworks, PictureData):
    """Equal networks, steps and pictures for every arm; how many arms and seeds, and how large the prior.

    Attributes:
        arms: levels, with or without the fine codes left out in training.
        bits: log₂ K over all tokens of a picture; the arms that are variants are trained at the largest alone.
        samples: pictures in each set whose distances are measured, at the largest number of bits.
        features: what samples are compared in; "effnet" needs the extra `perceptual`, and is left out without it.
    """

    CHOOSES: ClassVar = frozenset({"arms", "bits", "seeds", "workers"})

    arms: tuple[str, ...] = NAMES
    bits: tuple[float, ...] = Field((384.0, 576.0), min_length=1)
    held_out: int = Field(1024, ge=32)  # pyright: ignore[reportIncompatibleVariableOverride]
    depth: int = Field(1, ge=1)
    steps: int = Field(800, ge=1)
    prior_steps: int = Field(500, ge=1)
    prior_width: int = Field(64, ge=1)
    prior_depth: int = Field(2, ge=1)
    samples: int = Field(400, ge=16)
    features: tuple[Space, ...] = ("pixels", "effnet")

    @field_validator("arms")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [arm for arm in value if arm not in NAMES]:
            raise ValueError(f"unknown arm {unknown[0]!r}; known: {', '.join(NAMES)}")
        if "one" not in value:
            raise ValueError("arms must include one: the others are compared with it")
        return value

    @model_validator(mode="after")
    def _as_they_are(self) -> Settings:
        refuse_augmentation(self)
        return self
