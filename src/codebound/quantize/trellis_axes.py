"""The axes that a trellis code's components lie on: principal ones as they turn, or those that are given."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from codebound.errors import InputError
from codebound.theory.gaussian import eigensystem

OFF = 1e-4  # that products of given axes may be off by


def turned(
    covariance: Float[np.ndarray, "D D"], axes: Float[np.ndarray, "D D"]
) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, "D D"]]:
    """Variances on the principal axes, largest first, and these axes as rows, from a covariance on the present axes."""
    variances, turn = eigensystem(covariance)
    axes = turn.T @ axes
    # Products of many turns stay orthonormal; each axis points to where its largest coordinate is positive.
    axes = 1.5 * axes - 0.5 * axes @ axes.T @ axes
    largest = axes[np.arange(len(axes)), np.abs(axes).argmax(1)]
    axes *= np.where(largest < 0, -1.0, 1.0)[:, None]
    return variances.clip(min=0.0), axes


def check_axes(matrix: Float[Tensor, "D D"], dim: int) -> None:
    """InputError for anything but `dim` orthonormal rows."""
    if not isinstance(matrix, Tensor) or matrix.shape != (dim, dim):
        raise InputError(f"matrix must be a tensor of shape [{dim}, {dim}]")
    off = float((matrix.double() @ matrix.double().t() - torch.eye(dim)).abs().max())
    if not off < OFF:
        raise InputError(f"matrix must have orthonormal rows; they are off by {off:.2g}")
