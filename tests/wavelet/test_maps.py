"""What a coefficient is told, beside a plain search through everything that is coded."""

import numpy as np
import pytest

from codebound.wavelet import maps
from codebound.wavelet.bands import Band, bands
from codebound.wavelet.maps import INPUTS, PHASES, Maps, inputs, sizes


def test_sizes_are_straight_between_powers_of_two() -> None:
    assert sizes(np.array([0, 1, 2, 3, 4, 5, 7, 15, 31, 10**6])).tolist() == [
        0, 16, 24, 32, 36, 40, 48, 64, 80, 127,
    ]  # fmt: skip
    assert (np.diff(sizes(np.arange(400)).astype(int)) >= 0).all()


def test_there_are_as_many_inputs_as_the_page_says() -> None:
    counts = [[len(inputs(component, orientation)) for orientation in range(3)] for component in range(3)]
    assert counts == [[25, 28, 31], [31, 34, 37], [37, 40, 43]]
    assert INPUTS == 43


def known_until(wanted: tuple[int, int, int], phase: int, size: tuple[int, int]) -> tuple[Maps, Band, dict]:
    """Random magnitudes of all bands before a phase of one, in `Maps` and as plain arrays."""
    rng, known, plain = np.random.default_rng(0), Maps(), {}
    for band in bands(*size, 3, 60):
        known.begin(band)
        plain[band[:3]] = np.zeros((band.height, band.width), dtype=np.int64)
        for number, (row, column) in enumerate(PHASES):
            if band[:3] == wanted and number == phase:
                return known, band, plain
            part = plain[band[:3]][row::2, column::2]
            part[:] = rng.integers(0, 40, part.shape) * (rng.random(part.shape) < 0.4)
            rows, columns = np.nonzero(part)
            known.put(band, number, rows, columns, part[rows, columns])
    raise AssertionError(wanted)


@pytest.mark.parametrize("phase", [0, 1, 3])
@pytest.mark.parametrize("wanted", [(0, 1, 0), (2, 1, 2)])
@pytest.mark.parametrize("size", [(13, 22), (1, 40)])
def test_what_is_seen_is_what_is_there(
    wanted: tuple[int, int, int], phase: int, size: tuple[int, int]
) -> None:
    known, band, plain = known_until(wanted, phase, size)
    row, column = PHASES[phase]
    rows, columns = (each.ravel() for each in np.mgrid[row : band.height : 2, column : band.width : 2])

    def size_at(source: maps.Source, i: int, j: int, down: int, right: int) -> int:
        found = plain.get((source.component, band.level + source.coarser, source.orientation))
        y, x = (i >> source.coarser) + down, (j >> source.coarser) + right
        if found is None or not (0 <= y < found.shape[0] and 0 <= x < found.shape[1]):
            return 0
        return int(sizes(found[y, x : x + 1])[0])

    seen = known.seen(band, rows, columns)
    for got, i, j in zip(seen.T, rows, columns, strict=True):
        expected = [
            sum(size_at(source, i, j, *offset) for offset in offsets) // len(offsets)
            for source, offsets in inputs(band.component, band.orientation)
        ]
        assert got[: len(expected)].tolist() == expected
        assert not got[len(expected) :].any()


def test_where_nothing_is_near_the_network_has_nothing_to_see() -> None:
    known, band, _ = known_until((2, 1, 1), 2, (33, 41))
    busy = known.elsewhere(band) | known.within(band)
    rows, columns = np.mgrid[: band.height, : band.width].reshape(2, -1)
    something = known.seen(band, rows, columns).any(0).reshape(busy.shape)
    assert not (something & ~busy).any()

    # A single coefficient is near two rows and columns of its own band.
    alone, fine = Maps(), Band(0, 1, 0, 9, 9, 1)
    alone.begin(fine)
    alone.put(fine, 0, np.array([2]), np.array([2]), np.array([3]))
    assert np.argwhere(alone.within(fine)).tolist() == [[y, x] for y in range(2, 7) for x in range(2, 7)]
    assert not alone.elsewhere(fine).any()
