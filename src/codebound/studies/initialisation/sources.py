"""Where the latents come from, and the limits that hold for them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from codebound.data import arrays, images
from codebound.data.linear_gaussian import LinearGaussian
from codebound.errors import InputError
from codebound.limits.compute import (
    EstimatedLimits,
    estimated_limits,
    gaussian_limits,
    read_vectors,
    vector_limits,
)
from codebound.nets.linear import PCA
from codebound.studies.framework.cells import stream
from codebound.studies.initialisation.settings import Settings, SourceName
from codebound.theory import gaussian
from codebound.theory.entropy import least_rows


@dataclass(frozen=True)
class Limits:
    """Distortions, summed over the latent dimensions, at this rate; None where not defined.

    `shannon` is the bound of a known source, or the Shannon lower bound from an entropy estimate with the
    interval (`shannon_low`, `shannon_high`). `gaussian_reference` is what the water-filled Gaussian of equal
    covariance would need: for real data an upper bound on D(R), so a result may lie below it.
    `isotropic_formula` is the proposal's kσ̄²2^(−2R/k), a bound only if all variances are equal.
    """

    shannon: float
    gaussian_reference: float
    isotropic_formula: float
    shannon_low: float | None = None
    shannon_high: float | None = None
    converse: float | None = None
    random_codebook: float | None = None
    best_known: float | None = None


class Latents(NamedTuple):
    """One draw of a source, encoded. Floors are the reconstruction error of the dropped dimensions.

    Floors, variance and limits are in the units in which results are given; a squared length of the latents is `unit`
    of these.
    """

    train: Float[Tensor, "n k"]
    held_out: Float[Tensor, "m k"]  # `final_samples` of them, or what there is
    train_floor: float
    held_out_floor: float
    variance: float  # mean per latent dimension
    limits: Limits
    unit: float = 1.0


def generator(source: str, seed: int, purpose: str) -> torch.Generator:
    """A stream of its own for each purpose: a seed redraws all of them together, and all arms share them."""
    return stream(source, seed, purpose)


def draw(settings: Settings, source: SourceName, seed: int) -> Latents:
    """The latents of one seed.

    Raises:
        InputError: data that can't be used (too few rows, more latent dimensions than columns, …).
    """
    if source == "photos":
        return _photos(settings, seed)
    if source == "data":
        return _data(settings, seed)
    return _linear_gaussian(settings, source, seed)


def _linear_gaussian(settings: Settings, kind: SourceName, seed: int) -> Latents:
    model = LinearGaussian.draw(kind, settings.ambient_dim, settings.dim, settings.noise, seed=seed)
    stream = generator(kind, seed, "samples")
    encoder = PCA(torch.from_numpy(np.ascontiguousarray(model.principal_axes)).float())
    train = model.sample(settings.train_samples, generator=stream)
    held_out = model.sample(settings.final_samples, generator=stream)
    known = gaussian_limits(np.diag(model.latent_covariance), settings.codebook_size)
    limits = Limits(
        shannon=known.shannon,
        gaussian_reference=known.shannon,
        isotropic_formula=_isotropic_formula(settings, model.latent_variance),
        converse=known.converse,
        random_codebook=known.random_codebook,
        best_known=known.best_known,
    )
    return _encode(encoder, train, held_out, 1.0, limits)


def _photos(settings: Settings, seed: int) -> Latents:
    streams = [generator("photos", seed, name) for name in ("train", "held_out")]
    train = images.photo_patches("train", settings.train_samples, generator=streams[0])
    held_out = images.photo_patches("held_out", settings.final_samples, generator=streams[1])
    encoder = PCA.fit(train, settings.dim)
    scale = _scale(encoder, train)
    # The same place of a photograph may be among them twice; elsewhere equal rows are a sign of discrete data.
    z = torch.unique(encoder.encode(held_out) * scale, dim=0).double().numpy()
    return _encode(encoder, train, held_out, scale, _estimated(settings, z))


def _data(settings: Settings, seed: int) -> Latents:
    """The user's vectors, split anew by each seed; everything is reported in their own units."""
    vectors = _load(settings)
    parts = arrays.split(vectors, seed=seed)
    counts = (settings.train_samples, settings.final_samples)
    rows = []
    for name, part, count in zip(("train", "held_out"), parts, counts, strict=True):
        order = torch.randperm(len(part.values), generator=generator("data", seed, name))
        rows.append(part.values.float()[order[:count]])
    train, held_out = rows
    encoder = PCA.fit(train, settings.dim)

    # At the data's own dimension the limits are those of `codebound limits data`; at fewer, of what PCA keeps.
    if settings.dim == vectors.values.shape[1]:
        split = 0 if vectors.groups is None else seed
        estimate = _own_estimate(settings.data or "", settings.axis, settings.codebook_size, split)
        limits = _limits(settings, estimate, vectors.values.double().numpy())
    else:
        limits = _estimated(settings, encoder.encode(held_out).double().numpy())
    scale = _scale(encoder, train)
    return _encode(encoder, train, held_out, scale, limits, unit=scale**-2)


def _load(settings: Settings) -> arrays.Vectors:
    return _read(settings.data or "", settings.axis)


@lru_cache(maxsize=1)
def _read(path: str, axis: int | None) -> arrays.Vectors:
    return read_vectors(path, axis)


def columns(settings: Settings) -> int:
    """The dimension of the user's vectors."""
    return _load(settings).values.shape[1]


def data_digest(settings: Settings) -> str:
    """SHA-256 of the user's vectors as they were read: a resumed run must see the same."""
    return hashlib.sha256(_load(settings).values.numpy().tobytes()).hexdigest()


def check_data(settings: Settings) -> None:
    """Refuse the user's data before anything is written; fewer rows than the sample sizes ask for are all used.

    Raises:
        InputError: fewer training rows than codewords, too few for an entropy estimate, more latent dimensions than
            columns, singular covariance.
    """
    vectors = _load(settings)
    rows, most = vectors.values.shape
    if settings.dim > most:
        raise InputError(
            f"dim={settings.dim} latent dimensions are more than the {most} columns of {vectors.name}; "
            f"give --set dim={most} or less"
        )
    train, held_out = (len(part.values) for part in arrays.split(vectors, seed=settings.first_seed))
    if train < settings.rows_needed:
        raise InputError(
            f"{vectors.name} has {rows} rows, {train} of them for training; codebook_size="
            f"{settings.codebook_size} needs {settings.rows_needed}; "
            f"give --set codebook_size={max(2, train // 4)} or less"
        )
    least = least_rows(settings.dim)
    if held_out < least and settings.dim < most:
        raise InputError(
            f"{settings.data} has {rows} rows, {held_out} of them held out; estimating their limit needs {least} "
            f"held out, some {5 * least} rows in all"
        )
    draw(settings, "data", settings.first_seed)  # what only the estimate refuses: discrete data


@lru_cache(maxsize=1)
def _own_estimate(path: str, axis: int | None, codebook_size: int, seed: int) -> EstimatedLimits:
    """Of the vectors themselves, as `codebound limits data` gives it; of an array it is the same for every split."""
    vectors = _read(path, axis)
    held_out = arrays.split(vectors, seed=seed)[1]
    return vector_limits(vectors, held_out, codebook_size, seed, path)


def _estimated(settings: Settings, z: np.ndarray) -> Limits:
    """From latents that were held out, in an order of their own."""
    shuffled = z[np.random.default_rng(0).permutation(len(z))]
    return _limits(settings, estimated_limits(shuffled, settings.codebook_size), shuffled)


def _limits(settings: Settings, estimate: EstimatedLimits, z: np.ndarray) -> Limits:
    return Limits(
        shannon=estimate.shannon,
        shannon_low=estimate.shannon_low,
        shannon_high=estimate.shannon_high,
        gaussian_reference=estimate.gaussian_reference,
        isotropic_formula=_isotropic_formula(settings, float(z.var(axis=0, ddof=1).mean())),
    )


def _isotropic_formula(settings: Settings, variance: float) -> float:
    return gaussian.distortion_rate(math.log2(settings.codebook_size), settings.dim, variance)


def _scale(encoder: PCA, train: Tensor) -> float:
    """To mean variance 1, so that learning rates mean the same as on the other sources."""
    return float(encoder.encode(train).var(0).mean().rsqrt())


def _encode(
    encoder: PCA, train: Tensor, held_out: Tensor, scale: float, limits: Limits, unit: float = 1.0
) -> Latents:
    def both(x: Tensor) -> tuple[Tensor, float]:
        z = encoder.encode(x)
        floor = (x - encoder.decode(z)).square().sum(-1).double().mean()
        return z * scale, float(floor) * scale**2 * unit

    z, train_floor = both(train)
    fresh, held_out_floor = both(held_out)
    return Latents(z, fresh, train_floor, held_out_floor, float(z.var(0).mean()) * unit, limits, unit)
