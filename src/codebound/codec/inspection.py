"""What is in a file, by its header: read in no time, and without PyTorch."""

from __future__ import annotations

from typing import NamedTuple

from codebound.codec.sources import Data, read_bytes
from codebound.coding import container, picture_container
from codebound.coding.container import NO_MODEL, Picture
from codebound.coding.picture_container import quality_of


class Grid(NamedTuple):
    """One segment of a file: its size, the bytes of its stream, and how each level is coded."""

    height: int
    width: int
    bytes: int
    modes: tuple[str, ...]


class Report(NamedTuple):
    """What is in a file.

    Attributes:
        model: the model's hash in hexadecimal digits; "" for none.
        codebook_sizes: K of each level; none for wavelet coefficients.
        picture: size and kind of the picture that was compressed; None for a file of indices.
        bytes: the length of the file.
        overhead: of them, those beside the streams.
        grids: the segments.
        profile: the colours that the picture was in before it was converted to sRGB; "" if they were sRGB's.
        quality: 1 … 100, of a picture of wavelet coefficients; None for indices.
    """

    model: str
    codebook_sizes: tuple[int, ...]
    picture: Picture | None
    bytes: int
    overhead: int
    grids: tuple[Grid, ...]
    profile: str = ""
    quality: int | None = None


def inspect(data: Data) -> Report:
    """What is in a file, without decoding it; its checksums of bytes are checked.

    Raises:
        DamagedFile, UnsupportedFile: as `decompress_indices`.
    """
    # Header and checksums are read, streams are not.
    data = read_bytes(data)
    if container.version(data) == picture_container.VERSION:
        return _wavelet_report(data)
    contents = container.unpack(data)
    grids = tuple(
        Grid(
            segment.height,
            segment.width,
            len(segment.stream),
            tuple(mode.name.lower() for mode in segment.modes),
        )
        for segment in contents.segments
    )

    # What is left beside the streams is the file's own overhead.
    model = "" if contents.model == NO_MODEL else contents.model.hex()
    overhead = len(data) - sum(grid.bytes for grid in grids)
    sizes, picture = contents.codebook_sizes, contents.picture
    return Report(model, sizes, picture, len(data), overhead, grids, contents.profile)


def _wavelet_report(data: bytes) -> Report:
    """What is in a file of wavelet coefficients."""
    found = picture_container.unpack(data)
    shown = Picture(found.height, found.width, found.grey)
    overhead, quality = len(data) - len(found.stream), quality_of(found.step)
    return Report(found.model.hex(), (), shown, len(data), overhead, (), found.profile, quality)
