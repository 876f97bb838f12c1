"""Where the vectors come from, and the limits that hold for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from codebound.data import images
from codebound.data.low_rank import LowRank
from codebound.limits.compute import estimated_limits
from codebound.nets.linear import PCA
from codebound.studies.estimators.settings import Settings
from codebound.studies.framework.cells import stream
from codebound.theory import bounds, gaussian

_BOUND_DIMS = 8  # coordinates from which the bound on photographs is estimated


@dataclass(frozen=True)
class Limits:
    """Distortions of the whole vector at a rate of log2 K bits; None where not defined.

    `shannon`: no code of this rate can do better (water-filling; the Shannon lower bound where the source is not
    Gaussian; an estimate with its ends for photographs). `restricted`: the same for codes that drop all but the
    first m principal coordinates, for a Gaussian. `gaussian_reference`: what a Gaussian of equal covariance would
    need, which others may beat.
    """

    shannon: float
    shannon_low: float | None
    shannon_high: float | None
    restricted: float | None
    gaussian_reference: float


@dataclass(frozen=True)
class Problem:
    """One draw of a source: float64 vectors of zero mean."""

    train: Float[Tensor, "n d"]
    test: Float[Tensor, "t d"]
    fresh: Float[Tensor, "f d"]
    draw: Callable[[int], Tensor]  # so many vectors more, for the reference
    pca: Float[Tensor, "d m"]  # of the training set
    eigenvalues: Float[np.ndarray, " d"]
    limits: Callable[[int], Limits]  # by K


def generator(source: str, seed: int, purpose: str) -> torch.Generator:
    """A stream of its own for each purpose: a seed redraws all of them together, and all arms share them."""
    return stream("estimators", source, seed, purpose)


def draw(settings: Settings, source: str, seed: int) -> Problem:
    """The vectors of one seed, with their limits."""
    return _photos(settings, seed) if source == "photos" else _low_rank(settings, source, seed)


def _low_rank(settings: Settings, source: str, seed: int) -> Problem:
    kind = source if source in ("mixture", "laplace") else "gaussian"
    model = LowRank.draw(
        kind,
        settings.high_dim if source == "high" else settings.dim,
        settings.spectrum,
        seed=seed,
        noise=settings.noise if source == "noisy" else 0.0,
        components=settings.mixture_components,
        width=settings.mixture_width,
    )
    streams = {name: generator(source, seed, name) for name in ("train", "test", "fresh", "reference")}
    train = model.sample(settings.train_samples, streams["train"])

    def limits(size: int) -> Limits:
        rate = math.log2(size)
        reference = gaussian.water_filling(model.eigenvalues, rate).distortion
        if kind != "gaussian":
            return Limits(lower_bound(model, rate), None, None, None, reference)
        kept, dropped = np.split(model.eigenvalues, [settings.latent_dim])
        restricted = gaussian.water_filling(kept, rate).distortion + float(dropped.sum())
        return Limits(reference, None, None, restricted, reference)

    # A gigabyte of vectors at D = 512 would say little more.
    fresh = min(settings.fresh_samples, max(2, 64 * settings.fresh_samples // model.axes.shape[0]))
    return Problem(
        train=train,
        test=model.sample(settings.test_samples, streams["test"]),
        fresh=model.sample(fresh, streams["fresh"]),
        draw=lambda n: model.sample(n, streams["reference"]),
        pca=PCA.fit(train, settings.latent_dim).axes,
        eigenvalues=model.eigenvalues,
        limits=limits,
    )


def _photos(settings: Settings, seed: int) -> Problem:
    """Luminance patches, less the training mean, scaled to the Gaussian's total variance."""
    counts = {"train": settings.train_samples, "test": settings.test_samples, "fresh": settings.fresh_samples}
    parts = {
        name: images.photo_patches(
            "train" if name == "train" else "held_out", n, generator=generator("photos", seed, name)
        ).double()
        for name, n in counts.items()
    }
    mean = parts["train"].mean(0)
    scale = math.sqrt(settings.spectrum.sum() / float((parts["train"] - mean).square().sum(-1).mean()))
    train, test, fresh = ((parts[name] - mean) * scale for name in counts)
    stream = generator("photos", seed, "reference")

    def more(n: int) -> Tensor:
        return (images.photo_patches("held_out", n, generator=stream).double() - mean) * scale

    eigenvalues = gaussian.spectrum(np.cov(fresh.numpy().T))
    # The first coordinates' bound holds for the whole vector: the others' errors are not negative.
    bound_on = torch.unique(PCA.fit(fresh, _BOUND_DIMS).encode(fresh), dim=0)
    rows = bound_on.numpy()[np.random.default_rng(0).permutation(len(bound_on))]

    def limits(size: int) -> Limits:
        estimate = estimated_limits(rows, size)
        reference = gaussian.water_filling(eigenvalues, math.log2(size)).distortion
        return Limits(estimate.shannon, estimate.shannon_low, estimate.shannon_high, None, reference)

    pca = PCA.fit(train, settings.latent_dim).axes
    return Problem(train, test, fresh, more, pca, eigenvalues, limits)


def lower_bound(source: LowRank, rate_bits: float | int) -> float:
    """A distortion that no code of this rate can have less than, for the sources without noise.

    The Shannon lower bound of the first k coordinates bounds the whole vector's distortion too, as the others'
    errors are not negative; the largest over k is taken. For the Gaussian use water-filling, which is tight.
    """
    ranks = range(1, len(source.spectrum) + 1)
    return max(bounds.shannon_lower_bound(source.entropy_bits(k), k, rate_bits) for k in ranks)
