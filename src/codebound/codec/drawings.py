"""Pictures of few colours, such as text and flat drawings: a PNG keeps them exactly, often in fewer bytes."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

COLOURS = 256  # that a palette holds
_LOOK = 1 << 14  # pixels that show most pictures to have more


def exact_png(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes | None:
    """A picture of at most 256 colours as a PNG with a palette; None if it has more."""
    # A photograph shows more in its first rows.
    red, green, blue = (pixels[..., channel].reshape(-1).astype(np.uint32) for channel in range(3))
    packed = red << 16 | green << 8 | blue
    if len(np.unique(packed[:_LOOK])) > COLOURS:
        return None
    colours, places = np.unique(packed, return_inverse=True)
    if len(colours) > COLOURS:
        return None

    # Each pixel as the place of its colour.
    image = Image.fromarray(places.reshape(pixels.shape[:2]).astype(np.uint8), "P")
    image.putpalette(
        np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.uint8).tobytes()
    )
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()
