"""Colours as brightness and two differences, at right angles: an error in any of them is as large an error in RGB."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from codebound.wavelet.lifting import FRACTION

MIDDLE = 128  # the grey that is 0 in all planes
_UNIT = 12  # bits after the point of the factors below
THIRD, HALF, SIXTH = 2365, 2896, 1672  # √(1/3), √(1/2), √(1/6)
_FORWARD = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
_LARGEST = 1 << 17  # a plane's largest value that counts: 512 levels of grey
_BLOCK = 1 << 16  # pixels at a time, so that they stay near the processor


def planes(pixels: UInt8[np.ndarray, "h w 3"], count: int) -> list[Float32[np.ndarray, "h w"]]:
    """The first planes: (R + G + B)/√3, (R − B)/√2, (R − 2G + B)/√6, of differences from the middle grey."""
    red, green, blue = (pixels[..., channel].astype(np.float32) - MIDDLE for channel in range(3))
    return [(r * red + g * green + b * blue) for r, g, b in _FORWARD[:count].astype(np.float32)]


def pixels(found: list[Int32[np.ndarray, "h w"]]) -> UInt8[np.ndarray, "h w *c"]:
    """Pixels of one plane `[h, w]` or of three `[h, w, 3]`, in units of 2^−8, to the nearest level."""
    height, width = found[0].shape
    channels = 1 if len(found) == 1 else 3
    out = np.empty((height * width, channels), dtype=np.uint8)
    for start in range(0, height * width, _BLOCK):
        part = slice(start, start + _BLOCK)
        flat = [np.clip(plane.reshape(-1)[part], -_LARGEST, _LARGEST) for plane in found]
        bright = flat[0] * np.int32(THIRD)
        sums = [bright]
        if channels == 3:
            across, along = flat[1] * np.int32(HALF), flat[2] * np.int32(SIXTH)
            sums = [bright + across + along, bright - 2 * along, bright - across + along]
        for channel, total in enumerate(sums):
            out[part, channel] = _levels(total)
    return out.reshape((height, width) if channels == 1 else (height, width, 3))


def _levels(total: Int32[np.ndarray, " n"]) -> UInt8[np.ndarray, " n"]:
    """Sums in units of 2^−20 to 0 … 255, half a level up."""
    shift = _UNIT + FRACTION
    total += np.int32((MIDDLE << shift) + (1 << (shift - 1)))
    total >>= shift
    return np.clip(total, 0, 255).astype(np.uint8)
