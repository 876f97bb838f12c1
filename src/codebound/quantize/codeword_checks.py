"""What may be given to a codebook from outside: codewords with their masses, rows, a number of codewords."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from codebound.errors import InputError

Rows = Tensor | Sequence[int]  # indices, or a mask of K


def check_codewords(codewords: Tensor, counts: Tensor | None, shape: torch.Size) -> None:
    """Refuse codewords `[K, D]` and masses `[K]` that would spoil the state."""
    if not isinstance(codewords, Tensor) or codewords.shape != shape:
        got = list(codewords.shape) if isinstance(codewords, Tensor) else codewords
        raise InputError(f"codewords must have shape {list(shape)} (resize_ changes K); got {got}")
    if not bool(codewords.isfinite().all()):
        raise InputError("codewords must be finite; got NaN or Inf")

    # Masses divide sums.
    if counts is not None:
        fits = isinstance(counts, Tensor) and counts.shape == shape[:1]
        if not fits or not bool(((counts > 0) & counts.isfinite()).all()):
            got = list(counts.shape) if isinstance(counts, Tensor) else counts
            raise InputError(f"counts must be {shape[0]} positive, finite numbers in a tensor; got {got}")


def check_size(codebook_size: int, held: int) -> None:
    """Refuse a number of codewords that is none, or less than are held."""
    least = max(2, held)
    if isinstance(codebook_size, bool) or not isinstance(codebook_size, int) or codebook_size < least:
        why = " (so many rows are held)" if held > 2 else ""
        raise InputError(
            f"codebook_size must be a whole number, at least {least}{why}; got {codebook_size!r}"
        )


def row_indices(rows: Rows, size: int) -> Int64[Tensor, " r"]:
    """Rows as sorted indices, each once.

    Raises:
        InputError: rows that there are not.
    """
    named = rows
    if isinstance(named, list | tuple) and all(type(row) is int for row in named):
        named = torch.tensor(named, dtype=torch.int64)
    if isinstance(named, Tensor) and named.dtype == torch.bool and named.shape == (size,):
        named = named.nonzero().squeeze(-1)
    indices = named if isinstance(named, Tensor) and named.dtype == torch.int64 else torch.tensor(-1)
    if indices.ndim != 1 or not bool(((indices >= 0) & (indices < size)).all()):
        raise InputError(f"rows must be int64 indices in 0 … {size - 1}, or a mask of {size}; got {rows}")
    return indices.unique()
