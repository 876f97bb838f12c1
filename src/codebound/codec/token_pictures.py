"""Pictures to files of indices and back, by a tokenizer and its prior."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int64, UInt8

from codebound.codec import tiles
from codebound.codec.bounds import check_work, in_memory
from codebound.codec.folding import fold, folded_size, strips, unfold
from codebound.codec.grids import check_model, decode_grid, decompress_grids, encode_grid
from codebound.codec.model import Model, default_model
from codebound.codec.picture_input import ImageLike, SourcePicture, read_picture
from codebound.codec.sources import Data, read_bytes
from codebound.codec.tradeoff import TRADE, choose, codebooks
from codebound.coding import container
from codebound.coding.container import Container, Picture
from codebound.coding.errors import CodecError, DamagedFile

Pixels = UInt8[np.ndarray, "h w *c"]
_LUMA = np.array([299, 587, 114], dtype=np.int64)  # ITU-R BT.601, as Pillow's "L"


def compress(
    image: ImageLike,
    *,
    model: Model,
    quality: int | None = None,
    trade: float | None = None,
    verify: bool = True,
) -> bytes:
    """A `.cbd` file of one picture's indices.

    Args:
        image: as `codec.compress`.
        quality: how many levels of a residual quantizer are written, from `model.qualities`; all by default.
        trade: how much bits count against errors where indices are chosen; see `choose_indices`.
        verify: decode what was written and compare the indices.

    Raises:
        CodecError: no picture, or one that is damaged, animated or too large; a quality that the model has not; as
            `choose_indices`.
    """
    # How many of the model's levels; the picture's pixels, and the file of them.
    levels = _levels(model, quality)
    picture = read_picture(image)
    with in_memory("the picture"):
        return _compressed(picture, model, levels, trade, verify)


def _compressed(
    picture: SourcePicture, model: Model, levels: int, trade: float | None, verify: bool
) -> bytes:
    """The file of a picture with so many levels."""
    # Pixels to indices, indices to bytes.
    pixels = picture.pixels
    indices = choose_indices(pixels, model, levels, trade)
    sizes = model.codebook_sizes[:levels]
    prior = model.prior.first(levels) if model.prior else None
    folded = strips(*indices.shape[:2]) > 1
    coded = fold(indices)
    segment = encode_grid(coded, sizes, prior)

    # What was written must decode to the same indices.
    if verify and not np.array_equal(decode_grid(segment, sizes, prior), coded):
        raise CodecError("the compressed picture did not decode to its indices: nothing was written")
    height, width = pixels.shape[:2]
    shown = Picture(height, width, picture.grey)
    return container.pack(Container(model.digest(), sizes, shown, (segment,), picture.profile, folded))


def check_settings(model: Model, quality: int | None, trade: float | None) -> None:
    """Refuse a quality that the model has not, and a trade that it can't weigh by. Raises `CodecError`."""
    _levels(model, quality)
    _check_trade(model, trade)


def _check_trade(model: Model, trade: float | None) -> None:
    if trade is not None and not 0 <= trade < math.inf:
        raise CodecError(f"trade is {trade}; 0 or more is accepted")
    if trade and model.tradeoff is None:
        raise CodecError(
            f"trade is {trade}; this model accepts 0 alone: it has no tradeoff (codebound fit-prior makes one where "
            "the quantizer's levels take the nearest of up to 512 codewords, one after the other)"
        )


def choose_indices(
    pixels: UInt8[np.ndarray, "h w c"], model: Model, levels: int, trade: float | None = None
) -> Int64[np.ndarray, "H W q"]:
    """Indices of the first levels: the nearest codewords, or cheaper ones that are nearly as near.

    Args:
        pixels: with as many channels as the tokenizer takes, or three.
        trade: 0 for the nearest; 1 to weigh a bit at what it buys on the mean over training pictures at this number
            of levels (`tradeoff.Tradeoff.weights`); `tradeoff.TRADE` if not given and the model has a tradeoff.

    Raises:
        CodecError: a trade that is negative or not finite, or above 0 for a model without a tradeoff; latents that
            are not finite.
    """
    _check_trade(model, trade)

    # A tokenizer of grey pictures gets the luminance of colour ones.
    if pixels.shape[2] != model.tokenizer.channels:
        pixels = _luma(pixels)[..., None]

    # With nothing to weigh, the nearest codewords.
    if trade == 0 or model.tradeoff is None:
        indices = tiles.encode(model.tokenizer, pixels)[..., :levels]
        _check_finite(indices.min() >= 0)
        return indices

    # Otherwise the error of each codeword is weighed against the bits that its index would take.
    books = codebooks(model.tokenizer.quantizer)
    assert books is not None  # or the model would have no tradeoff
    assert model.prior is not None
    latents = tiles.latents(model.tokenizer, pixels)
    _check_finite(bool(np.isfinite(np.square(latents).sum(-1)).all()))
    weight = TRADE if trade is None else trade
    weights = [weight * slope for slope in model.tradeoff.weights(levels)]

    # In the shape in which they will be coded: the bits depend on it.
    height, width = latents.shape[:2]
    return unfold(choose(fold(latents), books, model.prior, weights), height, width)


def _check_finite(finite: bool | np.bool_) -> None:
    if not finite:
        raise CodecError("the tokenizer's latents of this picture are not finite: its weights can't be right")


def decompress(
    data: Data, *, model: Model | None = None, exact: bool = False, max_pixels: int | None = None
) -> Pixels:
    """The picture in a file, given as bytes or opened in binary mode: 8-bit pixels `[h, w, 3]`, of a grey one `[h, w]`.

    The indices are exact on any machine. The decoder's rounding is not: pixels may differ by 1 between machines
    unless `exact` asks for a decoder in float64 (three to five times slower).

    Args:
        max_pixels: height times width of the largest picture that is decoded; 2²⁸ if not given.

    Raises:
        DamagedFile: the file is not as it was written.
        UnsupportedFile: it is of another version.
        WrongModel: it was written with another model.
        CodecError: it holds no picture, or a larger one, or takes more memory than there is.
    """
    model = model or default_model()
    contents, picture = _unpacked(read_bytes(data))
    check_work(contents, max_pixels)
    with in_memory("the picture"):
        indices = _indices(contents, picture, model)
        tokenizer = (model.exact() if exact else model).tokenizer
        return _shown(tiles.decode(tokenizer, indices, (picture.height, picture.width)), picture.grey)


def verify(data: Data, *, model: Model | None = None, max_pixels: int | None = None) -> int:
    """How many indices a file holds, after each of them was decoded and found right.

    Raises:
        CodecError: as `decompress`; a file of indices is checked, too, with the model's prior.
    """
    model, data = model or default_model(), read_bytes(data)
    if container.unpack(data).picture is None:
        return sum(grid.size for grid in decompress_grids(data, prior=model.prior, max_pixels=max_pixels))
    contents, picture = _unpacked(data)
    check_work(contents, max_pixels)
    with in_memory("the picture"):
        return _indices(contents, picture, model).size


def _unpacked(data: bytes) -> tuple[Container, Picture]:
    """The parts of a file of one picture; `CodecError` for a file of indices."""
    contents = container.unpack(data)
    if contents.picture is None or len(contents.segments) != 1:
        raise CodecError("the file holds indices, not a picture: decompress_grids reads it")
    return contents, contents.picture


def _indices(contents: Container, picture: Picture, model: Model) -> Int64[np.ndarray, "H W q"]:
    """The indices of a file of one picture, decoded with the model that it was written with."""
    # The file must be of this model, and its grid of its picture's size.
    check_model(contents, model.digest())
    levels = len(contents.codebook_sizes)
    if contents.codebook_sizes != model.codebook_sizes[:levels] or levels not in model.qualities:
        raise DamagedFile(
            f"the file has codebook sizes {contents.codebook_sizes}, its model has {model.codebook_sizes}"
        )
    (segment,), stride = contents.segments, model.tokenizer.stride
    height, width = (-(-side // stride) for side in (picture.height, picture.width))
    if (segment.height, segment.width) != (
        folded_size(height, width) if contents.folded else (height, width)
    ):
        raise DamagedFile(
            f"the file has a grid of {segment.height}x{segment.width} for {picture.height}x{picture.width} pixels"
        )
    prior = model.prior.first(levels) if model.prior else None
    indices = decode_grid(segment, contents.codebook_sizes, prior)
    return unfold(indices, height, width) if contents.folded else indices


def _shown(pixels: UInt8[np.ndarray, "h w c"], grey: bool) -> Pixels:
    """Decoded pixels as they are given back: a picture that was grey is grey again."""
    if pixels.shape[2] == 1:
        return pixels[..., 0]
    return _luma(pixels) if grey else pixels


def _luma(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    """Luminance in whole numbers, rounded half up: the same on every machine."""
    return ((pixels @ _LUMA + 500) // 1000).astype(np.uint8)


def _levels(model: Model, quality: int | None) -> int:
    """How many levels a quality stands for: the quality itself, or all of them where none is given."""
    quality = model.qualities[-1] if quality is None else quality
    if quality not in model.qualities:
        accepted = f"{model.qualities[0]} … {model.qualities[-1]}"
        raise CodecError(f"quality is {quality}; this model has {accepted}")
    return quality
