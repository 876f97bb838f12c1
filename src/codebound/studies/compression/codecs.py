"""One picture through one codec at all its qualities: bytes, PSNR, SSIM, seconds."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, features

from codebound import codec
from codebound.codec.model import Model
from codebound.errors import InputError
from codebound.extras import imported
from codebound.metrics.likeness import WINDOW, psnr, ssim

Pixels = UInt8[np.ndarray, "h w 3"]
OURS = "codebound"
QUALITIES: dict[str, tuple[int, ...]] = {
    "jpeg": (1, 3, 5, 8, 12, 18, 25, 35, 50, 65, 80),
    "webp": (0, 2, 5, 10, 20, 35, 50, 65, 80),
    "avif": (5, 12, 20, 30, 40, 50, 60, 70),
    "jxl": (1, 5, 10, 20, 35, 50, 65, 80),
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "jpeg": {"optimize": True, "progressive": True},
    "webp": {"method": 6},
    "avif": {"speed": 6},
    "jxl": {},
}


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


def check(names: tuple[str, ...]) -> None:
    """Refuse a codec that this Pillow doesn't have.

    Raises:
        InputError: it is named, with what would bring it.
    """
    missing = [name for name in names if name in ("webp", "avif") and not features.check(name)]
    if missing:
        raise InputError(f"this Pillow has no {missing[0]}: pip install -U pillow, or leave it out of codecs")
    if "jxl" in names:
        imported("pillow_jxl", "jxl", "codecs: jxl")  # importing it is what teaches Pillow the format


def points(pixels: Pixels, names: tuple[str, ...], model: Model, trade: float | None) -> Iterator[Point]:
    """Our files of the picture at each quality, then those of the other codecs."""
    for quality in model.qualities:
        yield _point(
            pixels,
            OURS,
            quality,
            lambda quality=quality: codec.compress(
                pixels, model=model, quality=quality, trade=trade, verify=False
            ),
            lambda data: codec.decompress(data, model=model),
        )
    check(names)
    for name in names:
        for quality in QUALITIES[name]:
            yield _point(
                pixels, name, quality, lambda n=name, q=quality: _save(pixels, n, q), lambda data: _open(data)
            )


def _point(
    pixels: Pixels,
    name: str,
    quality: int,
    compress: Callable[[], bytes],
    decompress: Callable[[bytes], np.ndarray],
) -> Point:
    start = time.perf_counter()
    data = compress()
    middle = time.perf_counter()
    again = decompress(data)
    end = time.perf_counter()
    psnr, ssim = likeness(pixels, again)
    rate = 8 * len(data) / (pixels.shape[0] * pixels.shape[1])
    return Point(name, quality, len(data), rate, psnr, ssim, middle - start, end - middle)


def likeness(pixels: Pixels, again: np.ndarray) -> tuple[float, float | None]:
    """PSNR over all three channels and SSIM, as `metrics.likeness` defines them; None where a picture is too small."""
    if again.ndim == 2:
        again = np.repeat(again[..., None], 3, axis=2)
    one, other = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None].double() / 255 for p in (pixels, again))
    large = min(pixels.shape[:2]) >= WINDOW
    return float(psnr(one, other)), float(ssim(other, one)) if large else None


def _save(pixels: Pixels, name: str, quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, name.upper(), quality=quality, **_OPTIONS[name])
    return stream.getvalue()


def _open(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as opened:
        return np.array(opened.convert("RGB"))
