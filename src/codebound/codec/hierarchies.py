"""Files of a picture's codes at several resolutions: each level's grid is a segment of a `.cbd` file, coarse first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64, UInt8

from codebound.codec.bounds import check_work, in_memory
from codebound.codec.grids import check_model, decode_grid, encode_grid
from codebound.codec.model import model_digest
from codebound.codec.sources import Data, read_bytes
from codebound.coding import container
from codebound.coding.container import LEVELS, Container, Picture
from codebound.coding.errors import CodecError, DamagedFile
from codebound.priors.grid_prior import GridPrior
from codebound.tokenizers.hierarchy import HierarchicalTokenizer
from codebound.tokenizers.image import to_uint8


def shared_sizes(tokenizer: HierarchicalTokenizer) -> tuple[int, ...]:
    """The codebook sizes under which a file holds the grids of all levels: the largest K of any level.

    A prior for such files is `priors.fitting.fit_prior(grids of all levels, shared_sizes(tokenizer))`.

    Raises:
        CodecError: levels with different numbers of codebooks, which one file can't hold.
    """
    counts = {len(sizes) for sizes in tokenizer.codebook_sizes}
    if len(counts) != 1 or max(counts) > LEVELS:
        raise CodecError(
            f"the levels have codebook sizes {tokenizer.codebook_sizes}; as many codebooks in each, up to {LEVELS}, "
            "are accepted"
        )
    return tuple(max(sizes) for sizes in zip(*tokenizer.codebook_sizes, strict=True))


def compress_levels(
    pixels: UInt8[np.ndarray, "h w c"], tokenizer: HierarchicalTokenizer, *, prior: GridPrior | None = None
) -> bytes:
    """A `.cbd` file of a picture's indices at all levels; `decompress_levels` reads it.

    Args:
        pixels: of as many channels as the tokenizer has.
        prior: of `shared_sizes`, if any; each codebook of each level is coded with it or without, whichever is shorter.

    Raises:
        InputError: a picture of other channels.
        CodecError: levels that one file can't hold, or a prior of other sizes.
    """
    # The grids of all levels, each with counts of its own.
    sizes = shared_sizes(tokenizer)
    image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    grids = [grid[0].cpu().numpy() for grid in tokenizer.eval().encode(image)]
    if min(grid.min() for grid in grids) < 0:
        raise CodecError("the picture's latents are not all finite, so that some have no index")
    segments = tuple(encode_grid(grid, sizes, prior) for grid in grids)

    # The picture's size, and which tokenizer its indices are of.
    height, width, channels = pixels.shape
    picture = Picture(height, width, channels == 1)
    return container.pack(Container(model_digest(tokenizer, prior), sizes, picture, segments))


def level_indices(
    data: Data,
    tokenizer: HierarchicalTokenizer,
    *,
    prior: GridPrior | None = None,
    max_pixels: int | None = None,
) -> list[Int64[np.ndarray, "_ _ q"]]:
    """The indices of each level in a file, the coarsest first: the same on any machine.

    Raises:
        CodecError: as `decompress_levels`.
    """
    return _indices(_opened(data, max_pixels), tokenizer, prior)


def decompress_levels(
    data: Data,
    tokenizer: HierarchicalTokenizer,
    *,
    prior: GridPrior | None = None,
    max_pixels: int | None = None,
) -> UInt8[np.ndarray, "h w c"]:
    """The picture in a file that `compress_levels` wrote; its pixels may differ by 1 between machines.

    Args:
        data: the file's bytes, or the file opened for reading in binary mode.
        max_pixels: as `codec.decompress`.

    Raises:
        DamagedFile: the file is not as it was written.
        UnsupportedFile: it is of another version.
        WrongModel: it was written with another tokenizer or prior.
        CodecError: it holds no picture, or a larger one, or takes more memory than there is.
    """
    contents = _opened(data, max_pixels)
    with in_memory("the picture"):
        grids = [torch.from_numpy(grid)[None] for grid in _indices(contents, tokenizer, prior)]
        assert contents.picture is not None
        size = (contents.picture.height, contents.picture.width)
        image = to_uint8(tokenizer.eval().decode(grids, size=size))[0]
    return image.permute(1, 2, 0).cpu().contiguous().numpy()


def _opened(data: Data, max_pixels: int | None) -> Container:
    """The parts of a file of one picture."""
    contents = container.unpack(read_bytes(data))
    if contents.picture is None:
        raise CodecError("the file holds indices, not a picture: decompress_grids reads it")
    check_work(contents, max_pixels)
    return contents


def _indices(
    contents: Container, tokenizer: HierarchicalTokenizer, prior: GridPrior | None
) -> list[Int64[np.ndarray, "_ _ q"]]:
    """The grids of all levels, once it is known that the file was written with this tokenizer."""
    # The file must be of this model, and its grids those of its picture's size.
    check_model(contents, model_digest(tokenizer, prior))
    assert contents.picture is not None
    expected = tokenizer.grids((contents.picture.height, contents.picture.width))
    found = [(segment.height, segment.width) for segment in contents.segments]
    if found != [grid[:2] for grid in expected] or contents.codebook_sizes != shared_sizes(tokenizer):
        raise DamagedFile(
            f"the file has grids {_written(found)} for {contents.picture.height}x{contents.picture.width} pixels; the "
            f"tokenizer has {_written([grid[:2] for grid in expected])}"
        )

    # A level may have a smaller codebook than the largest one.
    grids = [decode_grid(segment, contents.codebook_sizes, prior) for segment in contents.segments]
    for grid, (_, _, sizes) in zip(grids, expected, strict=True):
        if (grid >= np.array(sizes)).any():
            raise DamagedFile(
                f"the file has an index of {int(grid.max())} in a level of codebook sizes {sizes}"
            )
    return grids


def _written(sizes: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{height}x{width}" for height, width in sizes)
