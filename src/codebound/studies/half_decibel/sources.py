"""What is coded: sources whose bound is known, and latents of photographs, in a part to fit codes to and another."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Literal

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from codebound.codec.model import default_model
from codebound.data.crops import cut_crops, pyramid
from codebound.data.images import photo_patches, photographs
from codebound.metrics.effnet import EffnetDistance
from codebound.studies.framework import declare as fw
from codebound.theory.bounds import shannon_lower_bound
from codebound.theory.gaussian import spectrum, water_filling

Name = Literal["gaussian", "spectrum", "laplace", "mixture", "photographs", "tokens", "features"]
Rows = Float[Tensor, "_n D"]
CROP, STRIDE = 64, 16  # of a tokenizer's pictures; of the network's, 14 × 14 vectors of a picture
VALUES = 1 << 18  # to test on, at least: a file has some hundred bytes for all of them
CLUSTERS, SPREAD = 16, 0.3


@dataclass(frozen=True)
class Source:
    """Vectors, and the least squared error per vector that any code of so many bits per vector has."""

    train: Rows
    test: Rows
    limit: Callable[[float], float]


LABELS: dict[str, tuple[str, str]] = {  # the source, and what 0 dB is
    "gaussian": ("N(0, I), 128 dimensions", "the rate-distortion function"),
    "spectrum": ("Gaussian, 8 variances 1/i²", "the rate-distortion function"),
    "laplace": ("Laplace, 16 independent", "Shannon’s lower bound"),
    "mixture": ("16 clusters in 16 dimensions", "Shannon’s lower bound"),
    "photographs": ("8×8 DCT of photographs", "the Gaussian of equal covariance"),
    "tokens": ("latents of the tokenizer", "the Gaussian of equal covariance"),
    "features": ("EfficientNet features", "the Gaussian of equal covariance"),
}
KNOWN = ("gaussian", "spectrum", "laplace", "mixture")  # their 0 dB is a bound; real data may be below theirs


def available(name: str) -> bool:
    """Whether what a source needs is installed."""
    return name != "features" or find_spec("efficientnet_lite_pytorch") is not None


def draw(name: Name, seed: int, train: int, test: int) -> Source:
    """A source's vectors for one seed; of few dimensions there are more to test on than `test`.

    Photographs to fit to and to test on are different ones.
    """
    first, second = fw.stream(name, seed, "train"), fw.stream(name, seed, "test")
    if name in KNOWN:
        sample, limit = _KNOWN[name](seed)
        dim = sample(1, fw.stream(name, seed, "dim")).shape[1]
        rows = sample(max(test, VALUES // dim), second)
        return Source(
            sample(train, first), rows, _scaled(limit, rows, sample(1 << 16, fw.stream(name, seed, "size")))
        )
    real = _REAL[name]
    rows = real("held_out", test, second)
    variances = spectrum(torch.cov(rows.double().t()).numpy())
    return Source(
        real("train", train, first), rows, lambda bits: float(water_filling(variances, bits).distortion)
    )


Sampler = Callable[[int, torch.Generator], Rows]


def _scaled(limit: Callable[[float], float], rows: Rows, many: Rows) -> Callable[[float], float]:
    """The limit times what the rows happen to be larger than many others are on average."""
    factor = float(rows.double().square().sum(1).mean() / many.double().square().sum(1).mean())
    return lambda bits: factor * limit(bits)


def _gaussian(variances: np.ndarray) -> tuple[Sampler, Callable[[float], float]]:
    sizes = torch.from_numpy(variances).sqrt().float()
    return (
        lambda count, stream: sizes * torch.randn(count, len(sizes), generator=stream),
        lambda bits: float(water_filling(variances, bits).distortion),
    )


def _laplace(dim: int = 16) -> tuple[Sampler, Callable[[float], float]]:
    """Of variance 1: the entropy of a component is log2(√2·e)."""
    entropy = dim * math.log2(math.sqrt(2) * math.e)

    def sample(count: int, stream: torch.Generator) -> Rows:
        uniform = torch.rand(count, dim, generator=stream, dtype=torch.float64) - 0.5
        return (-uniform.sign() * torch.log1p(-2 * uniform.abs()) / math.sqrt(2)).float()

    return sample, lambda bits: shannon_lower_bound(entropy, dim, bits)


def _mixture(seed: int, dim: int = 16) -> tuple[Sampler, Callable[[float], float]]:
    """Equal clusters around centres of N(0, I); the entropy is the mean of −log2 of the density."""
    centres = torch.randn(CLUSTERS, dim, generator=fw.stream("mixture", seed, "centres"))

    def sample(count: int, stream: torch.Generator) -> Rows:
        which = torch.randint(CLUSTERS, (count,), generator=stream)
        return centres[which] + SPREAD * torch.randn(count, dim, generator=stream)

    rows = sample(1 << 15, fw.stream("mixture", seed, "entropy")).double()
    exponents = -torch.cdist(rows, centres.double()).square() / (2 * SPREAD**2)
    density = exponents.logsumexp(1) - math.log(CLUSTERS) - dim / 2 * math.log(2 * math.pi * SPREAD**2)
    entropy = -float(density.mean()) / math.log(2)
    return sample, lambda bits: shannon_lower_bound(entropy, dim, bits)


_KNOWN: dict[str, Callable[[int], tuple[Sampler, Callable[[float], float]]]] = {
    "gaussian": lambda seed: _gaussian(np.ones(128)),
    "spectrum": lambda seed: _gaussian(1.0 / np.arange(1, 9) ** 2),
    "laplace": lambda seed: _laplace(),
    "mixture": _mixture,
}


def _photographs(split: Literal["train", "held_out"], count: int, stream: torch.Generator) -> Rows:
    """Patches as coefficients, the lowest frequencies first."""
    patches = photo_patches(split, count, size=8, generator=stream).numpy().reshape(-1, 8, 8)
    order = np.argsort(np.add.outer(np.arange(8), np.arange(8)).ravel(), kind="stable")
    coefficients = scipy.fft.dctn(patches, axes=(1, 2), norm="ortho").reshape(-1, 64)
    return torch.from_numpy(np.ascontiguousarray(coefficients[:, order]))


def _crops(split: Literal["train", "held_out"], count: int, size: int, stream: torch.Generator) -> Tensor:
    random = np.random.default_rng(int(torch.randint(1 << 62, (), generator=stream)))
    return cut_crops(_pyramids(split, size), count, size, random).float() / 255


@cache
def _pyramids(split: Literal["train", "held_out"], size: int) -> list:
    return [pyramid(photograph, size, 3) for photograph in photographs(split)]


@torch.no_grad()
def _tokens(split: Literal["train", "held_out"], count: int, stream: torch.Generator) -> Rows:
    """What the tokenizer of the package quantizes: 64 vectors of a crop."""
    tokenizer = default_model().tokenizer.eval()
    crops = _crops(split, -(-count // 64), CROP, stream)
    return torch.cat([tokenizer.latents(some).flatten(0, 2) for some in crops.split(64)])[:count]


@torch.no_grad()
def _features(split: Literal["train", "held_out"], count: int, stream: torch.Generator) -> Rows:
    """EfficientNet-Lite0's of 1/16 of the pictures' resolution, 196 vectors of a crop, of unit length."""
    network = EffnetDistance()
    crops = _crops(split, -(-count // 196), 14 * STRIDE, stream)
    maps = [network.features(some)[FEATURE_DEPTH] for some in crops.split(16)]
    return torch.cat([each.permute(0, 2, 3, 1).flatten(0, 2) for each in maps])[:count]


FEATURE_DEPTH = 3
_REAL: dict[str, Callable[..., Rows]] = {
    "photographs": _photographs,
    "tokens": _tokens,
    "features": _features,
}
