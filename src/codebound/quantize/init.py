"""How a codebook begins: functions from a batch of latents to codewords.

Each is a frozen dataclass called with `(z [n, D], codebook_size, generator)` and returns `[K, D]`. Which one
to use is measured, not believed: `codebound study init`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from codebound import arguments, search
from codebound.errors import InputError
from codebound.quantize.lattice import e8_code, nearest_in_lattice
from codebound.quantize.noise import mix
from codebound.quantize.seeding import distinct_rows, kmeans_parallel, kmeans_plus_plus
from codebound.theory.finite import best_codeword_covariance
from codebound.theory.gaussian import reproduction_covariance, reproduction_variance
from codebound.theory.lloyd import lloyd


@runtime_checkable
class Init(Protocol):
    """From a batch to codewords."""

    def __call__(
        self, z: Float[Tensor, "n D"], codebook_size: int, generator: torch.Generator
    ) -> Float[Tensor, "K D"]:
        """Codewords in the dtype and on the device of `z`; equal generators give equal codewords.

        Raises:
            InputError: too few rows for this many codewords.
        """
        ...


@dataclass(frozen=True)
class Uniform:
    """U[−1/K, 1/K] (PyTorch VQ-VAE folklore); looks at no data; far too small for K in the hundreds."""

    kind: Literal["uniform"] = "uniform"

    def __call__(self, z: Tensor, codebook_size: int, generator: torch.Generator) -> Tensor:
        return _uniform(z, codebook_size, generator) / codebook_size


@dataclass(frozen=True)
class Normal:
    """N(0, std² I); looks at no data."""

    std: float = 1.0
    kind: Literal["normal"] = "normal"

    def __post_init__(self) -> None:
        arguments.number("std", self.std, above=0)

    def __call__(self, z: Tensor, codebook_size: int, generator: torch.Generator) -> Tensor:
        return _normal(z, codebook_size, generator) * self.std


@dataclass(frozen=True)
class Xavier:
    """U[−a, a] with a = √(6/(K + D)) (Glorot & Bengio 2010, eq. 16); looks at no data."""

    kind: Literal["xavier"] = "xavier"

    def __call__(self, z: Tensor, codebook_size: int, generator: torch.Generator) -> Tensor:
        return _uniform(z, codebook_size, generator) * math.sqrt(6.0 / (codebook_size + z.shape[1]))


@dataclass(frozen=True)
class Sample:
    """Different rows of the batch."""

    kind: Literal["sample"] = "sample"

    def __call__(self, z: Tensor, codebook_size: int, generator: torch.Generator) -> Tensor:
        _require_rows(z, codebook_size)
        return distinct_rows(z, codebook_size, generator)


@dataclass(frozen=True)
class KMeans:
    """Lloyd's algorithm on the batch, from seeds that may be k-means++, k-means‖ or plain rows.

    `iterations=0` gives the seeds; `seeding="sample", iterations=1` is one Lloyd step from data points, which
    on 1,000 samples is as good as convergence and 30 times cheaper. Where it takes more than 2 seconds, as with
    thousands of codewords, `codebound.progress.to(listener)` hears how far it is.
    """

    iterations: int = 50
    seeding: Literal["k-means++", "k-means||", "sample"] = "k-means++"
    kind: Literal["kmeans"] = "kmeans"

    def __post_init__(self) -> None:
        arguments.one_of("seeding", self.seeding, ("k-means++", "k-means||", "sample"))
        arguments.whole("iterations", self.iterations, least=0)

    def __call__(self, z: Tensor, codebook_size: int, generator: torch.Generator) -> Tensor:
        # Latents of extreme size are brought to size 1 and the codewords back.
        _require_rows(z, codebook_size)
        size = z.abs().max()
        if size > 0 and not 1e-12 < float(size) < 1e12:  # squares must stay within float32
            return self(z / size, codebook_size, generator) * size

        # Seeds, then Lloyd's algorithm from them.
        seed = {"k-means++": kmeans_plus_plus, "k-means||": kmeans_parallel, "sample": distinct_rows}[
            self.seeding
        ]
        seeds = seed(z, codebook_size, generator)
        return lloyd(z, seeds, iterations=self.iterations).codebook if self.iterations else seeds


@dataclass(frozen=True)
class RateDistortion:
    """Codewords drawn from a Gaussian that rate-distortion theory suggests, fitted to the batch.

    - `isotropic`: N(μ, σ²(1 − 2^(−2R))I), σ² the mean variance: optimal only if all variances are equal.
    - `water_filling`: N(μ, S), S the optimal reproduction covariance of the fitted Gaussian (Cover & Thomas,
      §10.3.3): directions under the water level get nothing.
    - `finite`: the Gaussian whose n random codewords have the least expected distortion, which is wider than
      the asymptotic one at high rate (`theory.finite.best_codeword_covariance`).
    """

    rule: Literal["isotropic", "water_filling", "finite"] = "water_filling"
    kind: Literal["rate_distortion"] = "rate_distortion"

    def __post_init__(self) -> None:
        arguments.one_of("rule", self.rule, ("isotropic", "water_filling", "finite"))

    def __call__(self, z: Tensor, codebook_size: int, generator: torch.Generator) -> Tensor:
        # Every rule draws codewords from a Gaussian around the latents' mean; they differ in its covariance.
        fit = _fit(z)
        bits, dim = math.log2(codebook_size), z.shape[1]
        if self.rule == "isotropic":
            variance = reproduction_variance(float(fit.covariance.diagonal().mean()), bits, dim)
            covariance = torch.eye(dim, dtype=torch.float64) * variance
        elif self.rule == "water_filling":
            covariance = torch.from_numpy(reproduction_covariance(fit.covariance.numpy(), bits))
        else:
            covariance = torch.from_numpy(best_codeword_covariance(fit.covariance.numpy(), codebook_size))
        return _gaussian(z, codebook_size, generator, fit.mean, covariance)


@dataclass(frozen=True)
class Synthetic:
    """Water-filled random codewords, then a few Lloyd steps on samples of the fitted Gaussian.

    The batch gives only its mean and covariance, so a small batch is not over-fitted; where the data are far
    from Gaussian (clusters) it fails, and `Best` notices.
    """

    iterations: int = 5
    samples_per_codeword: int = 100
    kind: Literal["synthetic"] = "synthetic"

    def __post_init__(self) -> None:
        arguments.whole("iterations", self.iterations, least=0)
        arguments.whole("samples_per_codeword", self.samples_per_codeword)

    def __call__(self, z: Tensor, codebook_size: int, generator: torch.Generator) -> Tensor:
        start = RateDistortion("water_filling")(z, codebook_size, generator)
        fit = _fit(z)
        samples = _gaussian(z, self.samples_per_codeword * codebook_size, generator, fit.mean, fit.covariance)
        return lloyd(samples, start, iterations=self.iterations).codebook


@dataclass(frozen=True)
class Lattice:
    """The lattice points that the fitted Gaussian hits most, at the best of several scales; E8 at D = 8, else
    D_k.

    The lattice is laid along the principal axes and not stretched, so directions under the water level keep a
    single layer of points, as water-filling wants. At D = 8, K = 256 the E8 code of `lattice.e8_code`,
    stretched to the covariance, is a further candidate; the least distortion on Gaussian samples wins.
    """

    samples_per_codeword: int = 100
    kind: Literal["lattice"] = "lattice"

    def __post_init__(self) -> None:
        arguments.whole("samples_per_codeword", self.samples_per_codeword, least=2)

    def __call__(self, z: Tensor, codebook_size: int, generator: torch.Generator) -> Tensor:
        # Samples of the fitted Gaussian in its principal axes, half of them to choose points, half to compare scales.
        fit = _fit(z)
        variances, axes = torch.linalg.eigh(fit.covariance)
        std = variances.clamp_min(0).sqrt().float().to(z.device)
        samples = _normal(z, self.samples_per_codeword * codebook_size, generator) * std
        half = samples[: len(samples) // 2]  # scales are compared on the other half

        # Scales around that at which K cells of the lattice fill the sphere: K^(−1/D) of the source's own.
        unit = float(std.square().mean().sqrt()) * codebook_size ** (-1.0 / z.shape[1])
        codes = [
            _popular(half, unit * scale, codebook_size) for scale in torch.logspace(-0.7, 0.8, 31).tolist()
        ]

        # The E8 code of 256 points, where the sizes are its own.
        if z.shape[1] == 8 and codebook_size == 256:
            codes.append(e8_code().to(z.device) * std)

        # A scale may hit too few points; of the others the least distortion wins, turned back to the latents' axes.
        candidates = [code for code in codes if code is not None]
        if not candidates:
            raise InputError(
                f"no scale of the lattice gives {codebook_size} points in {z.shape[1]} dimensions"
            )
        best = min(candidates, key=lambda code: float(search.distortion(samples[len(half) :], code)))
        return best @ axes.float().to(z.device).T + fit.mean.float().to(z.device)


@dataclass(frozen=True)
class Best:
    """The candidate with the least distortion on a held-out part of the batch, refitted on all of it."""

    candidates: tuple[Init, ...] = field(
        default_factory=lambda: (
            KMeans(),
            KMeans(1, "sample"),
            Synthetic(),
            Lattice(),
            RateDistortion("finite"),
        )
    )
    held_out: float = 0.25
    kind: Literal["best"] = "best"

    def __post_init__(self) -> None:
        several = isinstance(self.candidates, tuple | list) and len(self.candidates) > 0
        if not (several and all(map(callable, self.candidates))):
            raise InputError(f"candidates must be at least one init, in a tuple; got {self.candidates!r}")
        arguments.number("held_out", self.held_out, above=0, below=1)

    def __call__(self, z: Tensor, codebook_size: int, generator: torch.Generator) -> Tensor:
        return self.choose(z, codebook_size, generator)(z, codebook_size, generator)

    def choose(self, z: Tensor, codebook_size: int, generator: torch.Generator) -> Init:
        """The winner, not yet refitted."""
        # A part of the batch is kept to judge by.
        shuffled = distinct_rows(z, z.shape[0], generator)
        test = max(1, round(self.held_out * z.shape[0]))
        fit_on = shuffled[test:]
        _require_rows(fit_on, codebook_size)

        # Each candidate is fitted to the rest; one that can't do this size is out, not the end.
        scores, refusals = [], []
        for init in self.candidates:
            try:
                codewords = init(fit_on, codebook_size, generator)
            except InputError as error:  # a lattice needs room: not every candidate can do every size
                scores.append(math.inf)
                refusals.append(str(error))
            else:
                scores.append(float(search.distortion(shuffled[:test], codewords)))

        # The least distortion wins.
        if min(scores) == math.inf:
            raise InputError(f"no candidate can initialise {codebook_size} codewords: {'; '.join(refusals)}")
        return self.candidates[scores.index(min(scores))]


class _Fit(NamedTuple):
    """The Gaussian that a batch of latents is taken for."""

    mean: Tensor  # float64 [D], on the CPU
    covariance: Tensor  # float64 [D, D], on the CPU


def _fit(z: Tensor) -> _Fit:
    """Mean and covariance of the batch."""
    _require_rows(z, 2)
    rows = z.double().cpu()
    return _Fit(rows.mean(0), torch.cov(rows.T).reshape(z.shape[1], z.shape[1]))


def _popular(samples: Tensor, scale: float, count: int) -> Tensor | None:
    """The `count` points of the lattice, scaled, that most samples are nearest to; None if fewer are hit."""
    points = nearest_in_lattice(samples / scale)
    # A hash of each point, as `torch.unique` of rows takes 10 times as long. Doubled points are integers.
    factors = mix(torch.arange(1, points.shape[1] + 1, device=points.device)) | 1
    keys = ((2 * points).round().to(torch.int64) * factors).sum(-1)
    _, cell, hits = torch.unique(keys, return_inverse=True, return_counts=True)
    if hits.shape[0] < count:
        return None
    most = hits.argsort(descending=True, stable=True)[:count]
    member = torch.empty_like(hits).scatter_(0, cell, torch.arange(len(points), device=points.device))
    return points[member[most]] * scale


def _gaussian(z: Tensor, count: int, generator: torch.Generator, mean: Tensor, covariance: Tensor) -> Tensor:
    """`count` draws from a Gaussian, in the type and on the device of `z`."""
    variances, axes = torch.linalg.eigh(covariance)
    root = axes * variances.clamp_min(0).sqrt()
    return _normal(z, count, generator) @ root.T.to(z) + mean.to(z)


def _normal(z: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` vectors of standard normal numbers, drawn where the generator is and moved to `z`."""
    return torch.randn(count, z.shape[1], generator=generator, device=generator.device).to(z)


def _uniform(z: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` vectors of numbers from U[−1, 1]."""
    return torch.rand(count, z.shape[1], generator=generator, device=generator.device).to(z) * 2 - 1


def _require_rows(z: Tensor, count: int) -> None:
    if z.shape[0] < count:
        raise InputError(f"z must hold at least {count} rows for {count} codewords; got {z.shape[0]}")
