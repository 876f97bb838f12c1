"""Files of codes at several resolutions: all indices come back, and whatever doesn't fit is refused."""

import numpy as np
import pytest
import stranger
import torch

from codebound.codec import CodecError, DamagedFile, WrongModel, compress_levels, decompress_levels, inspect
from codebound.codec.hierarchies import level_indices, shared_sizes
from codebound.codec.model import model_digest
from codebound.coding import container
from codebound.errors import InputError
from codebound.priors.fitting import FitSettings, fit_prior
from codebound.quantize import Residual, VectorQuantizer
from codebound.quantize.init import Normal
from codebound.tokenizers import HierarchicalTokenizer
from codebound.tokenizers.image import to_uint8


def tokenizer(*sizes: int, channels: int = 3, seed: int = 0) -> HierarchicalTokenizer:
    torch.manual_seed(seed)
    quantizers = [VectorQuantizer(4, size, init=Normal()) for size in sizes]
    made = HierarchicalTokenizer(quantizers, channels=channels, width=8, depth=0, stride=4).eval()
    made.init_(torch.randint(256, (4, channels, 32, 32), dtype=torch.uint8))
    return made


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels)).astype(np.uint8)


@pytest.mark.parametrize(("sizes", "channels"), [((8, 16), 3), ((4, 6, 8), 1), ((700, 5), 3)])
def test_indices_and_picture_come_back(sizes, channels):
    model, pixels = tokenizer(*sizes, channels=channels), picture(19, 30, channels)
    data = compress_levels(pixels, model)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    expected = model.encode(image)
    found = level_indices(data, model)
    assert len(found) == len(sizes)
    assert all(np.array_equal(a, b[0].numpy()) for a, b in zip(found, expected, strict=True))
    again = to_uint8(model.decode(expected, size=(19, 30)))[0].permute(1, 2, 0).numpy()
    assert np.array_equal(decompress_levels(data, model), again)

    # What the format's page says suffices to read it: a decoder that was written from it alone does.
    strangers = [np.array(planes).transpose(1, 2, 0) for planes in stranger.read(data)]
    assert all(np.array_equal(a, b) for a, b in zip(strangers, found, strict=True))
    report = inspect(data)
    assert [(grid.height, grid.width) for grid in report.grids] == [grid.shape[:2] for grid in found]
    assert report.picture == container.Picture(19, 30, channels == 1)


def test_a_prior_of_all_levels_makes_files_shorter_and_belongs_to_them():
    model = tokenizer(8, 16)
    pixels = picture(64, 64)  # noise: nothing but learning it by heart can help
    grids = [grid[0].numpy() for grid in model.encode(torch.from_numpy(pixels).permute(2, 0, 1)[None])]
    prior = fit_prior(grids, shared_sizes(model), FitSettings(steps=400, batch_size=64, width=8, hidden=64))
    data, plain = compress_levels(pixels, model, prior=prior), compress_levels(pixels, model)
    assert len(data) < len(plain)
    assert all(
        np.array_equal(a, b) for a, b in zip(level_indices(data, model, prior=prior), grids, strict=True)
    )
    with pytest.raises(WrongModel, match="was given"):
        decompress_levels(data, model)


def test_another_tokenizer_is_named():
    model, other = tokenizer(8, 16), tokenizer(8, 16, seed=1)
    data = compress_levels(picture(16, 16), model)
    with pytest.raises(WrongModel, match=model_digest(model, None).hex()):
        decompress_levels(data, other)


def test_changed_bytes_are_refused():
    model = tokenizer(8, 16)
    data = bytearray(compress_levels(picture(16, 16), model))
    for place in range(8, len(data)):
        changed = bytes(data[:place]) + bytes([data[place] ^ 1]) + bytes(data[place + 1 :])
        with pytest.raises(CodecError):
            decompress_levels(changed, model)


def test_grids_of_another_picture_and_indices_of_another_level_are_refused():
    model = tokenizer(4, 16)
    contents = container.unpack(compress_levels(picture(16, 16), model))
    larger = contents._replace(picture=container.Picture(32, 16, False))
    with pytest.raises(DamagedFile, match="grids 2x2, 4x4 for 32x16 pixels; the tokenizer has 4x2, 8x4"):
        decompress_levels(container.pack(larger), model)

    # The same grids under the digest of a tokenizer whose coarse level has more codewords than ours.
    wide = tokenizer(16, 16)
    foreign = container.unpack(compress_levels(picture(16, 16), wide))
    assert (
        max(int(grid.max()) for grid in level_indices(compress_levels(picture(16, 16), wide), wide)[:1]) >= 4
    )
    with pytest.raises(DamagedFile, match="in a level of codebook sizes"):
        decompress_levels(container.pack(foreign._replace(model=contents.model)), model)


def test_what_a_file_can_not_hold_is_refused():
    with pytest.raises(InputError, match="images must have shape"):
        compress_levels(picture(16, 16, 1), tokenizer(8, 16))
    parts = [VectorQuantizer(4, 8), Residual([VectorQuantizer(4, 8), VectorQuantizer(4, 8)])]
    uneven = HierarchicalTokenizer(parts, width=8, depth=0)
    with pytest.raises(CodecError, match="as many codebooks in each"):
        compress_levels(picture(16, 16), uneven)
    model = tokenizer(8, 16)
    with pytest.raises(CodecError, match="max_pixels"):
        decompress_levels(compress_levels(picture(16, 16), model), model, max_pixels=100)
