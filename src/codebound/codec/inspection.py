"""What is in a file, by its header: read in no time, and without PyTorch."""

from __future__ import annotations

from typing import NamedTuple

from codebound.codec.sources import Data, read_bytes
from codebound.coding import container, picture_container, sound_container
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


class SoundReport(NamedTuple):
    """What is in a file of sound.

    Attributes:
        model: the model's hash in hexadecimal digits.
        sample_rate, channels, samples: of the sound.
        stages, codebook_size: of the indices; frames: how many there are of each channel.
        segments: parts that can be decoded each by itself; modes: how their indices are coded.
        bytes: the length of the file; overhead: of them, those beside the streams.
    """

    model: str
    sample_rate: int
    channels: int
    samples: int
    stages: int
    codebook_size: int
    frames: int
    segments: int
    modes: tuple[str, ...]
    bytes: int
    overhead: int


def inspect_sound(data: Data) -> SoundReport:
    """What is in a file of sound, without decoding it; its checksums of bytes are checked.

    Raises:
        DamagedFile, UnsupportedFile: as `decompress_sound`.
    """
    data = read_bytes(data)
    header, segments, samples = sound_container.unpack(data)
    streams = sum(len(segment.stream) for segment in segments)
    return SoundReport(
        header.model.hex(),
        header.sample_rate,
        header.channels,
        samples,
        header.stages,
        header.codebook_size,
        sum(segment.frames for segment in segments),
        len(segments),
        tuple(sorted({segment.mode.name.lower() for segment in segments})),
        len(data),
        len(data) - streams,
    )


def _wavelet_report(data: bytes) -> Report:
    """What is in a file of wavelet coefficients."""
    found = picture_container.unpack(data)
    shown = Picture(found.height, found.width, found.grey)
    overhead, quality = len(data) - len(found.stream), quality_of(found.step)
    return Report(found.model.hex(), (), shown, len(data), overhead, (), found.profile, quality)
