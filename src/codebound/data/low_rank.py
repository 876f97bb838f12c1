"""Sources on a low-dimensional subspace with a known covariance: Gaussian, and two that are not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from codebound.errors import InputError

Kind = Literal["gaussian", "mixture", "laplace"]
_ENTROPY_SAMPLES = 100_000


@dataclass(frozen=True, eq=False)
class LowRank:
    """x = U y + w in R^d: U `[d, r]` orthonormal, cov(y) = diag(spectrum) exactly, w ~ N(0, noise² I).

    The coordinates y are jointly Gaussian; independent Laplace; or L(μ_c + s·g): an equal mixture of Gaussian
    clusters, where L makes the covariance diag(spectrum). All kinds of one spectrum have the same principal axes.

    Samples are float64. The estimators study draws them with r = 6, spectrum geomspace(4, 0.25, 6) and no noise.
    """

    axes: Float[np.ndarray, "d r"]
    spectrum: Float[np.ndarray, " r"]
    kind: str
    noise: float
    centres: Float[np.ndarray, "c r"]  # of the clusters, in y's coordinates; empty unless a mixture
    spread: Float[np.ndarray, "r r"]  # factor of a cluster's covariance: s·L

    @classmethod
    def draw(
        cls,
        kind: str,
        dim: int,
        spectrum: Float[np.ndarray, " r"],
        *,
        seed: int,
        noise: float = 0.0,
        components: int = 24,
        width: float = 0.25,
    ) -> LowRank:
        """Draw U (Haar) and, for a mixture, the centres ~ N(0, I) of clusters of standard deviation `width`.

        Raises:
            InputError: an unknown kind, more variances than dimensions, a variance that is not positive, negative
                noise, or too few clusters to span the subspace.
        """
        # Refuse what can't be drawn.
        rank = len(spectrum)
        if kind not in get_args(Kind):
            raise InputError(f"kind is {kind!r}; accepted: {', '.join(get_args(Kind))}")
        if not 1 <= rank <= dim:
            raise InputError(f"the spectrum has {rank} variances; 1 to dim={dim} are accepted")
        if not (np.isfinite(spectrum).all() and (spectrum > 0).all()):
            raise InputError(f"the spectrum must be positive and finite; got {spectrum.tolist()}")
        if not (math.isfinite(noise) and noise >= 0):
            raise InputError(f"noise is {noise}; a finite standard deviation of 0 or more is accepted")

        # A random subspace; all but a mixture are described by it and their spectrum.
        rng = np.random.default_rng(seed)
        q, r = np.linalg.qr(rng.standard_normal((dim, rank)))
        axes = q * np.where(np.diag(r) < 0, -1.0, 1.0)
        if kind != "mixture":
            return cls(axes, spectrum, kind, noise, np.empty((0, rank)), np.zeros((rank, rank)))

        # A mixture's centres span the subspace, and their mean is zero.
        if components <= rank or not width > 0:
            raise InputError(
                f"a mixture needs more than rank={rank} components and a positive width; got {components}, {width}"
            )
        centres = rng.standard_normal((components, rank))
        centres -= centres.mean(0)

        # A linear map gives centres and clusters together exactly the covariance that the spectrum says.
        values, vectors = np.linalg.eigh(centres.T @ centres / components + width**2 * np.eye(rank))
        shape = np.sqrt(spectrum)[:, None] * ((vectors / np.sqrt(values)) @ vectors.T)
        return cls(axes, spectrum, kind, noise, centres @ shape.T, width * shape)

    @property
    def eigenvalues(self) -> Float[np.ndarray, " d"]:
        """Eigenvalues of the covariance of x, descending."""
        rest = np.zeros(self.axes.shape[0] - len(self.spectrum))
        return np.concatenate([np.sort(self.spectrum)[::-1], rest]) + self.noise**2

    def coordinates(self, n: int, generator: torch.Generator) -> Float[Tensor, "n r"]:
        """n samples of y."""
        # A mixture: a cluster, and a point around its centre.
        rank = len(self.spectrum)
        if self.kind == "mixture":
            which = torch.randint(len(self.centres), (n,), generator=generator)
            g = torch.randn(n, rank, generator=generator, dtype=torch.float64)
            return torch.from_numpy(self.centres)[which] + g @ torch.from_numpy(self.spread).T

        # Independent coordinates of variance 1, then stretched.
        if self.kind == "laplace":
            # The difference of two exponentials, of variance 2.
            e = torch.rand(2, n, rank, generator=generator, dtype=torch.float64).neg_().log1p_().neg_()
            unit = (e[0] - e[1]) / math.sqrt(2)
        else:
            unit = torch.randn(n, rank, generator=generator, dtype=torch.float64)
        return unit * torch.from_numpy(self.spectrum).sqrt()

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
        """n samples of x."""
        if n < 1:
            raise InputError(f"n is {n}; at least 1 sample is accepted")
        x = self.coordinates(n, generator) @ torch.from_numpy(self.axes).T
        if self.noise:
            x += self.noise * torch.randn(x.shape, generator=generator, dtype=torch.float64)
        return x

    def entropy_bits(self, count: int) -> float:
        """Differential entropy of the first `count` coordinates of y; by simulation from the density for a mixture."""
        return self._entropies[count - 1]

    @cached_property
    def _entropies(self) -> list[float]:
        ranks = range(1, len(self.spectrum) + 1)
        if self.kind == "mixture":
            y = self.coordinates(_ENTROPY_SAMPLES, torch.Generator().manual_seed(0)).numpy()
            return [self._mixture_entropy(y[:, :k]) for k in ranks]
        # Per coordinate: ½ log2(2πe λ), and log2(2e b) with λ = 2b².
        constant = 2 * math.pi * math.e if self.kind == "gaussian" else 2 * math.e**2
        each = 0.5 * np.log2(constant * self.spectrum)
        return each.cumsum().tolist()

    def _mixture_entropy(self, y: np.ndarray) -> float:
        """−E log2 p(y), p = mean_c N(centre_c, spread·spreadᵀ) restricted to the first coordinates."""
        # In coordinates in which a cluster is a standard Gaussian.
        k = y.shape[1]
        covariance = (self.spread @ self.spread.T)[:k, :k]
        factor = np.linalg.inv(np.linalg.cholesky(covariance))
        white, centres = y @ factor.T, self.centres[:, :k] @ factor.T

        # The density at each sample, in logarithms so that far clusters don't underflow.
        squares = (white**2).sum(1)[:, None] - 2 * white @ centres.T + (centres**2).sum(1)
        log = (
            scipy.special.logsumexp(-0.5 * squares, axis=1)
            - math.log(len(centres))
            - 0.5 * k * math.log(2 * math.pi)
        )
        return float(-(log.mean() + math.log(np.diag(factor).prod())) / math.log(2))
