"""What a coefficient is told, beside a plain search through everything that is coded."""

import numpy as np
import pytest

from codebound.wavelet.bands import Group, groups
from codebound.wavelet.maps import INPUTS, PHASES, Input, Maps, inputs, sizes


def test_sizes_are_straight_between_powers_of_two() -> None:
    assert sizes(np.array([0, 1, 2, 3, 4, 5, 7, 15, 31, 10**6])).tolist() == [
        0, 16, 24, 32, 36, 40, 48, 64, 80, 127,
    ]  # fmt: skip
    assert (np.diff(sizes(np.arange(400)).astype(int)) >= 0).all()


def test_there_are_as_many_inputs_as_the_page_says() -> None:
    counts = [[3 * len(inputs(component, phase)) for phase in range(4)] for component in range(3)]
    assert counts == [[21, 33, 36, 39], [21, 27, 27, 30], [24, 30, 30, 33]]
    assert INPUTS == 39


def known_until(wanted: tuple[int, int], phase: int, size: tuple[int, int]) -> tuple[Maps, Group, dict]:
    """Sizes of random magnitudes before a phase of one group, in `Maps` and as plain arrays."""
    rng, known, plain = np.random.default_rng(0), Maps(3), {}
    for group in groups(*size, 3, 60):
        if group.component == 0:
            known.begin(group.height, group.width)
        for band in group.bands:
            plain[band[:3]] = np.zeros((band.height, band.width), dtype=np.int64)
        for number, (row, column) in enumerate(PHASES):
            if (group.component, group.level) == wanted and number == phase:
                return known, group, plain
            target = known.of_phase(group, number)
            for band in group.bands:
                part = plain[band[:3]][row::2, column::2]
                part[:] = rng.integers(0, 40, part.shape) * (rng.random(part.shape) < 0.4)
                part[:] = sizes(part)
                place = target[band.orientation]
                place[: part.shape[0], : part.shape[1]] = part
    raise AssertionError(wanted)


@pytest.mark.parametrize("phase", [0, 1, 2, 3])
@pytest.mark.parametrize("wanted", [(0, 1), (1, 1), (2, 1)])
@pytest.mark.parametrize("size", [(13, 22), (1, 40)])
def test_what_is_seen_is_what_is_there(wanted: tuple[int, int], phase: int, size: tuple[int, int]) -> None:
    known, group, plain = known_until(wanted, phase, size)
    row, column = PHASES[phase]
    if (group.height - row + 1) // 2 == 0:
        return
    rows, columns = (each.ravel() for each in np.mgrid[row : group.height : 2, column : group.width : 2])
    coarser_shape = -(-group.height // 2), -(-group.width // 2)

    def size_at(key: tuple[int, int, int], place: tuple[int, int]) -> int:
        found = plain.get(key)
        if found is None or not (0 <= place[0] < found.shape[0] and 0 <= place[1] < found.shape[1]):
            return 0
        return int(found[place])

    def total(orientation: int, each: Input, i: int, j: int) -> int:
        key, found = (each.component, group.level + each.coarser, orientation), 0
        for down, right in each.offsets:
            place = (i >> min(each.coarser, 1)) + down, (j >> min(each.coarser, 1)) + right
            if each.coarser == 2:
                outside = not all(0 <= at < side for at, side in zip(place, coarser_shape, strict=True))
                place = (-1, -1) if outside else (place[0] >> 1, place[1] >> 1)
            found += size_at(key, place)
        return found

    width = (group.width - column + 1) // 2
    seen = known.seen(group, phase, 0, (group.height - row + 1) // 2, 0, width)
    assert seen is not None
    for got, i, j in zip(seen.T, rows, columns, strict=True):
        listed = inputs(group.component, phase)
        assert got.tolist() == [total(o, each, i, j) for each in listed for o in range(3)]


def test_a_part_sees_the_same_and_nothing_is_said_to_be_nothing() -> None:
    known, group, _ = known_until((1, 1), 2, (33, 41))
    whole = known.seen(group, 2, 0, 9, 0, 10)
    part = known.seen(group, 2, 4, 7, 3, 8)
    assert whole is not None
    assert part is not None
    assert np.array_equal(whole.reshape(-1, 9, 10)[:, 4:7, 3:8].reshape(part.shape), part)
    nothing = Maps(3)
    nothing.begin(17, 21)
    assert nothing.seen(group, 0, 0, 9, 0, 11) is None
