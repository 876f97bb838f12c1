"""Grids of indices as one sequence."""

import pytest
import torch

from codebound.errors import InputError
from codebound.generators import Grid, Layout


def random_indices(layout: Layout, count: int = 3) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [
        torch.stack([torch.randint(k, (count, g.height, g.width)) for k in g.codebook_sizes], -1)
        for g in layout.grids
    ]


def test_flatten_and_back_and_each_token_in_its_codebooks_part() -> None:
    layout = Layout([Grid(2, 3, (5,)), Grid(4, 5, (4, 7))])
    indices = random_indices(layout)
    tokens = layout.flatten(indices)
    assert tokens.shape == (3, layout.length) == (3, 6 + 40)
    for one, other in zip(layout.unflatten(tokens), indices, strict=True):
        assert torch.equal(one, other)
    assert layout.vocabulary == 5 + 4 + 7
    for slot in layout.slots:
        part = tokens[:, list(slot.positions)]
        assert int(part.min()) >= slot.first
        assert int(part.max()) < slot.first + slot.size
    assert sorted(p for slot in layout.slots for p in slot.positions) == list(range(layout.length))


def test_one_grid_takes_and_gives_a_tensor() -> None:
    layout = Layout([Grid(3, 2, (9,))])
    (indices,) = random_indices(layout)
    assert torch.equal(layout.unflatten(layout.flatten(indices)), indices)
    assert torch.equal(layout.flatten(indices), indices.flatten(1))


def test_neighbours_stand_before_and_where_they_should() -> None:
    layout = Layout([Grid(2, 2, (5,)), Grid(3, 4, (4, 7))])
    neighbours = layout.neighbours
    assert bool((neighbours < torch.arange(layout.length)[:, None]).all())
    # The second level of the place in row 1, column 2 of the finer grid, whose tokens begin at 4.
    position = 4 + (1 * 4 + 2) * 2 + 1
    left, above = position - 2, position - 8
    parent = 0 * 2 + 1  # row 1 of 3 lies in row 0 of 2, column 2 of 4 in column 1
    assert neighbours[position].tolist() == [position - 1, left, above - 2, above, above + 2, parent]
    assert layout.places[position].tolist() == [1, 1, 2]


def test_a_smaller_grid_is_within_a_larger_one_is_not() -> None:
    layout = Layout([Grid(4, 5, (8,))])
    small = layout.within((2, 5))
    assert small.length == 10
    assert small.neighbours.shape[1] == layout.neighbours.shape[1]
    for grid in ((5, 5), (4, 6), (0, 3)):
        with pytest.raises(InputError, match="trained on 4x5"):
            layout.within(grid)
    with pytest.raises(InputError, match="belong together"):
        Layout([Grid(1, 1, (2,)), Grid(2, 2, (2,))]).within((1, 1))


def test_what_is_no_layout_is_refused() -> None:
    for grids in ([], [Grid(0, 3, (4,))], [Grid(2, 2, (1,))]):
        with pytest.raises(InputError, match=r"grid"):
            Layout(grids)
    layout = Layout([Grid(2, 2, (4,))])
    with pytest.raises(InputError, match="must have shapes"):
        layout.flatten(torch.zeros(1, 2, 3, 1, dtype=torch.int64))
    with pytest.raises(InputError, match="from 0 to below"):
        layout.flatten(torch.full((1, 2, 2, 1), 4))
