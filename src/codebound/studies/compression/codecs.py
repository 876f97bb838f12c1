"""One picture through one codec at all its qualities: bytes, PSNR, SSIM, seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8

from codebound import codec
from codebound.codec import other_codecs
from codebound.codec.model import Model
from codebound.metrics.likeness import WINDOW, psnr, ssim

Pixels = UInt8[np.ndarray, "h w 3"]
OURS = "codebound"
WAVELETS, TOKENS = "wavelets", "tokens"  # the two kinds of file that it writes
QUALITIES = (3, 8, 14, 20, 28, 36, 45, 55, 65)  # of wavelets


class Point(NamedTuple):
    """A file: its quality setting, size, likeness to the picture, and the time it took."""

    codec: str
    quality: int
    bytes: int
    bits_per_pixel: float
    psnr: float
    ssim: float | None
    encode_s: float
    decode_s: float


def points(
    pixels: Pixels, names: tuple[str, ...], model: Model, trade: float | None, ours: str
) -> Iterator[Point]:
    """Files of the picture at each quality, of both our kinds and then of the other codecs.

    Args:
        ours: which kind stands for us; the other one has its own name.
    """
    tokens = partial(codec.compress, pixels, model=model, trade=trade, verify=False)
    waves = partial(codec.compress, pixels, verify=False)
    for quality in QUALITIES:
        name = OURS if ours == WAVELETS else WAVELETS
        yield _point(pixels, name, quality, partial(waves, quality=quality), codec.decompress)
    for quality in model.qualities:
        name = OURS if ours == TOKENS else TOKENS
        load = partial(codec.decompress, model=model)
        yield _point(pixels, name, quality, partial(tokens, quality=quality), load)
    for name in names:
        for quality in other_codecs.QUALITIES[name]:
            save = partial(other_codecs.save, pixels, name, quality)
            yield _point(pixels, name, quality, save, other_codecs.load)


def _point(pixels: Pixels, name: str, quality: int, save: partial[bytes], load: Callable[..., Any]) -> Point:
    # A file is written and read again, by the clock.
    start = time.perf_counter()
    data = save()
    middle = time.perf_counter()
    again = load(data)
    end = time.perf_counter()
    # What it is like, and how large.
    psnr, ssim = likeness(pixels, again)
    rate = 8 * len(data) / (pixels.shape[0] * pixels.shape[1])
    return Point(name, quality, len(data), rate, psnr, ssim, middle - start, end - middle)


def likeness(pixels: Pixels, again: np.ndarray) -> tuple[float, float | None]:
    """PSNR over all three channels and SSIM, as `metrics.likeness` defines them; None where a picture is too small."""
    colour = np.broadcast_to(again.reshape(*again.shape[:2], -1), pixels.shape)  # a grey file has one channel
    one, other = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None].double() / 255 for p in (pixels, colour))
    large = min(pixels.shape[:2]) >= WINDOW
    return float(psnr(one, other)), float(ssim(other, one)) if large else None
