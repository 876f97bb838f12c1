"""Experts and their mixture: they learn what there is to learn, and a bad one does no harm."""

import numpy as np

from codebound.coding.integers import TOTAL
from codebound.priors.experts import CAP, Contexts, Counts, Expert, Mixture, Panel

NONE = np.zeros((1, 8), dtype=np.int64)
FIRST = np.zeros(1, dtype=np.int64)


class Fixed:
    """Always the same opinion."""

    def __init__(self, row: list[int]) -> None:
        self.row = np.array([row])

    def rows(self, place: int, seen: np.ndarray, prefix: np.ndarray) -> list[np.ndarray]:
        return [np.repeat(self.row, len(seen), axis=0)]

    def learn(self, place: int, digits: np.ndarray) -> None:
        pass


def bits(experts: list[Expert], digits: np.ndarray, seen: np.ndarray = NONE) -> float:
    total, panel, mixture = 0.0, Panel(experts), Mixture(1)
    for number, digit in enumerate(digits):
        row = mixture.frequencies(0, panel.rows(0, seen[number % len(seen)][None], FIRST))[0]
        total -= np.log2(row[digit] / TOTAL)
        mixture.learn(0, digits[number : number + 1])
        panel.learn(0, digits[number : number + 1])
    return total


def test_counts_reach_the_entropy_of_a_biased_source() -> None:
    p = np.array([0.7, 0.2, 0.05, 0.05])
    digits = np.random.default_rng(0).choice(4, 3000, p=p)
    entropy = -(p * np.log2(p)).sum()
    assert bits([Counts(4)], digits) / 3000 < entropy + 0.05


def test_contexts_learn_what_follows_what() -> None:
    digits = np.tile(np.arange(4), 200)  # order-0: 2 bits each; given W: almost none
    seen = np.stack([np.roll(digits, 1)] + [digits * 0] * 7, axis=-1)
    assert bits([Counts(4)], digits) > 1.9 * len(digits)
    assert bits([Contexts(4, level=0)], digits, seen) < 0.2 * len(digits)


def test_a_wrong_expert_costs_a_few_bits_in_all() -> None:
    right, wrong = [TOTAL - 3, 1, 1, 1], [1, 1, 1, TOTAL - 3]
    digits = np.zeros(500, dtype=np.int64)
    assert bits([Fixed(right), Fixed(wrong)], digits) < 1 + 500 * 0.03  # its weight ends at 2^-6
    assert bits([Fixed(right)], digits) < 1


def test_an_expert_that_was_bad_returns() -> None:
    first, then = [TOTAL - 3, 1, 1, 1], [1, 1, 1, TOTAL - 3]
    digits = np.repeat([0, 3], 300)
    assert bits([Fixed(first), Fixed(then)], digits) < 2 * CAP / 256 + 600 * 0.03


def test_second_digits_are_counted_for_each_first_one() -> None:
    counts = Counts(65_536)
    for low in (3, 200):
        for _ in range(50):
            counts.rows(1, NONE, np.array([low]))
            counts.learn(1, np.array([low]))
    (row,) = counts.rows(1, np.zeros((2, 8), dtype=np.int64), np.array([3, 200]))
    assert row.argmax(-1).tolist() == [3, 200]
