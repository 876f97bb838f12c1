"""Integer probabilities: exact sums, exact powers, costs near the logarithm."""

from fractions import Fraction

import numpy as np
import pytest

from codebound.coding.integers import ALPHABET, FAR, TOTAL, UNIT, cost, exp2, frequencies, length


def test_powers_are_the_floor_of_the_true_ones() -> None:
    found = exp2(np.arange(UNIT))
    for r, power in enumerate(found.tolist()):  # p ≤ 2^(24 − r/256) < p + 1, raised to the 256th power
        assert power**UNIT <= 1 << (24 * UNIT - r) < (power + 1) ** UNIT


def test_powers_end_at_zero() -> None:
    assert exp2(np.array([FAR, FAR + 1, 10**15])).tolist() == [1, 0, 0]
    assert exp2(np.array([UNIT, 5 * UNIT])).tolist() == [1 << 23, 1 << 19]


def test_cost_is_the_logarithm_to_a_tenth_of_a_bit() -> None:
    f = np.arange(1, TOTAL + 1)
    true = UNIT * (16 - np.log2(f))
    over = cost(f) - true
    assert over.min() >= -1e-9
    assert over.max() < 0.087 * UNIT + 1


def test_length_is_the_logarithm_to_a_unit() -> None:
    f = np.arange(1, TOTAL + 1)
    over = length(f) - UNIT * (16 - np.log2(f))
    assert over.min() > -1e-3
    assert over.max() < 1
    assert length(np.array([1, 2, 1 << 15, TOTAL])).tolist() == [16 * UNIT, 15 * UNIT, UNIT, 0]


@pytest.mark.parametrize("alphabet", [2, 3, 256, ALPHABET])
def test_frequencies_sum_to_the_total_and_none_is_zero(alphabet: int) -> None:
    rng = np.random.default_rng(0)
    weights = np.concatenate(
        [
            rng.integers(0, 1 << 40, (50, alphabet)),
            np.eye(alphabet, dtype=np.int64)[:50] * ((1 << 40) - 1),
            np.ones((1, alphabet), dtype=np.int64),
        ]
    )
    found = frequencies(weights)
    assert (found.sum(-1) == TOTAL).all()
    assert found.min() >= 1


def test_frequencies_are_in_proportion() -> None:
    weights = [[5, 3, 0, 12]]
    want = [1 + Fraction(w * (TOTAL - 4), 20).__floor__() for w in weights[0]]
    want[3] += TOTAL - sum(want)
    assert frequencies(np.array(weights)).tolist() == [want]
