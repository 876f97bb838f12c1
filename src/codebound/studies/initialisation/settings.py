"""What can be set in the initialisation study."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from codebound import config
from codebound.quantize.init import Best

SourceName = Literal["isotropic", "anisotropic", "raw", "photos", "data"]
ArmName = Literal[
    "uniform", "kmeans", "rd_gaussian", "water_filling", "finite", "sample", "sample_lloyd", "kmeans_pp", "kmeans_all",
    "synthetic", "lattice", "best",
]  # fmt: skip
ARMS: tuple[ArmName, ...] = ArmName.__args__
PROPOSED: tuple[ArmName, ...] = ("uniform", "kmeans", "rd_gaussian")


class Settings(config.Settings):
    """Defaults are the proposal's."""

    CHOOSES: ClassVar = frozenset({"sources", "seeds", "first_seed"})

    sources: tuple[SourceName, ...] = ("isotropic", "anisotropic", "raw", "photos")
    arms: tuple[ArmName, ...] = ARMS
    tuned_arms: tuple[ArmName, ...] = Field(
        PROPOSED, description="arms that are also trained by Adam 1e-2 cosine and by EMA"
    )
    seeds: int = Field(8, ge=1)
    first_seed: int = Field(42, ge=0)
    data: str | None = Field(None, description="the user's own vectors, for the source 'data'")
    axis: int | None = Field(None, description="of an array in `data`, along which a vector lies")

    codebook_size: int = Field(256, ge=2, description="n, codewords")
    dim: int = Field(8, ge=1, description="k, latent dimensions")
    ambient_dim: int = Field(64, ge=1, description="d of the linear-Gaussian source")
    noise: float = Field(0.1, ge=0, description="σ of the linear-Gaussian source")
    train_samples: int = Field(10_000, ge=2)
    fresh_samples: int = Field(10_000, ge=2, description="held out, at every evaluation")
    final_samples: int = Field(100_000, ge=2, description="held out, before step 0 and at the end")
    init_batch: int = Field(1_000, ge=2, description="latents that an init may look at")

    steps: int = Field(5_000, ge=1)
    evaluate_every: int = Field(50, ge=1)
    batch_size: int = Field(128, ge=1)
    lr: float = Field(1e-3, gt=0, description="Adam, the proposal's setting")
    tuned_lr: float = Field(1e-2, gt=0, description="Adam with a cosine schedule")
    ema_decay: float = Field(0.99, ge=0, lt=1)

    @field_validator("sources", "arms", mode="before")
    @classmethod
    def _one_is_enough(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        _require(bool(self.sources) and bool(self.arms), "sources and arms must name at least one each")
        _require(len(set(self.sources)) == len(self.sources), "sources names one twice")
        _require(len(set(self.arms)) == len(self.arms), "arms names one twice")
        _require(("data" in self.sources) == (self.data is not None), "source 'data' and --data go together")
        linear = {"isotropic", "anisotropic", "raw"} & set(self.sources)
        _require(
            not linear or self.dim <= self.ambient_dim,
            f"dim={self.dim} latent dimensions are more than ambient_dim={self.ambient_dim}",
        )
        _require(
            self.init_batch <= self.train_samples,
            f"init_batch={self.init_batch} is more than train_samples={self.train_samples}",
        )
        _require(
            self.codebook_size <= self.init_batch,
            f"codebook_size={self.codebook_size} needs at least as many rows; init_batch={self.init_batch}",
        )
        _require(
            self.rows_needed <= self.init_batch,
            f"arm 'best' holds out a part of init_batch={self.init_batch}, which leaves too few rows for "
            f"codebook_size={self.codebook_size}; give at least {self.rows_needed} or leave 'best' out of arms",
        )
        _require(
            self.batch_size <= self.train_samples,
            f"batch_size={self.batch_size} is more than train_samples={self.train_samples}",
        )
        _require(
            self.fresh_samples <= self.final_samples,
            f"fresh_samples={self.fresh_samples} are the first of final_samples={self.final_samples}",
        )
        return self

    @property
    def rows_needed(self) -> int:
        """Latents that every arm can begin a codebook from."""
        kept = 1.0 - Best().held_out if "best" in self.arms else 1.0
        return math.ceil(self.codebook_size / kept)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
