"""Pictures to files of wavelet coefficients and back: quick, without PyTorch, the same pixels on every machine."""

from __future__ import annotations

import zlib

import numpy as np

from codebound.codec.bounds import check_pixels, in_memory
from codebound.codec.drawings import patch_share
from codebound.codec.picture_input import ImageLike, read_picture
from codebound.coding import picture_container
from codebound.coding.errors import CodecError, DamagedFile, WrongModel
from codebound.coding.picture_container import QUALITIES, STEP, PictureFile, step_of
from codebound.wavelet import pictures
from codebound.wavelet.coding import Layout
from codebound.wavelet.model import COMPONENTS, default_wavelet_model
from codebound.wavelet.pictures import Pixels

FLAT = 6  # flat step number of pictures with patches of one colour: right to two levels, at any quality
PATCHES = 0.1  # of a picture's blocks are of one colour, if it has such patches
QUALITY = 50  # if none is given: 1.06 to 2.61 bits a pixel on the four held-out photographs


def compress(image: ImageLike, *, quality: int | None = None, verify: bool = True) -> bytes:
    """A `.cbd` file of one picture's wavelet coefficients.

    Args:
        image: as `codec.compress`.
        quality: 1 … 100, `QUALITY` if not given; levels are 2^((127 − 1.27·quality) / 16) levels of grey apart, and
            below 10 up to twice as many.
        verify: decode what was written and compare the pixels.

    Raises:
        CodecError: no picture, or one that is damaged, animated or too large; another quality.
    """
    # What there is to choose from.
    check_quality(quality)
    quality = QUALITY if quality is None else quality

    # The file, and the pixels that it must decode to.
    step, picture, model = step_of(quality), read_picture(image), default_wavelet_model()
    height, width = picture.pixels.shape[:2]
    with in_memory("the picture"):
        flat = FLAT if patch_share(picture.pixels) >= PATCHES else STEP
        stream, expected = pictures.encode(picture.pixels, picture.grey, step, model, flat=flat)
        data = picture_container.pack(
            PictureFile(
                model.digest,
                height,
                width,
                picture.grey,
                step,
                flat,
                stream,
                zlib.crc32(expected.data),
                picture.profile,
            )
        )
        if verify and not np.array_equal(_pixels(picture_container.unpack(data)), expected):
            raise CodecError("the compressed picture did not decode to its pixels: nothing was written")
    return data


def check_quality(quality: int | None) -> None:
    """Refuse a quality that there is not. Raises `CodecError`."""
    if quality is not None and quality not in QUALITIES:
        raise CodecError(f"quality is {quality}; {QUALITIES[0]} … {QUALITIES[-1]} is accepted")


def decompress(data: bytes, *, max_pixels: int | None = None) -> Pixels:
    """The picture in a file: 8-bit pixels `[h, w, 3]`, of a grey one `[h, w]`, each of them checked.

    Raises:
        DamagedFile: the file is not as it was written.
        UnsupportedFile, WrongModel: it is of another version, or was written with another model.
        CodecError: it holds a larger picture, or takes more memory than there is.
    """
    contents = picture_container.unpack(data)
    check_pixels(contents.height * contents.width, max_pixels)
    with in_memory("the picture"):
        return _pixels(contents)


def _pixels(contents: PictureFile) -> Pixels:
    """The decoded pixels, which must be those that were written."""
    model = default_wavelet_model()
    if contents.model != model.digest:
        raise WrongModel(
            f"the file was written with wavelet model {contents.model.hex()}; this package has {model.digest.hex()}"
        )
    components = 1 if contents.grey else COMPONENTS
    layout = Layout(contents.height, contents.width, components, contents.step, contents.flat)
    pixels = pictures.decode(contents.stream, layout, model)
    if zlib.crc32(pixels.data) != contents.checksum:
        raise DamagedFile("the file is damaged: the checksum of its pixels is wrong")
    return pixels
