"""Linear encoders and decoders."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from codebound.errors import InputError


class PCA(nn.Module):
    """A fixed encoder and decoder with tied weights: z = Uᵀ(x − μ), x̂ = μ + U z.

    For a Gaussian source and squared error the principal axes are the best linear encoder at any codebook size,
    so a study of codebooks can hold the encoder still. Both maps are buffers: nothing trains.

    Args:
        axes: U, `[d, k]`, orthonormal columns.
        mean: μ, `[d]`; zero if not given.
    """

    axes: Tensor
    mean: Tensor

    def __init__(self, axes: Float[Tensor, "d k"], mean: Float[Tensor, " d"] | None = None) -> None:
        super().__init__()
        self.register_buffer("axes", axes)
        self.register_buffer("mean", axes.new_zeros(axes.shape[0]) if mean is None else mean)

    @classmethod
    def fit(cls, x: Float[Tensor, "n d"], dim: int) -> PCA:
        """The `dim` principal axes of a sample.

        Raises:
            InputError: `dim` is larger than d, or the sample has fewer than `dim` directions of variance.
        """
        if not 1 <= dim <= x.shape[1]:
            raise InputError(
                f"dim={dim} latent dimensions need vectors of at least as many; got {x.shape[1]}"
            )
        rows = x.double()
        variances, axes = torch.linalg.eigh(torch.cov(rows.T).reshape(x.shape[1], x.shape[1]))
        rank = int((variances > variances[-1] * x.shape[1] * torch.finfo(x.dtype).eps).sum())
        if rank < dim:
            raise InputError(
                f"the covariance of the vectors is singular: {rank} directions vary, dim={dim} are asked for; "
                f"at most dim={rank} is accepted"
            )
        top = axes.flip(-1)[:, :dim]
        # An eigenvector's sign is arbitrary: the largest entry is made positive, so that runs can be compared.
        sign = top.gather(0, top.abs().argmax(0, keepdim=True)).sign()
        return cls((top * sign).to(x.dtype), rows.mean(0).to(x.dtype))

    def encode(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b k"]:
        """z = Uᵀ(x − μ)."""
        return (x - self.mean) @ self.axes

    def decode(self, z: Float[Tensor, "*b k"]) -> Float[Tensor, "*b d"]:
        """x̂ = μ + U z."""
        return z @ self.axes.T + self.mean


Retraction = Literal["polar", "qr"]


def polar(w: Float[Tensor, "*m d k"]) -> Float[Tensor, "*m d k"]:
    """The nearest matrix with orthonormal columns: W(WᵀW)^(−½), the polar factor (Higham 1986).

    A retraction of the Stiefel manifold of second order (Absil, Mahony & Sepulchre 2008, example 4.1.3). Leading axes
    are runs. The columns must be independent.
    """
    values, vectors = torch.linalg.eigh(w.mT @ w)
    return w @ ((vectors * values.rsqrt().unsqueeze(-2)) @ vectors.mT)


def qr(w: Float[Tensor, "*m d k"]) -> Float[Tensor, "*m d k"]:
    """Orthonormal columns by Gram–Schmidt: Q of W = QR with a positive diagonal of R. Leading axes are runs."""
    q, r = torch.linalg.qr(w)
    sign = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(w.dtype)
    return q * sign.unsqueeze(-2)


def retract(w: Float[Tensor, "*m d k"], retraction: str = "polar") -> Float[Tensor, "*m d k"]:
    """Orthonormal columns again, by `polar` or `qr`. Raises InputError for another name."""
    if retraction not in get_args(Retraction):
        raise InputError(f"retraction is {retraction!r}; accepted: {', '.join(get_args(Retraction))}")
    return polar(w) if retraction == "polar" else qr(w)


class Stiefel(nn.Module):
    """A trained encoder and decoder with tied, orthonormal weights: z = Wᵀ(x − μ), x̂ = μ + W z, WᵀW = I.

    The optimizer steps in the surrounding space; `retract_` afterwards brings W back to the manifold:

    ```
    optimizer.step()
    network.retract_()
    ```

    Args:
        axes: W to begin with, `[d, k]`; its columns are made orthonormal.
        mean: μ, `[d]`, held; zero if not given.
        retraction: `"polar"` (the nearest such matrix) or `"qr"`.

    Raises:
        InputError: more columns than rows, or an unknown retraction.
    """

    mean: Tensor

    def __init__(
        self,
        axes: Float[Tensor, "d k"],
        mean: Float[Tensor, " d"] | None = None,
        retraction: str = "polar",
    ) -> None:
        super().__init__()
        if axes.shape[1] > axes.shape[0]:
            raise InputError(
                f"axes has shape {list(axes.shape)}; at most as many columns as rows are accepted"
            )
        self.retraction = retraction
        self.axes = nn.Parameter(retract(axes.detach().clone(), retraction))
        self.register_buffer("mean", axes.new_zeros(axes.shape[0]) if mean is None else mean)

    @torch.no_grad()
    def retract_(self) -> None:
        """Make the columns orthonormal again, in place; call it after each step of the optimizer."""
        self.axes.copy_(retract(self.axes, self.retraction))

    def encode(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b k"]:
        """z = Wᵀ(x − μ)."""
        return (x - self.mean) @ self.axes

    def decode(self, z: Float[Tensor, "*b k"]) -> Float[Tensor, "*b d"]:
        """x̂ = μ + W z."""
        return z @ self.axes.T + self.mean
