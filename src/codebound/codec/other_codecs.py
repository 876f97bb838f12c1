"""Pictures as files of other codecs, by Pillow: JPEG, WebP, AVIF, JPEG XL."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, features

from codebound.errors import InputError
from codebound.extras import imported

QUALITIES: dict[str, tuple[int, ...]] = {  # settings that span a codec's range
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


def save(pixels: UInt8[np.ndarray, "h w 3"], codec: str, quality: int) -> bytes:
    """The file of a picture at one of the codec's quality settings."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, codec.upper(), quality=quality, **_OPTIONS[codec])
    return stream.getvalue()


def load(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The picture in a file."""
    with Image.open(io.BytesIO(data)) as opened:
        return np.array(opened.convert("RGB"))
