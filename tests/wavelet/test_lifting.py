"""The wavelet: any size comes back, flat and straight pictures have no details, every band's errors weigh the same."""

import math

import numpy as np
import pytest

from codebound.coding.picture_container import STEP
from codebound.wavelet.bands import base_step, groups, low_step
from codebound.wavelet.lifting import FRACTION, Pyramid, analyse, level_sizes, synthesise

SIZES = [(1, 1), (1, 7), (7, 1), (2, 2), (3, 1), (2, 9), (5, 9), (64, 64), (33, 70), (1, 1000)]


def integers(pyramid: Pyramid) -> Pyramid:
    def rounded(band: np.ndarray) -> np.ndarray:
        return np.rint(band * 2**FRACTION).astype(np.int32)

    first, *details = [rounded(pyramid.low)], *pyramid.details
    return Pyramid(first[0], [tuple(map(rounded, level)) for level in details])


@pytest.mark.parametrize("size", SIZES)
def test_a_plane_of_any_size_comes_back(size: tuple[int, int]) -> None:
    plane = np.random.default_rng(0).integers(-220, 221, size).astype(np.float32)
    pyramid = analyse(plane)
    assert sum(band.size for level in pyramid.details for band in level) + pyramid.low.size == plane.size
    assert max(pyramid.low.shape) <= 2
    found = synthesise(integers(pyramid))
    assert found.dtype == np.int32
    assert np.abs(found / 2**FRACTION - plane).max() < 0.1


def test_flat_and_straight_planes_have_no_details() -> None:
    rows, columns = np.mgrid[:40, :56].astype(np.float32)
    for plane, bound in ((np.full((40, 56), 77.0, np.float32), 0.3), (rows - 2 * columns, 0.3)):
        for low_high, high_low, high_high in analyse(plane).details[:2]:
            for band in (low_high, high_low, high_high):
                assert np.abs(band[3:-3, 3:-3]).max() < bound


def test_the_integer_side_is_what_the_page_says() -> None:
    """Four values by hand: the steps of docs/format.md, from the last to the first."""
    low, high = [100, -52], [8, 0]
    low = [(each * 1260 + 512) >> 10 for each in low]
    low[0] -= ((high[0] + high[0]) * 227 + 256) >> 9
    low[1] -= ((high[0] + high[1]) * 227 + 256) >> 9
    high[0] -= ((low[0] + low[1]) * 113 + 64) >> 7
    high[1] -= ((low[1] + low[1]) * 113 + 64) >> 7
    low[0] -= ((high[0] + high[0]) * -217 + 2048) >> 12
    low[1] -= ((high[0] + high[1]) * -217 + 2048) >> 12
    high[0] -= ((low[0] + low[1]) * -203 + 64) >> 7
    high[1] -= ((low[1] + low[1]) * -203 + 64) >> 7
    none = np.zeros((0, 2), np.int32)
    given = Pyramid(np.array([[100, -52]], np.int32), [(np.array([[8, 0]], np.int32), none, none)])
    assert synthesise(given).tolist() == [[low[0], high[0], low[1], high[1]]]


@pytest.mark.parametrize("size", [(96, 80), (1, 700)])
def test_an_error_of_a_step_weighs_the_same_in_every_band(size: tuple[int, int]) -> None:
    """One step of any coefficient away from the borders is a pattern whose length is the base step."""
    number, one = 64, 1 << 16
    sizes = level_sizes(*size)
    listed = [band for group in groups(*size, 1, number) for band in group.bands]
    for band in (band for band in listed if band.level <= 4 and band.height * band.width):
        levels = [[each for each in listed if each.level == level] for level in range(1, len(sizes))]
        details = [tuple(np.zeros((b.height, b.width), np.int32) for b in level) for level in levels]
        details[band.level - 1][band.orientation][band.height // 2, band.width // 2] = one
        pattern = synthesise(Pyramid(np.zeros(sizes[-1], np.int32), details)) / one
        assert math.sqrt((pattern**2).sum()) * band.step / base_step(number) == pytest.approx(1, abs=0.01)
    assert 0 < low_step(*size, number) < base_step(number)


def test_steps_double_every_sixteen_numbers() -> None:
    assert [base_step(number) for number in (0, 16, 32, 112)] == [1 << 16, 1 << 17, 1 << 18, 1 << 23]
    assert base_step(8) == pytest.approx(65_536 * 2**0.5, abs=1)


def test_a_flat_step_bounds_the_waves_of_patches() -> None:
    """From level 3 on, by twice as much on each level; where it is the coarser one it changes nothing."""
    plain, bounded = (
        [band for group in groups(300, 200, 3, 112, flat) for band in group.bands] for flat in (STEP, 40)
    )
    fine = [band for group in groups(300, 200, 3, 40) for band in group.bands]
    for first, second, third in zip(plain, bounded, fine, strict=True):
        most = third.step << max(first.level - 2, 0) if first.level > 2 else first.step
        assert second.step == pytest.approx(min(first.step, most), rel=1e-3, abs=third.level**2 + 8)
    assert [band.step for group in groups(300, 200, 3, 20, 20) for band in group.bands] == [
        band.step for group in groups(300, 200, 3, 20) for band in group.bands
    ]
