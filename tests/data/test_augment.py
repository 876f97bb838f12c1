"""Augmented pictures: exactly mirrored and shifted, turned about their middle, the same for the same step."""

import numpy as np
import pytest
import torch

from codebound.data.augment import Augmentation, _moved, augmented
from codebound.data.recolour import recoloured
from codebound.errors import InputError


def pictures(channels: int = 3, size: tuple[int, int] = (8, 12)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (64, channels, *size), generator=generator, dtype=torch.uint8)


def test_nothing_by_default_and_colours_as_before():
    x = pictures()
    assert torch.equal(augmented(x, Augmentation(), 1, 2), x)
    assert torch.equal(augmented(x, Augmentation(recolour=0.5), 1, 2), recoloured(x, 0.5, 1, 2))


def test_flips_are_exact_and_of_so_many():
    x = pictures()
    found = augmented(x, Augmentation(flip=0.5), 1, 2)
    flipped = [torch.equal(one, other.flip(-1)) for one, other in zip(found, x, strict=True)]
    same = [torch.equal(one, other) for one, other in zip(found, x, strict=True)]
    assert all(a != b for a, b in zip(flipped, same, strict=True))
    assert 16 < sum(flipped) < 48
    assert torch.equal(augmented(x, Augmentation(flip=1.0), 1, 2), x.flip(-1))


def test_shifts_are_exact_and_continue_the_border():
    x = pictures()
    found, offsets = augmented(x, Augmentation(shift=2), 1, 2), set()
    for one, other in zip(found.numpy(), x.numpy(), strict=True):
        padded = np.pad(other, ((0, 0), (2, 2), (2, 2)), mode="edge")
        places = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if np.array_equal(padded[:, i : i + 8, j : j + 12], one)
        ]
        assert len(places) == 1
        offsets.update(places)
    assert len(offsets) > 15  # of 25


def test_a_quarter_turn_is_one_in_pixels_on_any_shape():
    # A bar of three pixels to the right of the middle stands below or above it after a quarter.
    x = torch.zeros(1, 1, 9, 13, dtype=torch.uint8)
    x[..., 4, 7:10] = 200
    angle = torch.tensor(torch.pi / 2)
    quarter = torch.tensor(
        [[[angle.cos(), -angle.sin() * 9 / 13, 0], [angle.sin() * 13 / 9, angle.cos(), 0]]]
    )
    found = _moved(x, quarter)
    assert int(found.sum()) == int(x.sum())
    rows, columns = found[0, 0].nonzero().unbind(1)
    assert set(columns.tolist()) == {6}
    assert rows.tolist() in ([1, 2, 3], [5, 6, 7])


def test_turns_stay_within_their_angle():
    # A bright point at distance 3: turned by at most 30°, it stays on its side.
    x = torch.zeros(64, 1, 9, 9, dtype=torch.uint8)
    x[..., 4, 7] = 255
    found = augmented(x, Augmentation(turn=30.0), 1, 2)
    assert (found != x).flatten(1).any(1).float().mean() > 0.8
    assert int(found[..., :6].max()) == 0  # 3·cos 30° is 2.6 columns from the middle, its pixels from 6 on
    assert len({tuple(one.flatten().tolist()) for one in found}) > 30


def test_equal_steps_are_equal_and_others_differ():
    x, how = pictures(1), Augmentation(flip=0.5, shift=1, turn=10, recolour=0.5)
    assert torch.equal(augmented(x, how, 1, 2), augmented(x, how, 1, 2))
    assert not torch.equal(augmented(x, how, 1, 2), augmented(x, how, 1, 3))
    assert not torch.equal(augmented(x, how, 1, 2), augmented(x, how, 2, 2))
    assert augmented(x, how, 1, 2).shape == x.shape


@pytest.mark.parametrize(
    ("name", "wrong"), [("flip", 1.5), ("shift", -1), ("turn", 200.0), ("recolour", -0.1)]
)
def test_numbers_out_of_range_are_refused(name, wrong):
    with pytest.raises(InputError, match=name):
        Augmentation(**{name: wrong})
