"""The linear-Gaussian source: vectors whose every second-order quantity is known exactly."""

import difflib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from codebound.errors import InputError

KINDS = ("raw", "anisotropic", "isotropic")
RIDGE = 1e-3  # ε in Σ = B Bᵀ + εI; E[B Bᵀ] = k I, so it only keeps Σ away from singular


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """Vectors near a k-dimensional subspace of R^d, zero mean, jointly Gaussian.

        x = A y + w,   y ~ N(0, Σ),   w ~ N(0, σ² I_d)

    The initialisation study's first source, which its claims are about (docs/claims.md). `A` is d×k with orthonormal
    columns, `Sigma` is k×k positive semi-definite (Σ), `noise` is the standard deviation σ. The theory is float64 and
    exact; samples are float32.

    Raises `InputError` if the shapes disagree, k > d, A is not orthonormal, Σ not a covariance, or σ < 0.
    """

    A: Float[np.ndarray, "d k"]
    Sigma: Float[np.ndarray, "k k"]
    noise: float

    def __post_init__(self) -> None:
        # Own, read-only copies in float64.
        for name in ("A", "Sigma"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)

        # Shapes that fit, an orthonormal A, and a Σ that is a covariance.
        _check_noise(self.noise)
        d, k = _check_dims(*self.A.shape)
        if self.Sigma.shape != (k, k):
            raise InputError(f"Sigma has shape {self.Sigma.shape}; A is {d}x{k}, so it must be {k}x{k}")
        if not np.allclose(self.A.T @ self.A, np.eye(k), atol=1e-8):
            raise InputError("A does not have orthonormal columns (A^T A = I to 1e-8 is accepted)")
        symmetric = np.allclose(self.Sigma, self.Sigma.T, rtol=1e-10)
        if not symmetric or np.linalg.eigvalsh(self.Sigma)[0] < -1e-10 * np.trace(self.Sigma):
            raise InputError(
                "Sigma is not a covariance matrix: symmetric, no negative eigenvalue is accepted"
            )

    @classmethod
    def draw(
        cls, kind: str, dim: int = 64, latent_dim: int = 8, noise: float = 0.1, *, seed: int
    ) -> "LinearGaussian":
        """Draw A and Σ at random: A = QR of a Gaussian (Haar), Σ = B Bᵀ + εI with B iid N(0,1), ε = 1e-3.

        kind: `raw`, Σ as written; `anisotropic`, Σ multiplied so that σ_z² = tr Σ_z / k = 1; `isotropic`,
        Σ = (1-σ²)I so that Σ_z = I. σ is never rescaled: Σ_z includes it, so the last two need σ < 1.
        The same seed gives the same A and B for every kind.

        Raises `InputError` for an unknown kind, k > d, σ < 0, or σ >= 1 where the kind normalises.
        """
        # Refuse what can't be drawn.
        _check_kind(kind)
        _check_dims(dim, latent_dim)
        _check_noise(noise)
        if kind != "raw" and noise >= 1:
            raise InputError(
                f"noise is {noise}; kind {kind!r} has unit variance, noise included: below 1 accepted"
            )

        # A and B from one stream, the same for every kind.
        generator = torch.Generator().manual_seed(seed)
        Q, R = np.linalg.qr(torch.randn(dim, latent_dim, generator=generator, dtype=torch.float64).numpy())
        B = torch.randn(latent_dim, latent_dim, generator=generator, dtype=torch.float64).numpy()
        A = Q * np.where(np.diag(R) < 0, -1.0, 1.0)  # QR's signs are the library's choice: fix them

        # Σ as written, or normalised.
        Sigma = B @ B.T + RIDGE * np.eye(latent_dim)
        if kind == "anisotropic":
            Sigma = Sigma * ((1 - noise**2) * latent_dim / np.trace(Sigma))
        elif kind == "isotropic":
            Sigma = (1 - noise**2) * np.eye(latent_dim)
        return cls(A, Sigma, float(noise))

    @property
    def dim(self) -> int:
        """d, the length of a sample."""
        return self.A.shape[0]

    @property
    def latent_dim(self) -> int:
        """k, the dimension of the subspace."""
        return self.A.shape[1]

    @cached_property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """Σ_x = A Σ Aᵀ + σ² I_d."""
        return self.A @ self.Sigma @ self.A.T + self.noise**2 * np.eye(self.dim)

    @property
    def principal_axes(self) -> Float[np.ndarray, "d k"]:
        """U_k: eigenvectors of Σ_x with the k largest eigenvalues, largest first, orthonormal columns.

        U_k = A V where Σ = V Λ Vᵀ. Each column's largest entry is positive, so that the sign is defined.
        """
        return self._eigen[1]

    @property
    def latent_covariance(self) -> Float[np.ndarray, "k k"]:
        """Σ_z = U_kᵀ Σ_x U_k = Λ + σ² I_k, the covariance of the PCA latents z = U_kᵀ x: diagonal."""
        return np.diag(self._eigen[0] + self.noise**2)

    @property
    def latent_variance(self) -> float:
        """σ_z² = tr Σ_z / k, the mean variance of one latent."""
        return float(np.trace(self.latent_covariance) / self.latent_dim)

    @property
    def residual(self) -> float:
        """tr Σ_x - tr Σ_z = (d-k) σ²: the distortion, summed over the vector, of keeping only z."""
        return (self.dim - self.latent_dim) * self.noise**2

    def sample(self, n: int, *, generator: torch.Generator) -> Float32[Tensor, "n d"]:
        """n independent samples x = U_k Λ^½ g + σ w with g, w standard normal, on the generator's device.

        Raises `InputError` if n < 1.
        """
        if n < 1:
            raise InputError(f"n is {n}; at least 1 sample is accepted")
        device = generator.device
        factor = torch.tensor(
            self.principal_axes * np.sqrt(self._eigen[0]), dtype=torch.float32, device=device
        )
        g = torch.randn(n, self.latent_dim, generator=generator, device=device, dtype=torch.float32)
        x = torch.randn(n, self.dim, generator=generator, device=device, dtype=torch.float32)
        return x.mul_(self.noise).addmm_(g, factor.T)

    @cached_property
    def _eigen(self) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "d k"]]:
        """Λ, largest first, and U_k = A V."""
        values, V = np.linalg.eigh(self.Sigma)
        U = self.A @ V[:, ::-1]
        largest = np.take_along_axis(U, np.abs(U).argmax(axis=0)[None], axis=0)
        return np.maximum(values[::-1], 0.0), U * np.sign(largest)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InputError(f"kind is {kind!r}{hint}; accepted: {', '.join(KINDS)}")


def _check_dims(dim: int, latent_dim: int) -> tuple[int, int]:
    if not 1 <= latent_dim <= dim:
        raise InputError(f"latent_dim is {latent_dim} with dim {dim}; 1 <= latent_dim <= dim is accepted")
    return dim, latent_dim


def _check_noise(noise: float) -> None:
    if not 0 <= noise < float("inf"):
        raise InputError(f"noise is {noise}; a finite standard deviation of 0 or more is accepted")
