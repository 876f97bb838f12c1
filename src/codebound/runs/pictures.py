"""Sampled pictures as files: one each, and many in one."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from codebound.data.picture_output import FORMATS, encode_picture
from codebound.files import write_bytes
from codebound.tokenizers.image import to_uint8

GAP, SMALLEST = 2, 56  # pixels between pictures of a grid, and what a side is enlarged to at least


def grid_picture(pictures: Float[Tensor, "n c h w"], columns: int) -> UInt8[Tensor, "c _ _"]:
    """Pictures in [0, 1] row by row, white between them; small ones are enlarged by a whole number."""
    # Enlarged without smoothing: a pixel stays a pixel.
    times = max(1, math.ceil(SMALLEST / min(pictures.shape[2:])))
    pictures = pictures.repeat_interleave(times, 2).repeat_interleave(times, 3).cpu()

    # Each at its place on a white sheet.
    count, channels, height, width = pictures.shape
    rows = -(-count // columns)
    sheet = torch.ones(channels, rows * (height + GAP) - GAP, columns * (width + GAP) - GAP)
    for number, picture in enumerate(pictures):
        top, left = (number // columns) * (height + GAP), (number % columns) * (width + GAP)
        sheet[:, top : top + height, left : left + width] = picture
    return to_uint8(sheet)


def save_png(path: Path, picture: UInt8[Tensor, "c h w"]) -> None:
    """Write a grey or colour picture, whole or not at all."""
    pixels = picture.permute(1, 2, 0).squeeze(-1).contiguous().numpy()
    write_bytes(path, encode_picture(pixels, FORMATS[".png"]))
