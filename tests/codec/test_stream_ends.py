"""Nothing is hidden behind the streams of indices and of vectors' levels; of pictures: test_wavelet_pictures."""

import numpy as np
import pytest
import torch

from codebound import Trellis, codec
from codebound.codec.vector_blocks import pack_block, unpack_block
from codebound.coding import container, level_streams, varint
from codebound.coding.errors import DamagedFile
from codebound.coding.range_coder import Encoder
from codebound.coding.vector_container import Header
from codebound.quantize.trellis_search import HALF

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
    model, _ = level_streams.fitted(even)
    coder = Encoder()
    stream = level_streams.encode(even, 0, model, coder) + coder.payload()
    assert np.array_equal(level_streams.decode_stream(stream, len(even), 0, model), even)
    with pytest.raises(DamagedFile, match="after its last"):
        level_streams.decode_stream(stream + behind, len(even), 0, model)


@pytest.mark.parametrize("behind", BEHIND)
def test_a_block_ends_with_its_last_level(behind: bytes) -> None:
    z = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    quantizer = Trellis(3, rate=6.0, transform=None)
    data = codec.compress_vectors(z, quantizer)
    header = Header.unpack(varint.Reader(data))
    levels = quantizer.encode(z).numpy() - HALF
    body = pack_block(levels, header)
    assert np.array_equal(unpack_block(body, 40, header), levels)
    with pytest.raises(DamagedFile, match="after its last"):
        unpack_block(body + behind, 40, header)
