"""Grids of indices to bytes and back."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int64

from codebound.codec import streams
from codebound.codec.bounds import check_work, in_memory
from codebound.codec.sources import Data, read_bytes
from codebound.coding import container
from codebound.coding.container import CODEBOOK, HASH, LEVELS, NO_MODEL, Container, Mode, Segment
from codebound.coding.errors import CodecError, DamagedFile, WrongModel
from codebound.priors.field import Field
from codebound.priors.grid_prior import GridPrior

MODES = tuple(Mode)


def compress_indices(
    indices: Int[np.ndarray, "h w q"],
    codebook_sizes: Sequence[int],
    *,
    prior: GridPrior | None = None,
    modes: Sequence[Mode] = MODES,
    verify: bool = True,
) -> bytes:
    """A `.cbd` file of one grid of indices; `decompress_indices` gives them back exactly. See `compress_grids`."""
    return compress_grids([indices], codebook_sizes, prior=prior, modes=modes, verify=verify)


def compress_grids(
    grids: Sequence[Int[np.ndarray, "_ _ q"]],
    codebook_sizes: Sequence[int],
    *,
    prior: GridPrior | None = None,
    modes: Sequence[Mode] = MODES,
    verify: bool = True,
) -> bytes:
    """A `.cbd` file of one or more grids of any sizes, each with codes of the same codebooks.

    Each level is written in whichever mode takes fewest bytes, so that a prior which doesn't fit costs nothing. A
    grid's counts start afresh.

    Args:
        grids: rows, columns, levels; each level's indices in 0 … K − 1.
        codebook_sizes: K of each level, 2 … 65,536.
        prior: what `NETWORK` predicts with; its hash is written to the file.
        modes: those to try; without a prior `NETWORK` is passed over.
        verify: decode what was written and compare.

    Raises:
        CodecError: indices, sizes, modes or prior that don't fit.
    """
    # Refuse what does not fit before anything is coded.
    sizes = tuple(codebook_sizes)
    if not grids:
        raise CodecError("grids must be one or more; got none")
    checked = [_checked(indices, sizes) for indices in grids]

    # One segment for each grid.
    model = NO_MODEL if prior is None else model_hash(prior)
    segments = tuple(encode_grid(grid, sizes, prior, modes) for grid in checked)
    data = container.pack(Container(model, sizes, None, segments))

    # What was written must decode to what was given.
    if verify and not _equal(_decoded(container.unpack(data), prior), checked):
        raise CodecError("the compressed indices did not decode to what they were: nothing was written")
    return data


def _equal(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def decompress_indices(
    data: Data, *, prior: GridPrior | None = None, max_pixels: int | None = None
) -> Int64[np.ndarray, "h w q"]:
    """The indices in a file of one grid.

    Raises:
        CodecError: as `decompress_grids`, or the file holds several grids.
    """
    contents = container.unpack(read_bytes(data))
    if len(contents.segments) != 1:
        raise CodecError(f"the file holds {len(contents.segments)} grids: decompress_grids reads them")
    check_work(contents, max_pixels)
    return _decoded(contents, prior)[0]


def decompress_grids(
    data: Data, *, prior: GridPrior | None = None, max_pixels: int | None = None
) -> list[Int64[np.ndarray, "_ _ q"]]:
    """The indices of every grid in a file.

    Args:
        data: the file's bytes, or the file opened for reading in binary mode.
        max_pixels: bounds what is decoded, by what it takes: 8 pixels are worth an index, 1,024 a diagonal of them.
            2²⁸ if not given.

    Raises:
        CodecError: the file would take more than `max_pixels`, or more memory than there is.
        DamagedFile: the file is not as it was written.
        UnsupportedFile: it is of another version.
        WrongModel: it was written with another prior.
    """
    contents = container.unpack(read_bytes(data))
    check_work(contents, max_pixels)
    return _decoded(contents, prior)


def _decoded(contents: Container, prior: GridPrior | None) -> list[Int64[np.ndarray, "_ _ q"]]:
    """The grids of a file, once it is known that it was written with this prior or without one."""
    check_model(contents, NO_MODEL if prior is None else model_hash(prior))
    needed = prior if contents.model != NO_MODEL else None
    with in_memory("the file"):
        return [decode_grid(segment, contents.codebook_sizes, needed) for segment in contents.segments]


def encode_grid(
    indices: Int64[np.ndarray, "h w q"],
    codebook_sizes: tuple[int, ...],
    prior: GridPrior | None,
    modes: Sequence[Mode] = MODES,
) -> Segment:
    """One segment: all levels of a grid, the first first.

    Raises:
        CodecError: no mode is left to try, or the prior is of other codebook sizes.
    """
    # Without a prior one mode is out of the question.
    if prior is None:
        modes = [mode for mode in modes if mode is not Mode.NETWORK]
    if not modes:
        raise CodecError("modes must name one that needs no prior, or a prior must be given")
    _check_prior(prior, codebook_sizes)

    # The levels as one stream, and a checksum of the indices by which a decoder knows them.
    field = Field(indices, codebook_sizes)
    coded = streams.encode_levels(field, prior, modes)
    return Segment(field.height, field.width, coded.modes, coded.stream, _checksum(indices))


def decode_grid(
    segment: Segment, codebook_sizes: tuple[int, ...], prior: GridPrior | None
) -> Int64[np.ndarray, "h w q"]:
    """The indices of a segment.

    Raises:
        DamagedFile: they are not those that were written.
        WrongModel: the prior is missing or of other codebook sizes.
    """
    # Another prior would decode to other indices without a complaint.
    if prior is not None and prior.codebook_sizes != codebook_sizes:
        raise WrongModel(
            f"the file has codebook sizes {codebook_sizes}; the prior is for {prior.codebook_sizes}"
        )

    # Decode into an empty grid, and compare with the checksum of what was written.
    start = np.zeros((segment.height, segment.width, len(codebook_sizes)), dtype=np.int64)
    field = Field(start, codebook_sizes)
    streams.decode_levels(segment.stream, segment.modes, field, prior)
    indices = field.indices()
    if _checksum(indices) != segment.checksum:
        raise DamagedFile("the file is damaged, or was written by another implementation: its indices differ")
    return indices


def _checksum(indices: Int64[np.ndarray, "h w q"]) -> int:
    """CRC-32 of the indices as little-endian 16-bit numbers, level by level, each row by row."""
    return zlib.crc32(np.ascontiguousarray(indices.transpose(2, 0, 1)).astype("<u2").tobytes())


def model_hash(prior: GridPrior) -> bytes:
    """What names a prior in a file: the first 8 bytes of its digest."""
    return prior.digest()[:HASH]


def check_model(contents: Container, present: bytes) -> None:
    """Raise `WrongModel`, with both hashes, unless the file was written with this model or without one."""
    if contents.model not in (present, NO_MODEL):
        given = "none" if present == NO_MODEL else f"model {present.hex()}"
        raise WrongModel(f"the file was written with model {contents.model.hex()}; {given} was given")


def _check_prior(prior: GridPrior | None, codebook_sizes: tuple[int, ...]) -> None:
    if prior is not None and prior.codebook_sizes != codebook_sizes:
        raise CodecError(f"codebook_sizes are {codebook_sizes}; the prior is for {prior.codebook_sizes}")


def _checked(indices: Int[np.ndarray, "h w q"], sizes: tuple[int, ...]) -> Int64[np.ndarray, "h w q"]:
    """The indices as int64, or `CodecError`."""
    # The form of the indices, the codebook sizes, and what the format can hold.
    if indices.ndim != 3 or indices.dtype.kind not in "iu" or 0 in indices.shape:
        raise CodecError(
            f"indices must be whole numbers [h, w, levels], none of them 0; got {indices.dtype} {indices.shape}"
        )
    if not (len(sizes) == indices.shape[2] <= LEVELS and all(2 <= size <= CODEBOOK for size in sizes)):
        raise CodecError(
            f"codebook_sizes must be one of 2 … {CODEBOOK} per level, for 1 … {LEVELS} levels; got {sizes} "
            f"for indices {indices.shape}"
        )
    if max(indices.shape[:2]) > container.SIDE:
        raise CodecError(f"indices may have {container.SIDE} rows and columns at most; got {indices.shape}")

    # Every index must be one of its codebook's.
    for level, size in enumerate(sizes):
        low, high = int(indices[..., level].min()), int(indices[..., level].max())
        if low < 0 or high >= size:
            raise CodecError(f"level {level} has indices {low} … {high}; accepted: 0 … {size - 1}")
    return indices.astype(np.int64)
