"""Crops of photographs at random scales and places, from memory or from an image just opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8
from PIL import Image
from torch import Tensor

from codebound.data.images import Photograph
from codebound.data.picture_reading import reduced_image
from codebound.errors import InputError

LONG_SIDES = (128, 192, 256, 384, 512)  # pixels: the scales at which crops are cut
HELD_OUT_SEED = 2**40  # of the fixed crops; a training's seed is smaller


@dataclass(frozen=True, eq=False)
class Pyramid:
    """One photograph at several scales, `[h, w, c]` each, the smallest first."""

    name: str
    levels: tuple[UInt8[np.ndarray, "_ _ _"], ...]


def level_sizes(height: int, width: int, size: int) -> list[tuple[int, int]]:
    """Height and width of each scale at which crops are cut, the smallest first; none if `size` does not fit."""
    # A picture smaller than a crop has no scale.
    if min(height, width) < size:
        return []

    # The usual scales below the picture's own, then its own or the largest.
    own, sizes = max(height, width), []
    for side in [*(side for side in LONG_SIDES if side < own), min(own, LONG_SIDES[-1])]:
        h, w = (max(1, round(length * side / own)) for length in (height, width))
        if min(h, w) >= size:
            sizes.append((h, w))
    if not sizes:  # long and thin: the scale at which a crop just fits
        scale = size / min(height, width)
        sizes.append((max(size, round(height * scale)), max(size, round(width * scale))))
    return sizes


def pyramid(photograph: Photograph, size: int, channels: int) -> Pyramid:
    """The photograph reduced to each of `LONG_SIDES` at which a crop of `size` fits; never enlarged.

    Raises:
        InputError: the photograph is smaller than size×size.
    """
    height, width = photograph.pixels.shape[:2]
    picture = Image.fromarray(photograph.pixels).convert("RGB" if channels == 3 else "L")
    levels = []
    for h, w in _checked_sizes(photograph.name, height, width, size):
        own = (h, w) == (height, width)
        levels.append(_array(picture if own else picture.resize((w, h), Image.Resampling.LANCZOS), channels))
    return Pyramid(photograph.name, tuple(levels))


def cut_crop(
    image: Image.Image,
    name: str,
    draws: Float64[np.ndarray, " five"],
    size: int,
    channels: int,
    flip: bool = True,
) -> UInt8[np.ndarray, "c size size"]:
    """The crop that `cut_crops` would cut from the pyramid of an opened image, by the same draws.

    Only the crop is resized, and a large JPEG is not decoded in full, so a pixel may differ from the pyramid's.

    Raises:
        InputError: as `read_image` and `pyramid`.
    """
    _, scale, top, left, mirror = draws
    # The scale, in the file's own orientation, and the picture from which it is reduced.
    sizes = _checked_sizes(name, image.height, image.width, size)
    picture, (height, width) = reduced_image(image, name, sizes[int(scale * len(sizes))], channels)
    y, x = int(top * (height - size + 1)), int(left * (width - size + 1))
    if (picture.height, picture.width) == (height, width):
        cut = picture.crop((x, y, x + size, y + size))
    else:
        # The place of the crop in the unreduced picture: resizing looks beyond the box, so there is no border.
        down, right = picture.height / height, picture.width / width
        box = (
            x * right,
            y * down,
            min((x + size) * right, picture.width),
            min((y + size) * down, picture.height),
        )
        cut = picture.resize((size, size), Image.Resampling.LANCZOS, box=box)
    crop = _array(cut, channels)
    return np.ascontiguousarray((crop[:, ::-1] if flip and mirror < 0.5 else crop).transpose(2, 0, 1))


def cut_crops(
    pyramids: Sequence[Pyramid], count: int, size: int, random: np.random.Generator, flip: bool = True
) -> UInt8[Tensor, "count c size size"]:
    """Crops: a photograph, one of its scales, a place, and whether mirrored; each uniform and independent."""
    # Five draws for each crop decide everything, so that crops don't depend on one another.
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


def which(random: np.random.Generator, count: int, photographs: int) -> Int64[np.ndarray, " count"]:
    """The photographs that `cut_crops` takes its crops from, by the same stream."""
    return (random.random((count, 5))[:, 0] * photographs).astype(np.int64)


def _checked_sizes(name: str, height: int, width: int, size: int) -> list[tuple[int, int]]:
    sizes = level_sizes(height, width, size)
    if not sizes:
        raise InputError(f"image {name} is {height}x{width}, smaller than the crops of {size}x{size}")
    return sizes


def _array(picture: Image.Image, channels: int) -> np.ndarray:
    return np.array(picture).reshape(picture.height, picture.width, channels)
