"""One picture file, or its bytes, to upright 8-bit sRGB: whatever is wrong with it is one refusal that names it."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from codebound.data.colour import WHITE, to_srgb
from codebound.data.listing import Listing, files_below
from codebound.errors import InputError

SUFFIXES = (
    *(
        ".png",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".webp",
        ".avif",
        ".tif",
        ".tiff",
        ".bmp",
        ".dib",
        ".gif",
    ),
    *(".jp2", ".j2k", ".jpx", ".jpf", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".qoi", ".psd"),
)
MAX_PIXELS = 2**28  # of a picture that is opened without another bound
_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # an EXIF tag, and its values that swap height and width
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_limit = threading.Lock()  # Pillow's own bound is a global


class Upright(NamedTuple):
    """A picture as it is seen.

    Attributes:
        pixels: 8-bit sRGB.
        profile: the name of the colour profile that it was converted from; "" if there was nothing to convert.
        transparent: whether a background shows through.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    profile: str
    transparent: bool


@contextmanager
def opened_image(
    source: str | Path | io.BytesIO, name: str, max_pixels: int | None = None
) -> Iterator[Image.Image]:
    """An image of which the header is read and no pixel yet; of several frames the first, of layers their sum.

    Args:
        max_pixels: height times width of the largest one that is accepted (default 2²⁸).

    Raises `InputError`, naming the image, if it is damaged or too large. What shows that inside the block is
    Pillow's; `refusing` makes a refusal of it, too.
    """
    most = MAX_PIXELS if max_pixels is None else max_pixels
    if _is_empty(source):
        raise InputError(f"image {name} is empty: it has no bytes")
    with refusing(name):
        opened = _open(source, most)
    with opened:
        if opened.width * opened.height > most:
            raise InputError(
                f"image {name} is too large: {opened.width}×{opened.height} pixels; max_pixels={most} are accepted"
            )
        yield opened


def _is_empty(source: str | Path | io.BytesIO) -> bool:
    """Whether a file on the disk, or bytes, hold nothing."""
    if isinstance(source, io.BytesIO):
        return not source.getbuffer().nbytes
    return os.path.isfile(source) and os.path.getsize(source) == 0


def _open(source: str | Path | io.BytesIO, most: int) -> Image.Image:
    """Pillow's `open` under our bound instead of its own, which is a third of what phones take."""
    with _limit:
        before = Image.MAX_IMAGE_PIXELS
        try:
            Image.MAX_IMAGE_PIXELS = most
            return Image.open(source)
        finally:
            Image.MAX_IMAGE_PIXELS = before


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Whatever Pillow raises in here is an `InputError` that names the image; its warnings, which don't, are left out.

    Damaged files make it raise nearly anything: OSError, TypeError, KeyError, struct.error, NotImplementedError.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"image {name} is too large: {error}") from error
    except MemoryError as error:
        raise InputError(f"image {name} is too large for the memory that there is") from error
    except UnidentifiedImageError as error:
        raise InputError(f"image {name} can't be read, it is damaged or not an image") from error
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"image {name} can't be read, it is damaged or not an image: {reason}") from error


def upright(image: Image.Image, name: str, background: tuple[int, int, int] = WHITE) -> Upright:
    """An opened image turned upright by its EXIF tag and converted by `to_srgb`.

    Raises `InputError`, naming the image, if it is damaged, or has float pixels or whole ones beyond 16 bits.
    """
    with refusing(name):
        image.load()
        colours = to_srgb(image, name, background)
        turn = _TURNS.get(_orientation(image))
        picture = colours.image if turn is None else colours.image.transpose(turn)
        return Upright(np.array(picture), colours.profile, colours.transparent)


def upright_pixels(image: Image.Image, name: str) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of `upright`, on white where the image is transparent."""
    return upright(image, name).pixels


def reduced_image(
    image: Image.Image, name: str, size: tuple[int, int], channels: int
) -> tuple[Image.Image, tuple[int, int]]:
    """An opened image upright, at a scale from which one of `size` is cut or resized; and `size` turned along.

    A JPEG that is more than twice as large is decoded at a half, a quarter or an eighth, by leaving out
    frequencies: several times faster, and still at least twice `size`.

    Args:
        size: height and width as the file has them, before its EXIF tag turns it.
        channels: 1 (grey) or 3 (colour).

    Raises `InputError` as `upright`.
    """
    height, width = size
    with refusing(name):
        image.draft(None, (2 * width, 2 * height))  # pyright: ignore[reportArgumentType]  None: the mode stays
    picture = Image.fromarray(upright_pixels(image, name)).convert("RGB" if channels == 3 else "L")
    turned = _orientation(image) in _ON_ITS_SIDE
    return picture, (width, height) if turned else size


def whole_image(image: Image.Image, name: str, long_side: int, channels: int) -> UInt8[np.ndarray, "h w c"]:
    """An opened image upright in full, reduced so that neither side is longer than `long_side`; never enlarged.

    Raises `InputError` as `upright`.
    """
    own = max(image.height, image.width)
    side = min(own, long_side)
    target = (max(1, round(image.height * side / own)), max(1, round(image.width * side / own)))
    picture, (height, width) = reduced_image(image, name, target, channels)
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return np.array(picture).reshape(height, width, channels)


def _orientation(image: Image.Image) -> int:
    """The EXIF tag of a loaded image; upright where the rest of its EXIF data can't be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # as in `refusing`; but the pixels are there
        return 1


def image_names(path: str | Path) -> Listing:
    """Names of the image files below a folder, and of what was passed over, as `files_below` has them.

    Raises `InputError` if the folder is missing or has no image.
    """
    return files_below(path, SUFFIXES, "image")
