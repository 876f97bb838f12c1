"""Grids of indices as sequences of tokens of one vocabulary, for a language model, and back."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Int, Int64
from torch import Tensor

from codebound.errors import InputError


def offsets(codebook_sizes: Sequence[int]) -> list[int]:
    """The first token of each level: a level's indices follow those of all levels before it."""
    return [0, *itertools.accumulate(codebook_sizes)][:-1]


def flatten(indices: Int[Tensor, "b H W q"], codebook_sizes: Sequence[int]) -> Int64[Tensor, "b H*W*q"]:
    """Row by row, all levels of a position one after the other: token = index + the sizes of the levels before.

    Raises:
        InputError: another shape, more levels than there are codebooks, or an index out of its codebook's range.
    """
    levels = indices.shape[-1] if indices.ndim == 4 else 0
    if not 1 <= levels <= len(codebook_sizes) or indices.is_floating_point():
        raise InputError(
            f"indices must be integers of shape [b, H, W, 1 to {len(codebook_sizes)}]; got {indices.dtype} "
            f"{list(indices.shape)}"
        )
    sizes = torch.tensor(codebook_sizes[:levels], device=indices.device)
    _check_range("indices", indices, (indices >= 0) & (indices < sizes), codebook_sizes[:levels])
    first = torch.tensor(offsets(codebook_sizes)[:levels], device=indices.device)
    return (indices.long() + first).flatten(1)


def unflatten(
    tokens: Int[Tensor, "b n"], grid: tuple[int, int], codebook_sizes: Sequence[int]
) -> Int64[Tensor, "b H W q"]:
    """The indices that `flatten` made these tokens of.

    Args:
        grid: H and W; the number of levels follows from the length.

    Raises:
        InputError: a length that is no multiple of H·W or has more levels than there are codebooks, or a token that
            its level has not.
    """
    positions = grid[0] * grid[1]
    length = tokens.shape[1] if tokens.ndim == 2 and not tokens.is_floating_point() else 0
    levels, rest = divmod(length, positions) if positions > 0 else (0, 0)
    if rest or not 1 <= levels <= len(codebook_sizes):
        raise InputError(
            f"tokens must be integers of shape [b, {grid[0]}·{grid[1]}·q] with q from 1 to {len(codebook_sizes)}; got "
            f"{tokens.dtype} {list(tokens.shape)}"
        )
    first = torch.tensor(offsets(codebook_sizes)[:levels], device=tokens.device)
    indices = tokens.long().unflatten(1, (*grid, levels)) - first
    sizes = torch.tensor(codebook_sizes[:levels], device=tokens.device)
    _check_range(
        "tokens, less their level's first,",
        indices,
        (indices >= 0) & (indices < sizes),
        codebook_sizes[:levels],
    )
    return indices


def _check_range(name: str, indices: Tensor, inside: Tensor, sizes: Sequence[int]) -> None:
    if bool(inside.all()):
        return
    place = (~inside).nonzero()[0].tolist()
    raise InputError(
        f"{name} must be from 0 to below {list(sizes)}, level by level; got {int(indices[tuple(place)])} at {place}"
    )
