"""The order of positions and what each sees: everything once, nothing before it is known."""

import numpy as np
import pytest

from codebound.priors.field import MARGIN, Field, slots

SHAPES = [(1, 1), (1, 7), (7, 1), (2, 3), (5, 4), (4, 11)]


@pytest.mark.parametrize("shape", SHAPES)
def test_diagonals_hold_every_position_once(shape: tuple[int, int]) -> None:
    field = Field(np.zeros((*shape, 1), dtype=np.int64), (3,))
    visited = np.concatenate(list(field.diagonals()))
    assert sorted(visited.tolist()) == field.rows().tolist()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", [0, 1, 2])
def test_nothing_is_seen_before_it_is_known(shape: tuple[int, int], level: int) -> None:
    """A level whose unknown indices are poison: none is ever seen."""
    sizes, poison = (5, 5, 5), -7
    indices = np.arange(shape[0] * shape[1] * 3).reshape(*shape, 3) % 5
    known = indices.copy()
    known[..., level:] = poison
    field = Field(known, sizes)
    for at in field.diagonals():
        seen = field.seen(level, at)
        assert seen.min() >= 0
        assert seen.max() <= 5
        field.write(level, at, Field(indices, sizes).read(level, at))
    assert np.array_equal(field.indices()[..., level], indices[..., level])


def test_what_is_seen_is_what_the_offsets_say() -> None:
    rng = np.random.default_rng(0)
    indices, sizes = rng.integers(0, 9, (6, 7, 3)), (9, 9, 9)
    padded = np.full((6 + 2 * MARGIN, 7 + 2 * MARGIN, 3), 9)
    padded[MARGIN:-MARGIN, MARGIN:-MARGIN] = indices
    field = Field(indices, sizes)
    for level in range(3):
        seen = field.seen(level, field.rows()).reshape(6, 7, -1)
        for number, (source, down, right) in enumerate(slots(level)):
            rows, columns = slice(MARGIN + down, MARGIN + down + 6), slice(MARGIN + right, MARGIN + right + 7)
            assert np.array_equal(seen[..., number], padded[rows, columns, source])


def test_the_number_of_neighbours() -> None:
    assert [len(slots(level)) for level in range(4)] == [8, 17, 18, 19]
