"""Crops of photographs at random scales and places, all in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from codebound.data.images import Photograph
from codebound.errors import InputError

LONG_SIDES = (128, 192, 256, 384, 512)  # pixels: the scales at which crops are cut
HELD_OUT_SEED = 2**40  # of the fixed crops; a training's seed is smaller


@dataclass(frozen=True, eq=False)
class Pyramid:
    """One photograph at several scales, `[h, w, c]` each, the smallest first."""

    name: str
    levels: tuple[UInt8[np.ndarray, "_ _ _"], ...]


def pyramid(photograph: Photograph, size: int, channels: int) -> Pyramid:
    """The photograph reduced to each of `LONG_SIDES` at which a crop of `size` fits; never enlarged.

    Raises:
        InputError: the photograph is smaller than size×size.
    """
    height, width = photograph.pixels.shape[:2]
    if min(height, width) < size:
        raise InputError(
            f"image {photograph.name} is {height}x{width}, smaller than the crops of {size}x{size}"
        )
    picture = Image.fromarray(photograph.pixels).convert("RGB" if channels == 3 else "L")
    own, levels = max(height, width), []
    for side in [*(side for side in LONG_SIDES if side < own), min(own, LONG_SIDES[-1])]:
        w, h = (max(1, round(length * side / own)) for length in (width, height))
        if min(w, h) >= size:
            reduced = picture if side == own else picture.resize((w, h), Image.Resampling.LANCZOS)
            levels.append(_array(reduced, channels))
    if not levels:  # long and thin: the scale at which a crop just fits
        scale = size / min(height, width)
        shape = (max(size, round(width * scale)), max(size, round(height * scale)))
        levels.append(_array(picture.resize(shape, Image.Resampling.LANCZOS), channels))
    return Pyramid(photograph.name, tuple(levels))


def cut_crops(
    pyramids: Sequence[Pyramid], count: int, size: int, random: np.random.Generator, flip: bool = True
) -> UInt8[Tensor, "count c size size"]:
    """Crops: a photograph, one of its scales, a place, and whether mirrored; each uniform and independent."""
    channels = pyramids[0].levels[0].shape[-1]
    crops = np.empty((count, size, size, channels), dtype=np.uint8)
    draws = random.random((count, 5))
    for crop, (which, scale, top, left, mirror) in zip(crops, draws, strict=True):
        levels = pyramids[int(which * len(pyramids))].levels
        level = levels[int(scale * len(levels))]
        y, x = int(top * (level.shape[0] - size + 1)), int(left * (level.shape[1] - size + 1))
        crop[:] = level[y : y + size, x : x + size]
        if flip and mirror < 0.5:
            crop[:] = crop[:, ::-1].copy()
    return torch.from_numpy(crops).permute(0, 3, 1, 2)


def _array(picture: Image.Image, channels: int) -> np.ndarray:
    return np.array(picture).reshape(picture.height, picture.width, channels)
