"""What can be set in the utilisation study."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from codebound import config
from codebound.runs.settings import Settings as RunSettings
from codebound.studies.utilisation.arms import ARMS, BASELINE

QUICK = {
    "sizes": (256,),
    "arms": ("vq-ema", "vq-ema-norevival", "ba-documents-hard", "ba", "fsq"),
    "bad_start_size": None,
    "large_sizes": (2048,),
    "large_arms": ("vq-ema", "fsq"),
    "huge_sizes": (),
    "seeds": 2,
    "fewer_seeds": 2,
    "steps": 150,
    "held_out": 1024,
    "init_tokens": 8192,
}


class Settings(config.Settings):
    """Equal network, steps, crops and held-out set for every arm."""

    CHOOSES: ClassVar = frozenset({
        "arms", "sizes", "seeds", "bad_start_size", "bad_start_arms", "large_sizes", "large_arms", "huge_sizes",
        "huge_arms", "fewer_seeds", "first_seed",
    })  # fmt: skip

    arms: tuple[str, ...] = Field(tuple(ARMS), description="at `sizes`")
    sizes: tuple[int, ...] = (256, 512)
    seeds: int = Field(5, ge=1)
    bad_start_size: int | None = Field(512, description="K at which arms also begin from a bad start")
    bad_start_arms: tuple[str, ...] = ("vq-ema", "vq-ema-norevival", "ba", "ba-0", "ba-norevival", "gradient")
    large_sizes: tuple[int, ...] = (4096, 16384)
    large_arms: tuple[str, ...] = ("vq-ema", "vq-ema-fast", "ba", "rotation", "simvq", "fsq")
    huge_sizes: tuple[int, ...] = (65536,)
    huge_arms: tuple[str, ...] = ("vq-ema", "rotation", "simvq", "fsq")
    fewer_seeds: int = Field(3, ge=1, description="from a bad start and of large codebooks")
    first_seed: int = Field(0, ge=0)

    data: str = "photos"
    dim: int = Field(16, ge=1)
    width: int = Field(32, ge=1)
    depth: int = Field(2, ge=0)
    stride: int = 4
    crop: int = Field(32, ge=1)
    steps: int = Field(1000, ge=1)
    batch_size: int = Field(64, ge=1)
    lr: float = Field(6e-3, gt=0)
    codebook_lr: float = Field(6e-3, gt=0)
    commitment: float = Field(0.25, ge=0)
    held_out: int = Field(5120, ge=1, description="crops: 5 tokens for each of 65,536 codewords")
    init_tokens: int = Field(16384, ge=1)
    evaluations: int = Field(5, ge=1, description="points of a training curve")

    @field_validator("arms", "bad_start_arms", "large_arms", "huge_arms")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [arm for arm in value if arm not in ARMS]:
            raise ValueError(f"unknown arm {unknown[0]!r}; known: {', '.join(ARMS)}")
        return value

    @model_validator(mode="after")
    def _has_baseline(self) -> Settings:
        if BASELINE not in self.arms:
            raise ValueError(f"arms must include {BASELINE}: the others are compared with it")
        return self

    def run(self, codebook_size: int, seed: int) -> RunSettings:
        """The settings of a training, as `codebound train` has them."""
        same = (
            "data", "dim", "width", "depth", "stride", "crop", "steps", "batch_size", "lr", "codebook_lr",
            "commitment", "held_out", "init_tokens",
        )  # fmt: skip
        values = {name: getattr(self, name) for name in same}
        return RunSettings(codebook_size=codebook_size, seed=seed, **values)
