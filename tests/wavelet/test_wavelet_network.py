"""The integer network, beside the same sums in Python's whole numbers."""

import numpy as np
import pytest

from codebound.errors import InputError
from codebound.wavelet.model import from_arrays
from codebound.wavelet.network import Network


def network(rng: np.random.Generator, largest: int = 300) -> Network:
    return Network(
        rng.integers(-largest, largest + 1, (43, 32)).astype(np.int16),
        rng.integers(-50_000, 50_001, (8, 32)).astype(np.int32),
        rng.integers(-largest, largest + 1, (32, 16)).astype(np.int16),
        rng.integers(-50_000, 50_001, 16).astype(np.int32),
        rng.integers(-60, 61, 16).astype(np.int16),
        np.int32(20_000),
    )


def test_rows_are_those_of_whole_numbers() -> None:
    rng = np.random.default_rng(0)
    given = network(rng)
    given.check(127)
    seen = (rng.integers(0, 128, (43, 200)) * (rng.random((43, 200)) < 0.5)).astype(np.uint8)

    def plain(x: list[int], level: int) -> int:
        def act(sums: list[int]) -> list[int]:
            return [min(max(each >> 8, 0), 255) for each in sums]

        def layer(weight: np.ndarray, bias: np.ndarray, values: list[int]) -> list[int]:
            return act([
                sum(int(w) * v for w, v in zip(column, values, strict=True)) + int(b)
                for column, b in zip(weight.T, bias, strict=True)
            ])  # fmt: skip

        hidden = layer(given.second, given.second_bias, layer(given.first, given.first_bias[level], x))
        total = sum(int(w) * v for w, v in zip(given.third, hidden, strict=True)) + int(given.third_bias)
        return min(max((total + 1024) >> 11, 0), 39)

    for level, stored in ((1, 1), (6, 6), (7, 7), (12, 7)):
        expected = [plain(column.tolist(), stored) for column in seen.T]
        assert given.rows(seen, level, 40).tolist() == expected
        assert len(set(expected)) > 3
        assert given.rows(seen[:, 7:9], level, 40).tolist() == expected[7:9]


def test_sums_that_would_be_rounded_are_refused() -> None:
    with pytest.raises(InputError, match="too large"):
        network(np.random.default_rng(0), 30_000).check(127)


def test_a_model_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="arrays"):
        from_arrays({"table": np.zeros((3, 3))})
