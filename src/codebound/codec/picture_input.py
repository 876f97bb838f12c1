"""What can be compressed as a picture, to its pixels."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, TiffImagePlugin

from codebound.codec.sources import Readable, read_bytes
from codebound.coding.errors import CodecError
from codebound.data.colour import WHITE
from codebound.data.picture_reading import opened_image, refusing, upright
from codebound.errors import InputError

_SUBFILE, _REDUCED = 254, 1  # a TIFF tag, and its bit for a smaller copy of another page


class SourcePicture(NamedTuple):
    """A picture that was read.

    Attributes:
        pixels: upright, in 8-bit sRGB.
        grey: whether all three channels are equal everywhere.
        profile: the name of the colour profile that it was converted from; "" if there was nothing to convert.
        transparent: whether a background shows through.
        deep: whether it has more than 8 bits for each channel, which are rounded.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    grey: bool
    profile: str = ""
    transparent: bool = False
    deep: bool = False


ImageLike = str | Path | bytes | Readable | Image.Image | np.ndarray | SourcePicture


def read_picture(
    image: ImageLike, *, background: tuple[int, int, int] = WHITE, max_pixels: int | None = None
) -> SourcePicture:
    """Anything that `compress` takes as upright 8-bit sRGB: colour profiles are applied, 16-bit grey is scaled.

    Args:
        image: a file's path, its bytes, the file opened in binary mode, a Pillow image, or 8-bit pixels `[h, w]`,
            `[h, w, 1]` or `[h, w, 3]`. Of a phone's picture with smaller ones beside it (MPO), of layers (PSD) and
            of a page with reduced copies (TIFF) the picture itself.
        background: what shows through where the picture is transparent, in sRGB.
        max_pixels: of a file: height times width of the largest picture that is accepted; 2²⁸ by default.

    Raises:
        CodecError: no picture, or one that is damaged, animated or too large.
    """
    # An array is its own pixels.
    if isinstance(image, SourcePicture):
        return image
    if isinstance(image, np.ndarray):
        return _from_array(image)

    # Anything else is opened by Pillow, once: first its header, which says what it is, then its pixels.
    try:
        name, opening = _opening(image, max_pixels)
        with opening as opened:
            _check_single(opened, name)
            deep = opened.mode.startswith("I") or ";16" in str(getattr(opened, "tile", ""))
            found = upright(opened, name, background)
    except CodecError:
        raise
    except InputError as error:
        raise CodecError(str(error)) from None
    return SourcePicture(found.pixels, _is_grey(found.pixels), found.profile, found.transparent, deep)


def _opening(
    image: str | Path | bytes | Readable | Image.Image, max_pixels: int | None
) -> tuple[str, AbstractContextManager[Image.Image]]:
    """What a message calls the picture, and the picture opened."""
    if isinstance(image, Image.Image):
        return "in memory", nullcontext(image)
    if isinstance(image, str | Path):
        return str(image), opened_image(image, str(image), max_pixels)
    content = read_bytes(image)
    name = str(getattr(image, "name", f"of {len(content)} bytes"))
    return name, opened_image(io.BytesIO(content), name, max_pixels)


def _check_single(image: Image.Image, name: str) -> None:
    """Refuse what would lose frames or pages."""
    with refusing(name):
        frames = getattr(image, "n_frames", 1)
        whole = frames == 1 or image.format in ("MPO", "PSD") or _is_pyramid(image, frames)
    if not whole:
        raise CodecError(f"image {name} has {frames} frames; one is accepted")


def _is_pyramid(image: Image.Image, frames: int) -> bool:
    """Whether all further pages of a TIFF file are reduced copies."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    kinds = []
    for page in range(1, frames):
        image.seek(page)
        kinds.append(int(image.tag_v2.get(_SUBFILE, 0)) & _REDUCED)
    image.seek(0)
    return all(kinds)


def _from_array(image: np.ndarray) -> SourcePicture:
    """Pixels given as an array, in three channels."""
    shape = image.shape if image.ndim == 3 else (*image.shape, 1)
    if image.dtype != np.uint8 or len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape:
        raise CodecError(
            f"image must be uint8 [h, w], [h, w, 1] or [h, w, 3]; got {image.dtype} {image.shape}"
        )
    pixels = np.ascontiguousarray(np.broadcast_to(image.reshape(shape), (*shape[:2], 3)))
    return SourcePicture(pixels, _is_grey(pixels))


def _is_grey(pixels: UInt8[np.ndarray, "h w 3"]) -> bool:
    first = pixels[..., 0]
    return np.array_equal(first, pixels[..., 1]) and np.array_equal(first, pixels[..., 2])
