"""Where the latents come from, and the limits that hold for them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from codebound.data import arrays, images
from codebound.data.linear_gaussian import LinearGaussian
from codebound.errors import InputError
from codebound.nets.linear import PCA
from codebound.studies.initialisation.settings import Settings, SourceName
from codebound.theory import bounds, finite, gaussian
from codebound.theory.converse import converse
from codebound.theory.entropy import differential_entropy

TITLES: dict[SourceName, str] = {
    "isotropic": "Linear-Gaussian, isotropic (unit variances)",
    "anisotropic": "Linear-Gaussian, Σ = BBᵀ, mean variance 1",
    "raw": "Linear-Gaussian, Σ = BBᵀ as documented",
    "photos": "Photograph patches, 8×8 luminance, PCA",
    "data": "Your data",
}


@dataclass(frozen=True)
class Limits:
    """Distortions, summed over the latent dimensions, at this rate; None where not defined.

    `shannon` is the bound of a known source, or the Shannon lower bound from an entropy estimate with the
    interval (`shannon_low`, `shannon_high`). `gaussian_reference` is what the water-filled Gaussian of equal
    covariance would need: for real data an upper bound on D(R), so a result may lie below it.
    `isotropic_formula` is the documents' kσ̄²2^(−2R/k), a bound only if all variances are equal.
    """

    shannon: float | None
    shannon_low: float | None
    shannon_high: float | None
    gaussian_reference: float
    isotropic_formula: float
    converse: float | None
    random_codebook: float | None
    best_known: float | None


class Latents(NamedTuple):
    """One draw of a source, encoded. Floors are the reconstruction error of the dropped dimensions."""

    train: Float[Tensor, "n k"]
    held_out: Float[Tensor, "m k"]  # `final_samples` of them, or what there is
    train_floor: float
    held_out_floor: float
    variance: float  # mean per latent dimension
    limits: Limits


def generator(settings: Settings, source: str, seed: int, purpose: str) -> torch.Generator:
    """A stream of its own for each purpose: a seed redraws all of them together, and all arms share them."""
    digest = hashlib.sha256(f"{source}/{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


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
    stream = generator(settings, kind, seed, "samples")
    encoder = PCA(torch.from_numpy(np.ascontiguousarray(model.principal_axes)).float())
    train = model.sample(settings.train_samples, generator=stream)
    held_out = model.sample(settings.final_samples, generator=stream)
    spectrum = np.diag(model.latent_covariance)
    shannon = gaussian.water_filling(spectrum, math.log2(settings.codebook_size)).distortion
    limits = _limits(settings, spectrum, shannon=shannon, isotropic=kind == "isotropic")
    return _encode(encoder, train, held_out, 1.0, limits)


def _photos(settings: Settings, seed: int) -> Latents:
    train = images.photo_patches(
        "train", settings.train_samples, generator=generator(settings, "photos", seed, "train")
    )
    held_out = images.photo_patches(
        "held_out", settings.final_samples, generator=generator(settings, "photos", seed, "held_out")
    )
    return _real(settings, train, held_out)


def _data(settings: Settings, seed: int) -> Latents:
    train, held_out = arrays.split(_load(settings.data or ""), seed=seed)
    rows = {"train": train.values.float(), "held_out": held_out.values.float()}
    wanted = {"train": settings.train_samples, "held_out": settings.final_samples}
    for name, values in rows.items():
        order = torch.randperm(len(values), generator=generator(settings, "data", seed, name))
        rows[name] = values[order[: wanted[name]]]
    return _real(settings, rows["train"], rows["held_out"])


@lru_cache(maxsize=1)
def _load(path: str) -> arrays.Vectors:
    return arrays.load_vectors(path, count=50_000)


def check_data(settings: Settings) -> None:
    """Refuse the user's data before anything is written; fewer rows than the sample sizes ask for are all used.

    Raises:
        InputError: fewer training rows than codewords, more latent dimensions than columns, singular covariance.
    """
    vectors = _load(settings.data or "")
    rows, columns = vectors.values.shape
    if settings.dim > columns:
        raise InputError(
            f"dim={settings.dim} latent dimensions are more than the {columns} columns of {vectors.name}; "
            f"give --set dim={columns} or less"
        )
    train = len(arrays.split(vectors, seed=settings.first_seed)[0].values)
    needed = math.ceil(settings.codebook_size / (0.75 if "best" in settings.arms else 1.0))
    if train < needed:
        raise InputError(
            f"{vectors.name} has {rows} rows, {train} of them for training; codebook_size="
            f"{settings.codebook_size} needs {needed}; give --set codebook_size={max(2, train // 4)} or less"
        )
    PCA.fit(vectors.values.float(), settings.dim)


def _real(settings: Settings, train: Tensor, held_out: Tensor) -> Latents:
    encoder = PCA.fit(train, settings.dim)
    latents = encoder.encode(train)
    # To mean variance 1, so that learning rates mean the same as on the other sources.
    scale = float(latents.var(0).mean().rsqrt())
    z = (encoder.encode(held_out) * scale).double().numpy()
    spectrum = np.linalg.eigvalsh(np.cov(z.T).reshape(settings.dim, settings.dim))[::-1].clip(min=0)
    entropy = differential_entropy(z[: settings.fresh_samples])
    rate = math.log2(settings.codebook_size)
    low, value, high = (
        bounds.shannon_lower_bound(bits, settings.dim, rate)
        for bits in (entropy.low, entropy.bits, entropy.high)
    )
    limits = _limits(settings, spectrum, shannon=value, isotropic=False)
    limits = Limits(**{**asdict(limits), "shannon_low": low, "shannon_high": high})
    return _encode(encoder, train, held_out, scale, limits)


def _encode(encoder: PCA, train: Tensor, held_out: Tensor, scale: float, limits: Limits) -> Latents:
    def both(x: Tensor) -> tuple[Tensor, float]:
        z = encoder.encode(x)
        floor = (x - encoder.decode(z)).square().sum(-1).double().mean()
        return z * scale, float(floor) * scale**2

    z, train_floor = both(train)
    fresh, held_out_floor = both(held_out)
    return Latents(z, fresh, train_floor, held_out_floor, float(z.var(0).mean()), limits)


def _limits(
    settings: Settings, spectrum: Float[np.ndarray, " k"], *, shannon: float, isotropic: bool
) -> Limits:
    dim, size = settings.dim, settings.codebook_size
    rate = math.log2(size)
    variance = float(spectrum.mean())
    best = bounds.best_known(dim, size, variance) if isotropic else None
    if isotropic:
        random = finite.random_codebook_distortion(dim, size, gaussian.reproduction_variance(1.0, rate, dim))
        random *= variance
    else:
        covariance = np.diag(spectrum)
        codewords = gaussian.reproduction_covariance(covariance, rate)
        random = finite.random_codebook_distortion_qmc(covariance, codewords, size).value
    return Limits(
        shannon=shannon,
        shannon_low=None,
        shannon_high=None,
        gaussian_reference=gaussian.water_filling(spectrum, rate).distortion,
        isotropic_formula=gaussian.distortion_rate(rate, dim, variance),
        converse=converse(dim, size, variance).certified if isotropic else None,
        random_codebook=random,
        best_known=best.distortion if best else None,
    )
