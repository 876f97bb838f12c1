"""Pixels to the bytes of a picture file, by the suffix of its name."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from codebound.errors import InputError


class PictureFormat(NamedTuple):
    """How pixels are written: Pillow's name of the format, its options, and what is said of it."""

    name: str
    options: dict[str, Any]
    said: str


_JPEG = PictureFormat("JPEG", {"quality": 95, "subsampling": 0}, "JPEG, quality 95")
_TIFF = PictureFormat("TIFF", {"compression": "tiff_lzw"}, "TIFF")
_PORTABLE = PictureFormat("PPM", {}, "PNM")
FORMATS = {
    ".png": PictureFormat("PNG", {}, "PNG"),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": PictureFormat("WEBP", {"lossless": True}, "WebP, lossless"),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": PictureFormat("BMP", {}, "BMP"),
    ".ppm": _PORTABLE,
    ".pgm": _PORTABLE,
}


def picture_format(path: Path) -> PictureFormat:
    """The format that a name asks for; PNG where it has no suffix.

    Raises:
        InputError: a suffix of another format.
    """
    suffix = path.suffix.lower() or ".png"
    if suffix not in FORMATS:
        raise InputError(
            f"--out {path}: pictures are written as {', '.join(FORMATS)}, or without suffix as PNG"
        )
    return FORMATS[suffix]


def encode_picture(pixels: UInt8[np.ndarray, "h w *c"], form: PictureFormat) -> bytes:
    """The file of a grey `[h, w]` or colour `[h, w, 3]` picture.

    Raises:
        InputError: sides that the format can't hold.
    """
    stream = io.BytesIO()
    try:
        Image.fromarray(pixels).save(stream, form.name, **form.options)
    except (OSError, ValueError) as error:
        raise InputError(
            f"a picture of {pixels.shape[1]}×{pixels.shape[0]} can't be {form.said}: {error}"
        ) from None
    return stream.getvalue()
