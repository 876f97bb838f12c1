"""What can be set in the utilisation study."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from codebound import config
from codebound.runs import settings as runs
from codebound.studies.utilisation.arms import ARMS, BASELINE, WITHOUT_START
from codebound.tasks.tokenizer import TokenizerOptimization


class Settings(TokenizerOptimization, runs.TokenizerNetworks, runs.PictureData):
    """Equal networks, steps, crops and held-out pictures for every arm; how many arms, sizes and seeds."""

    CHOOSES: ClassVar = frozenset({
        "arms", "sizes", "seeds", "bad_start_size", "bad_start_arms", "large_sizes", "large_arms", "huge_sizes",
        "huge_arms", "fewer_seeds", "first_seed", *runs.Settings.CHOOSES,
    })  # fmt: skip

    arms: tuple[str, ...] = Field(tuple(ARMS), description="at `sizes`")
    sizes: tuple[int, ...] = (256, 512)
    seeds: int = Field(5, ge=1)
    bad_start_size: int | None = Field(512, description="K at which arms also begin from a bad start")
    bad_start_arms: tuple[str, ...] = ("vq-ema", "vq-ema-norevival", "ba", "ba-0", "ba-norevival", "gradient")
    large_sizes: tuple[int, ...] = (4096, 16384)
    large_arms: tuple[str, ...] = ("vq-ema", "vq-ema-fast", "ba", "gradient", "rotation", "simvq", "fsq")
    huge_sizes: tuple[int, ...] = (65536,)
    huge_arms: tuple[str, ...] = ("vq-ema", "rotation", "simvq", "fsq")
    fewer_seeds: int = Field(3, ge=1, description="from a bad start and of large codebooks")
    first_seed: int = Field(0, ge=0)

    # Where the study differs from `codebound train`.
    width: int = Field(32, ge=1)
    steps: int = Field(1000, ge=1)
    batch_size: int = Field(64, ge=1)
    held_out: int = Field(5120, ge=1, description="crops: 5 tokens for each of 65,536 codewords")
    evaluations: int = Field(5, ge=1, description="points of a training curve")

    @field_validator("arms", "bad_start_arms", "large_arms", "huge_arms")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [arm for arm in value if arm not in ARMS]:
            raise ValueError(f"unknown arm {unknown[0]!r}; known: {', '.join(ARMS)}")
        return value

    @field_validator("bad_start_arms")
    @classmethod
    def _can_begin_badly(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if without := [arm for arm in value if arm in WITHOUT_START]:
            raise ValueError(f"{without[0]} does not begin from data; it has no bad start")
        return value

    @model_validator(mode="after")
    def _has_baseline(self) -> Settings:
        if BASELINE not in self.arms:
            raise ValueError(f"arms must include {BASELINE}: the others are compared with it")
        return self

    def training(self, codebook_size: int, seed: int) -> runs.Settings:
        """The settings of one training, as `codebound train` has them."""
        return config.part(runs.Settings, self, codebook_size=codebook_size, seed=seed)
