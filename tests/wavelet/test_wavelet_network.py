"""The integer network, beside the same sums in Python's whole numbers."""

import numpy as np
import pytest

from codebound.errors import InputError
from codebound.wavelet.model import from_arrays
from codebound.wavelet.network import Network


def network(rng: np.random.Generator, largest: int = 60) -> Network:
    return Network(
        rng.integers(-largest, largest + 1, (43, 3, 32)).astype(np.int16),
        rng.integers(-50_000, 50_001, (8, 3, 32)).astype(np.int32),
        rng.integers(-60, 61, (3, 32)).astype(np.int16),
        np.array([20_000, 40_000, 0], dtype=np.int32),
    )


def test_rows_are_those_of_whole_numbers() -> None:
    rng = np.random.default_rng(0)
    given = network(rng)
    given.check(1016)
    seen = rng.integers(0, 1017, (40, 200)) * (rng.random((40, 200)) < 0.5)

    def plain(x: list[int], level: int, band: int) -> int:
        sums = [
            sum(int(w) * v for w, v in zip(column, x, strict=True)) + int(b)
            for column, b in zip(given.first[:40, band].T, given.first_bias[level, band], strict=True)
        ]
        hidden = [min(max(each >> 8, 0), 255) for each in sums]
        total = sum(int(w) * v for w, v in zip(given.second[band], hidden, strict=True))
        return min(max((total + int(given.second_bias[band]) + 1024) >> 11, 0), 39)

    for level, stored in ((1, 1), (6, 6), (7, 7), (12, 7)):
        expected = [[plain(column.tolist(), stored, band) for column in seen.T] for band in range(3)]
        found = given.rows(seen.astype(np.float32), level, 40)
        assert found.tolist() == expected
        assert all(len(set(each)) > 3 for each in expected)
        assert np.array_equal(given.rows(seen[:, 7:9].astype(np.float32), level, 40), found[:, 7:9])


def test_sums_that_would_be_rounded_are_refused() -> None:
    with pytest.raises(InputError, match="too large"):
        network(np.random.default_rng(0), 30_000).check(1016)


def test_a_model_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="arrays"):
        from_arrays({"table": np.zeros((3, 3))})
