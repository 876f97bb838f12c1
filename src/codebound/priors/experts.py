"""Predictions of the next digit, mixed in integers; both sides learn the same from what was just coded.

An expert's row has an entry per digit value and sums to at most 2^16. The mixture weighs experts by how well they did:

    row = Σ_i w_i · row_i,   w_i = 2^(−L_i),   L_i ← min(L_i + cost_i, min_j(L_j + cost_j) + 6 bit)

— Bayesian averaging of experts, the loss capped so that one which was bad can return (Herbster & Warmuth 1998 share
weights to the same end). All positions of a diagonal are predicted before any of them is learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64, Num

from codebound.coding.integers import TOTAL, UNIT, cost, exp2, floored_quotient, frequencies
from codebound.priors.digits import alphabets

Opinions = list[
    Num[np.ndarray, "_ a"]
]  # of several experts on a digit: a row for each position, or one for all
CAP = 6 * UNIT  # how far an expert can fall behind
GAIN = 24  # what one count adds to a digit value's weight where nothing is known but counts; all begin at 1
DOUBT = 8  # a context's counts weigh as much as its base's opinion after so many digits
BUCKETS = 1 << 12  # contexts that are kept apart


@runtime_checkable
class Expert(Protocol):
    """Predicts digit `place` of the indices at some positions, then is shown them."""

    def rows(
        self, place: int, neighbours: Int64[np.ndarray, "n s"], prefix: Int64[np.ndarray, " n"]
    ) -> Opinions:
        """One or more opinions, each of a row for every position or one for all.

        Args:
            neighbours: as `field.slots`.
            prefix: the digit before, or 0.
        """
        ...

    def learn(self, place: int, digits: Int64[np.ndarray, " n"]) -> None:
        """What the digits at the positions of the last `rows` were."""
        ...


class Panel:
    """Experts who are asked and taught in this order."""

    def __init__(self, experts: Sequence[Expert]) -> None:
        self._experts = experts

    def rows(
        self, place: int, neighbours: Int64[np.ndarray, "n s"], prefix: Int64[np.ndarray, " n"]
    ) -> Opinions:
        """What all of them say."""
        return [row for expert in self._experts for row in expert.rows(place, neighbours, prefix)]

    def learn(self, place: int, digits: Int64[np.ndarray, " n"]) -> None:
        """Tell all of them what the digits were."""
        for expert in self._experts:
            expert.learn(place, digits)


class Mixture:
    """Frequencies from opinions, weighed by how well they did.

    Args:
        places: digits per index; each has weights of its own.
        opinions: how many of a panel's are heard, from the first one on; all if not given.
    """

    def __init__(self, places: int, opinions: int | None = None) -> None:
        self._heard = slice(opinions)
        self._losses = [np.zeros(1, dtype=np.int64) for _ in range(places)]
        self._rows: Opinions = []

    def frequencies(self, place: int, rows: Opinions) -> Float64[np.ndarray, "_ a"]:
        """Frequencies of the digit's values at each position; one row where they are the same everywhere."""
        self._rows = rows[self._heard]
        weights = (exp2(np.broadcast_to(self._losses[place], len(self._rows))) >> 8).astype(np.float64)
        total = weights[-1] * self._rows[-1]
        for weight, row in zip(weights[:-1], self._rows[:-1], strict=True):
            total = np.add(total, weight * row, out=total if len(row) <= len(total) else None)
        return frequencies(total)

    def learn(self, place: int, digits: Int64[np.ndarray, " n"]) -> None:
        """Move the weights."""
        at = np.arange(len(digits))
        given = np.array([row[at if len(row) > 1 else 0, digits] for row in self._rows]).astype(np.int64)
        losses = self._losses[place] + cost(np.maximum(given, 1)).sum(-1)
        self._losses[place] = np.minimum(losses - losses.min(), CAP)


class Counts:
    """How often each digit value was seen.

    Its weight is 1 + 24·count; the second digit is counted for each first one apart.
    """

    def __init__(self, codebook_size: int) -> None:
        sizes = alphabets(codebook_size)
        self._tables = [_table(sizes[0] if place else 1, size) for place, size in enumerate(sizes)]
        self._prefix = np.zeros(0, dtype=np.int64)

    def rows(
        self, place: int, neighbours: Int64[np.ndarray, "n s"], prefix: Int64[np.ndarray, " n"]
    ) -> Opinions:
        # A first digit has no other before it: one row is everybody's.
        self._prefix = prefix
        return [frequencies(1 + GAIN * self._tables[place][prefix if place else slice(0, 1)])]

    def learn(self, place: int, digits: Int64[np.ndarray, " n"]) -> None:
        _count(self._tables[place], self._prefix, digits)


class Contexts:
    """The counts, and counts under three contexts: one neighbour, another, both.

    Counts c with n in all beside a base's opinion b give (2^16·c + 8·b) / (n + 8), rounded down (a Dirichlet prior
    around b, as in MacKay & Peto 1995): the base of one neighbour is `Counts`; that of both is the mean of theirs.
    The two are W and N, and on a level above another the index below and W. Contexts are hashed to 4096 buckets.
    """

    def __init__(self, codebook_size: int, level: int) -> None:
        self._counts = Counts(codebook_size)
        self._pair = (8, 0) if level else (0, 1)  # places in `field.slots`
        self._tables = [[_table(BUCKETS, size) for _ in range(3)] for size in alphabets(codebook_size)]
        self._totals = [[_table(BUCKETS, 1) for _ in range(3)] for _ in self._tables]
        self._keys: list[Int64[np.ndarray, " n"]] = []

    def rows(
        self, place: int, neighbours: Int64[np.ndarray, "n s"], prefix: Int64[np.ndarray, " n"]
    ) -> Opinions:
        first, second = neighbours[:, self._pair[0]], neighbours[:, self._pair[1]]
        contexts = (first, second, first * (1 << 17) + second)
        self._keys = [_bucket(context + (prefix << 34)) for context in contexts]
        (base,) = self._counts.rows(place, neighbours, prefix)
        one, other = (self._opinion(place, which, base) for which in (0, 1))
        return [base, one, other, self._opinion(place, 2, np.floor((one + other) / 2))]

    def learn(self, place: int, digits: Int64[np.ndarray, " n"]) -> None:
        self._counts.learn(place, digits)
        for table, total, key in zip(self._tables[place], self._totals[place], self._keys, strict=True):
            _count(table, key, digits)
            _count(total, key, np.zeros_like(digits))

    def _opinion(self, place: int, which: int, base: Num[np.ndarray, "_ a"]) -> Float64[np.ndarray, "n a"]:
        key = self._keys[which]
        opinion = self._tables[place][which][key]
        opinion *= TOTAL
        opinion += DOUBT * base
        floored_quotient(opinion, self._totals[place][which][key] + DOUBT)
        return opinion


def _table(contexts: int, alphabet: int) -> Float64[np.ndarray, "c a"]:
    return np.zeros((contexts, alphabet))


def _count(
    table: Float64[np.ndarray, "c a"], contexts: Int64[np.ndarray, " n"], digits: Int64[np.ndarray, " n"]
) -> None:
    """One more of each digit in its context; the same pair may come twice."""
    np.add.at(table.reshape(-1), contexts * table.shape[1] + digits, 1.0)


def _bucket(context: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """The 12 high bits of a 32-bit multiplicative hash (Knuth 1973, §6.4) of the context's two halves."""
    mixed = (context & 0xFFFFFFFF) * 2654435761 + (context >> 32) * 2246822519
    return (mixed & 0xFFFFFFFF) >> 20
