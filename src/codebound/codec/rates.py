"""What indices cost: from log2 K down to the prior, each beside the entropy of the indices alone."""

from __future__ import annotations

import lzma
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from codebound.codec.model import Model
from codebound.codec.streams import level_bits
from codebound.coding.container import Mode
from codebound.metrics.usage import usage
from codebound.priors.field import Field


def ladder(model: Model, grids: Sequence[Int64[np.ndarray, "h w q"]]) -> list[dict[str, Any]]:
    """Bits per index of each level, pooled over grids that are coded one by one.

    `entropy` is that of all grids' indices together, order 0: no limit for what follows, which sees neighbours or
    one picture at a time. zlib and xz get the level's indices row by row in one or two bytes each.
    """
    return [_level(model, grids, level) for level in range(len(model.codebook_sizes))]


def _level(model: Model, grids: Sequence[Int64[np.ndarray, "h w q"]], level: int) -> dict[str, Any]:
    """The row of one level: bits per index under each way of coding it."""
    # The level's indices of all grids, as bytes for the general compressors and as counts for the entropy.
    size = model.codebook_sizes[level]
    count = sum(grid.shape[0] * grid.shape[1] for grid in grids)
    planes = [np.ascontiguousarray(grid[..., level]) for grid in grids]
    packed = [plane.astype("u1" if size <= 256 else "<u2").tobytes() for plane in planes]
    counts = np.bincount(np.concatenate([plane.ravel() for plane in planes]), minlength=size)
    fields = [Field(grid, model.codebook_sizes) for grid in grids]

    # From the plainest code to general compressors, then the modes of a file.
    row = {
        "level": level,
        "log2_k": math.log2(size),
        "entropy": float(usage(torch.from_numpy(counts)).entropy_bits),
        "zlib": sum(8 * len(zlib.compress(data, 9)) for data in packed) / count,
        "xz": sum(8 * len(lzma.compress(data)) for data in packed) / count,
    }
    for mode in Mode if model.prior is not None else (Mode.RAW, Mode.ADAPTIVE, Mode.CONTEXT):
        bits = sum(level_bits(field, level, mode, model.prior) for field in fields)
        row[mode.name.lower()] = bits / count
    return {name: value if name == "level" else round(value, 3) for name, value in row.items()}
