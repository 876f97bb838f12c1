"""What can be set in the generation study."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from codebound.generators.kinds import Kind as TransformerKind
from codebound.runs.settings import PictureData
from codebound.studies.framework.networks import StudyNetworks
from codebound.studies.framework.pictures import refuse_augmentation

Kind = TransformerKind | Literal["neighbours"]


class Settings(StudyNetworks, PictureData):
    """Equal networks and steps for every codebook size and kind of prior.

    Attributes:
        sizes: K of the tokenizers.
        priors: kinds; "neighbours" is the integer prior of files, which knows no classes.
        guidances: with which samples of priors that know classes are drawn.
        neighbour_steps, neighbour_hidden: of the integer prior; the report says how many seconds each prior took.
        samples: pictures in each set, of all classes alike.
        judge_steps: of the classifier in whose features pictures are compared.
    """

    CHOOSES: ClassVar = frozenset({"seeds", "sizes", "workers"})

    data: str = "fashion-mnist"
    sizes: tuple[int, ...] = Field((64, 512), min_length=1)
    priors: tuple[Kind, ...] = Field(("autoregressive", "masked", "neighbours"), min_length=1)
    guidances: tuple[float, ...] = Field((1.0, 1.5, 2.0), min_length=1)
    temperature: float = Field(1.0, gt=0)
    held_out: int = Field(1024, ge=32)  # pyright: ignore[reportIncompatibleVariableOverride]
    depth: int = Field(2, ge=0)
    steps: int = Field(800, ge=1)
    prior_steps: int = Field(600, ge=1)
    prior_width: int = Field(80, ge=1)
    prior_depth: int = Field(3, ge=1)
    neighbour_steps: int = Field(5000, ge=1)
    neighbour_hidden: int = Field(192, ge=1)
    samples: int = Field(500, ge=20)
    judge_steps: int = Field(400, ge=1)

    @model_validator(mode="after")
    def _as_they_are(self) -> Settings:
        refuse_augmentation(self)
        return self
