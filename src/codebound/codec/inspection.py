"""What is in a file, by its header: read in no time, and without PyTorch."""

from __future__ import annotations

from typing import NamedTuple

from codebound.codec.sources import Data, read_bytes
from codebound.coding import container
from codebound.coding.container import NO_MODEL, Picture


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
        codebook_sizes: K of each level.
        picture: size and kind of the picture that was compressed; None for a file of indices.
        bytes: the length of the file.
        overhead: of them, those beside the streams.
        grids: the segments.
        profile: the colours that the picture was in before it was converted to sRGB; "" if they were sRGB's.
    """

    model: str
    codebook_sizes: tuple[int, ...]
    picture: Picture | None
    bytes: int
    overhead: int
    grids: tuple[Grid, ...]
    profile: str = ""


def inspect(data: Data) -> Report:
    """What is in a file, without decoding it; its checksums of bytes are checked.

    Raises:
        DamagedFile, UnsupportedFile: as `decompress_indices`.
    """
    # Header and checksums are read, streams are not.
    data = read_bytes(data)
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
