"""Pixels to a stream and back."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from threadpoolctl import threadpool_limits

from codebound.coding.picture_container import STEP, least_bytes
from codebound.coding.range_coder import Decoder, Encoder
from codebound.wavelet import colours
from codebound.wavelet.choice import WEIGHT, Choice
from codebound.wavelet.coding import Layout, code
from codebound.wavelet.lifting import Pyramid, analyse, synthesise
from codebound.wavelet.model import COMPONENTS, WaveletModel

Pixels = UInt8[np.ndarray, "h w *c"]


# The matrices are small: threads would wait for each other longer than they work.
@threadpool_limits.wrap(limits=1, user_api="blas")
def encode(
    pixels: UInt8[np.ndarray, "h w 3"],
    grey: bool,
    step: int,
    model: WaveletModel,
    weight: float = WEIGHT,
    flat: int = STEP,
) -> tuple[bytes, Pixels]:
    """The stream of a picture, and the pixels that a decoder will make of it.

    Args:
        grey: the three channels are equal: only brightness is written.
        step: step number, 0 … 143, for steps of 2^(number / 16) levels of grey.
        weight: squared steps that a bit is worth.
        flat: step number of what patches of one colour are made of.
    """
    components = 1 if grey else COMPONENTS
    planes = [analyse(plane) for plane in colours.planes(pixels, components)]
    coder = Encoder()
    height, width = pixels.shape[:2]
    layout = Layout(height, width, components, step, flat)
    found = code(layout, model, coder, Choice(planes, model, weight))
    return coder.payload(), _pixels(found)


@threadpool_limits.wrap(limits=1, user_api="blas")
def decode(stream: bytes, layout: Layout, model: WaveletModel) -> Pixels:
    """The picture in a stream: `[h, w]` of one component, else `[h, w, 3]`, the same on every machine.

    Raises:
        DamagedFile: bytes behind the last symbol, or some that no encoder wrote; others decode to wrong pixels
            unnoticed.
    """
    coder = Decoder(stream, least_bytes(layout.height, layout.width))
    found = code(layout, model, coder, None)
    coder.check_end()
    return _pixels(found)


def _pixels(found: list[Pyramid]) -> Pixels:
    return colours.pixels([synthesise(pyramid) for pyramid in found])
