"""What can be set in the estimators study."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from codebound import config
from codebound.nets.linear import Retraction

SourceName = Literal["gaussian", "mixture", "laplace", "noisy", "high", "photos"]
NetworkSource = Literal["gaussian", "mixture", "photos"]

_AT_MOST = (  # the first is no more than the second
    ("latent_dim", "rank"),
    ("rank", "dim"),
    ("rank", "high_dim"),
    ("bottom_variance", "top_variance"),
    ("steps", "long_steps"),
    *((size, "train_samples") for size in ("batch_size", "mlp_batch", "codebook_size", "high_codebook_size")),
)


class Settings(config.Settings):
    """Defaults are the report's; `--quick` and `--full` change seeds, sources and sizes."""

    CHOOSES: ClassVar = frozenset({"seeds", "first_seed"})

    sources: tuple[SourceName, ...] = ("gaussian", "mixture", "laplace")
    mlp_sources: tuple[NetworkSource, ...] = Field(
        (), description="sources on which a non-linear autoencoder is trained too"
    )
    seeds: int = Field(5, ge=1)
    first_seed: int = Field(42, ge=0)

    dim: int = Field(64, ge=2, description="D, of the vectors")
    latent_dim: int = Field(4, ge=1, description="m, of the latents")
    rank: int = Field(6, ge=1, description="of the source's covariance")
    top_variance: float = Field(4.0, gt=0, description="the spectrum is geomspace(top, bottom, rank)")
    bottom_variance: float = Field(0.25, gt=0)
    codebook_size: int = Field(32, ge=2, description="K of every comparison but the scaling")
    codebook_sizes: tuple[int, ...] = Field((8, 16, 64), description="K, further ones for the scaling plot")
    train_samples: int = Field(20_000, ge=2)
    test_samples: int = Field(4_000, ge=2, description="held out, at every evaluation")
    fresh_samples: int = Field(50_000, ge=2, description="held out, for the results")
    reference_samples: int = Field(200_000, ge=2, description="drawn for the optimal-quantizer reference")
    restarts: int = Field(20, ge=2, description="of PCA + Lloyd at codebook_size")
    other_restarts: int = Field(4, ge=1, description="of PCA + Lloyd at the other K")
    lloyd_tolerance: float = Field(1e-4, gt=0, description="relative gain at which Lloyd stops")

    steps: int = Field(300, ge=1, description="where results are taken")
    long_steps: int = Field(500, ge=1, description="to which the curves go on")
    evaluate_every: int = Field(20, ge=1)
    batch_size: int = Field(1024, ge=1)
    lr_encoder: float = Field(0.08, ge=0)
    lr_codebook: float = Field(0.2, ge=0)
    tuned_factor: float = Field(10.0, gt=0, description="by which the tuned protocol raises lr_codebook")
    commitment: float = Field(0.25, ge=0, description="β")
    commitments: tuple[float, ...] = Field((0.0, 0.1, 0.25, 0.5, 1.0), description="β of the ablation")
    codebook_weight: float = Field(1.0, ge=0, description="α")
    retraction: Retraction = "polar"

    mixture_components: int = Field(24, ge=2)
    mixture_width: float = Field(
        0.25, gt=0, description="a cluster's standard deviation beside the centres' 1"
    )
    noise: float = Field(0.2, ge=0, description="σ of the source 'noisy', in all D dimensions")
    high_dim: int = Field(512, ge=2, description="D of the source 'high'")
    high_codebook_size: int = Field(512, ge=2, description="K on the source 'high'")
    high_restarts: int = Field(4, ge=1)

    verify_steps: int = Field(100, ge=1, description="of manual against autograd")
    timing_rounds: int = Field(30, ge=0, description="of the interleaved timing; 0 leaves it out")
    timing_compiled: bool = Field(True, description="whether torch.compile takes part in the timing")
    mlp_steps: int = Field(1_500, ge=1)
    mlp_batch: int = Field(256, ge=1)
    mlp_width: int = Field(64, ge=1)
    mlp_lr: float = Field(2e-3, gt=0, description="Adam, networks and codebook")

    @field_validator("sources", "mlp_sources", "codebook_sizes", "commitments", mode="before")
    @classmethod
    def _one_is_enough(cls, value: object) -> object:
        return (value,) if isinstance(value, str | int | float) else value

    @field_validator("codebook_sizes")
    @classmethod
    def _sizes(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        _require(all(k >= 2 for k in value), f"codebook_sizes must be 2 or more; got {list(value)}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        # Lists.
        chosen, betas = {*self.sources, *self.mlp_sources}, list(self.commitments)
        _require(bool(self.sources), "sources must name at least one")
        for name in ("sources", "mlp_sources", "codebook_sizes", "commitments"):
            values = getattr(self, name)
            _require(len(set(values)) == len(values), f"{name} names one twice")
        alone = f"mlp_sources={list(self.mlp_sources)} must be among sources={list(self.sources)}"
        _require(chosen == set(self.sources), f"{alone}: they share their limits")
        _require(min(betas, default=0) >= 0, f"commitments must be ≥ 0; got {betas}")
        _require(self.commitment in betas, f"commitment={self.commitment} must be one of commitments={betas}")
        theory = "theory names them (β = 0 is PCA, β = 1 the exact gradient)"
        _require({0.0, 1.0} <= set(betas), f"commitments must hold 0 and 1: {theory}")

        # Sizes, beside one another.
        for small, large in _AT_MOST:
            values = getattr(self, small), getattr(self, large)
            _require(values[0] <= values[1], f"{small}={values[0]} must be at most {large}={values[1]}")
        most = max(self.codebook_sizes, default=2)
        samples = f"train_samples={self.train_samples}"
        _require(most <= self.train_samples, f"codebook_sizes go up to {most}, more than {samples}")
        every = f"evaluate_every={self.evaluate_every} must divide steps={self.steps}"
        _require(self.steps % self.evaluate_every == 0, every)

        # What a source needs.
        clusters = f"mixture_components={self.mixture_components} must be more than rank={self.rank}"
        _require("mixture" not in chosen or self.mixture_components > self.rank, clusters)
        patches = f"the source 'photos' is of 8×8 patches: dim=64, got {self.dim}"
        _require("photos" not in chosen or self.dim == 64, patches)
        return self

    @property
    def spectrum(self) -> np.ndarray:
        """The variances of the source's coordinates, descending."""
        return np.geomspace(self.top_variance, self.bottom_variance, self.rank)

    def sizes(self, source: SourceName) -> tuple[int, ...]:
        """The codebook sizes trained on a source, the main one first."""
        if source == "high":
            return (self.high_codebook_size,)
        more = self.codebook_sizes if source in ("gaussian", "mixture", "laplace") else ()
        return (self.codebook_size, *(k for k in more if k != self.codebook_size))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
