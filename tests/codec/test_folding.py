"""Long thin pictures: coded in pieces, and no slower for each pixel than square ones."""

import numpy as np
import pytest

from codebound import codec
from codebound.codec import DamagedFile
from codebound.codec.folding import THIN, fold, folded_size, strips, unfold
from codebound.codec.grids import encode_grid
from codebound.codec.token_pictures import choose_indices
from codebound.coding import container
from codebound.data.images import photographs


@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 16), (1, 17), (16, 1), (1, 8750), (8750, 1), (3, 100), (100, 3), (5, 99), (2, 33)],
)
def test_a_folded_grid_is_unfolded(height: int, width: int) -> None:
    grid = np.arange(height * width * 2).reshape(height, width, 2)
    folded = fold(grid)
    assert folded.shape[:2] == folded_size(height, width)
    assert np.array_equal(unfold(folded, height, width), grid)
    assert folded.size <= 1.25 * grid.size + 40
    rows, columns = folded.shape[:2]
    assert columns + 2 * rows <= width + 2 * height


def test_the_pieces_lie_as_the_format_says() -> None:
    wide = np.arange(19).reshape(1, 19, 1)
    assert fold(wide)[..., 0].tolist() == [
        [0, 1, 2, 3, 4, 5, 6],
        [7, 8, 9, 10, 11, 12, 13],
        [14, 15, 16, 17, 18, 18, 18],
    ]
    high = np.arange(18).reshape(18, 1, 1)
    assert fold(high)[..., 0].tolist() == [[0, 3, 6, 9, 12, 15], [1, 4, 7, 10, 13, 16], [2, 5, 8, 11, 14, 17]]


def test_few_diagonals_are_left() -> None:
    rows, columns = folded_size(1, 8750)
    assert columns + 2 * rows < 3 * np.sqrt(8750)
    assert strips(100, 100 * THIN - 1) == 1


@pytest.mark.parametrize("turned", [False, True])
def test_a_thin_picture_survives(turned: bool) -> None:
    strip = photographs("held_out")[0].pixels[:12, :400]
    pixels = np.ascontiguousarray(strip.transpose(1, 0, 2) if turned else strip)
    data = codec.compress(pixels, model=codec.default_model(), quality=1)
    contents = container.unpack(data)
    assert contents.folded

    # The same indices as they were written before: both files show the same picture.
    model = codec.default_model()
    grid, prior = choose_indices(pixels, model, 1), model.prior.first(1)
    before = contents._replace(folded=False, segments=(encode_grid(grid, (512,), prior),))
    assert np.array_equal(codec.decompress(data), codec.decompress(container.pack(before)))
    with pytest.raises(DamagedFile, match="grid"):
        codec.decompress(container.pack(contents._replace(folded=False)))
    with pytest.raises(DamagedFile, match="folded"):
        codec.inspect(container.pack(contents._replace(picture=None)))
