"""Text and flat drawings, which a PNG keeps exactly, often in fewer bytes."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import UInt8, UInt32
from PIL import Image

from codebound.codec.bounds import in_memory
from codebound.codec.picture_input import SourcePicture
from codebound.coding.errors import CodecError

COLOURS = 256  # that a palette holds
FLAT = 0.6  # of the pixels of a drawing have the colour of their left or upper neighbour, of a photograph's fewer
FEW, MANY = 2.0, 1.2  # times the lossy file that a drawing's PNG may be, of few colours and of more
BLOCK = 16  # pixels, of each side of the blocks that show patches of one colour
_LOOK = 1 << 14  # pixels, from all over a picture, that show most pictures to have more colours


def better_png(picture: SourcePicture, size: int) -> bytes | None:
    """An exact PNG of a picture that is better off as one than as a lossy file; None if it is not.

    That is a drawing whose PNG is not much larger, or any picture of at most 256 colours whose PNG is not larger at
    all. Of what is transparent, has 16 bits or was in other colours there is no exact PNG here, and where the memory
    does not suffice for one, none is made.

    Args:
        size: bytes of the lossy file.
    """
    if picture.transparent or picture.deep or picture.profile:
        return None
    try:
        with in_memory("the picture"):
            # A photograph has neither few colours nor flat parts.
            flat = _flat_share(_packed(picture.pixels)) >= FLAT
            found = exact_png(picture.pixels)
            most = size * (FEW if flat else 1)
            if found is None and flat:
                found, most = _saved(Image.fromarray(picture.pixels)), size * MANY
            return found if found is not None and len(found) <= most else None
    except CodecError:
        return None


def exact_png(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes | None:
    """A picture of at most 256 colours as a PNG with a palette; None if it has more."""
    # Most pictures show more in a few of their pixels, taken with an odd stride from all rows and columns.
    packed = _packed(pixels)
    if len(np.unique(packed.reshape(-1)[:: packed.size // _LOOK | 1])) > COLOURS:
        return None
    colours, places = np.unique(packed, return_inverse=True)
    if len(colours) > COLOURS:
        return None

    # Each pixel as the place of its colour.
    image = Image.fromarray(places.reshape(packed.shape).astype(np.uint8), "P")
    image.putpalette(
        np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.uint8).tobytes()
    )
    return _saved(image)


def patch_share(pixels: UInt8[np.ndarray, "h w 3"]) -> float:
    """The share of a picture's blocks of 16×16 pixels that are of one colour; 0 of a picture that has no block."""
    rows, columns = pixels.shape[0] // BLOCK, pixels.shape[1] // BLOCK
    if rows == 0 or columns == 0:
        return 0.0
    # One row of blocks after the other, so that a large picture is not held twice.
    flat = 0
    for top in range(0, rows * BLOCK, BLOCK):
        blocks = pixels[top : top + BLOCK, : columns * BLOCK].reshape(BLOCK, columns, BLOCK, 3)
        flat += int((blocks == blocks[:1, :, :1]).all(axis=(0, 2, 3)).sum())
    return flat / (rows * columns)


def _packed(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt32[np.ndarray, "h w"]:
    """Each pixel as one number."""
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _flat_share(packed: UInt32[np.ndarray, "h w"]) -> float:
    """The share of pixels that are equal to their left or upper neighbour."""
    same = np.zeros(packed.shape, dtype=bool)
    same[:, 1:] = packed[:, 1:] == packed[:, :-1]
    same[1:] |= packed[1:] == packed[:-1]
    return float(same.mean())


def _saved(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()
