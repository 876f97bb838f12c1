"""Nothing is hidden behind the streams of indices and of vectors' levels; of pictures: test_wavelet_pictures."""

import numpy as np
import pytest

from codebound import codec
from codebound.coding import container, level_streams
from codebound.coding.errors import DamagedFile

BEHIND = (b"\1", b"\0", bytes(100), b"SECRET" * 1000)


@pytest.mark.parametrize("behind", BEHIND)
def test_a_grid_ends_with_its_last_index(behind: bytes) -> None:
    grid = np.random.default_rng(0).integers(0, 9, (6, 7, 2))
    contents = container.unpack(codec.compress_grids([grid], [9, 9]))
    (segment,) = contents.segments
    longer = segment._replace(stream=segment.stream + behind)
    with pytest.raises(DamagedFile, match="after its last symbol"):
        codec.decompress_grids(container.pack(contents._replace(segments=(longer,))))


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("levels", [[4, 0, -2, 8, 2, 30, 4], [4, 4, 4], []])
def test_a_stream_of_levels_ends_with_the_last(behind: bytes, levels: list[int]) -> None:
    even = np.array(levels, dtype=np.int64)
    model = level_streams.fitted(even)
    stream = level_streams.encode(even, 0, model)
    assert np.array_equal(level_streams.decode(stream, len(even), 0, model), even)
    with pytest.raises(DamagedFile, match="after its last"):
        level_streams.decode(stream + behind, len(even), 0, model)
