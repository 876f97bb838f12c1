"""Linear encoders and decoders."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from codebound.errors import InputError


class PCA(nn.Module):
    """A fixed encoder and decoder with tied weights: z = Uᵀ(x − μ), x̂ = μ + U z.

    For a Gaussian source and squared error the principal axes are the best linear encoder at any codebook size,
    so a study of codebooks can hold the encoder still (mission row A2). Both maps are buffers: nothing trains.

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
