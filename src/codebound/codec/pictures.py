"""Pictures to bytes and back: as wavelet coefficients, or with a tokenizer as indices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from codebound.codec import wavelet_pictures
from codebound.codec.picture_input import ImageLike
from codebound.codec.sources import Data, read_bytes
from codebound.coding import container, picture_container
from codebound.coding.errors import CodecError

if TYPE_CHECKING:
    from codebound.codec.model import Model

Pixels = UInt8[np.ndarray, "h w *c"]


def compress(
    image: ImageLike,
    *,
    model: Model | None = None,
    quality: int | None = None,
    trade: float | None = None,
    verify: bool = True,
) -> bytes:
    """A `.cbd` file of one picture.

    Args:
        image: a file's path, its bytes, the file opened in binary mode, a Pillow image, or 8-bit pixels `[h, w]`,
            `[h, w, 1]` or `[h, w, 3]`; or what `read_picture` made of one, where its defaults are not wanted: a
            white background for what is transparent, 2²⁸ pixels. A picture of equal channels is stored as grey.
        model: a tokenizer with its prior, for a file of its indices; none for one of wavelet coefficients, which is
            several times quicker and better.
        quality: 1 … 100, 50 if not given; with a model how many levels of a residual quantizer are written, from
            `model.qualities`, all if not given.
        trade: with a model: how much bits count against errors where indices are chosen; see `choose_indices`.
        verify: decode what was written and compare.

    Raises:
        CodecError: no picture, or one that is damaged, animated or too large; a quality that there is not; a trade
            without a model; as `choose_indices`.
    """
    check_settings(model=model, quality=quality, trade=trade)
    if model is None:
        return wavelet_pictures.compress(image, quality=quality, verify=verify)
    from codebound.codec import token_pictures  # it needs PyTorch, which takes seconds

    return token_pictures.compress(image, model=model, quality=quality, trade=trade, verify=verify)


def check_settings(
    *, model: Model | None = None, quality: int | None = None, trade: float | None = None
) -> None:
    """Refuse what `compress` takes with no picture, before one is read.

    Raises:
        CodecError: a quality that there is not; a trade without a model, or one that the model can't weigh by.
    """
    if model is None:
        if trade is not None:
            raise CodecError(f"trade is {trade}; it is for files of indices: give a model, too")
        wavelet_pictures.check_quality(quality)
        return
    from codebound.codec import token_pictures

    token_pictures.check_settings(model, quality, trade)


def decompress(
    data: Data, *, model: Model | None = None, exact: bool = False, max_pixels: int | None = None
) -> Pixels:
    """The picture in a file, given as bytes or opened in binary mode: 8-bit pixels `[h, w, 3]`, of a grey one `[h, w]`.

    Of wavelet coefficients they are the same on every machine. Of indices the indices are, but the decoder rounds, so
    that pixels may differ by 1 between machines unless `exact` asks for a decoder in float64 (three to five times
    slower).

    Args:
        model: that of a file of indices; the default one if not given.
        max_pixels: height times width of the largest picture that is decoded; 2²⁸ if not given.

    Raises:
        DamagedFile: the file is not as it was written.
        UnsupportedFile: it is of another version.
        WrongModel: it was written with another model.
        CodecError: it holds no picture, or a larger one, or takes more memory than there is.
    """
    data = read_bytes(data)
    if container.version(data) == picture_container.VERSION:
        return wavelet_pictures.decompress(data, max_pixels=max_pixels)
    from codebound.codec import token_pictures

    return token_pictures.decompress(data, model=model, exact=exact, max_pixels=max_pixels)


def verify(data: Data, *, model: Model | None = None, max_pixels: int | None = None) -> int:
    """How many values a file holds, pixels or indices, after each of them was decoded and found right.

    Raises:
        CodecError: as `decompress`; a file of indices without a picture is checked, too, with the model's prior.
    """
    data = read_bytes(data)
    if container.version(data) == picture_container.VERSION:
        return int(np.prod(wavelet_pictures.decompress(data, max_pixels=max_pixels).shape[:2]))
    from codebound.codec import token_pictures

    return token_pictures.verify(data, model=model, max_pixels=max_pixels)
