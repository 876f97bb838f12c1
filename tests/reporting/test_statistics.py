import math

import numpy as np
import pytest

from codebound.reporting.statistics import (
    mean_interval,
    median_interval,
    paired_percent,
    paired_ratio,
    quantity_interval,
    ratio_interval,
)


def test_mean_interval_is_students():
    found = mean_interval([1.0, 2.0, 3.0, 4.0])
    half = 3.182446 * math.sqrt(5 / 3) / 2  # t(.975, 3)
    assert found.mean == 2.5
    assert found.low == pytest.approx(2.5 - half, rel=1e-6)
    assert found.high == pytest.approx(2.5 + half, rel=1e-6)
    assert (found.n, found.kind) == (4, "mean")


def test_mean_interval_covers_the_mean():
    draws = np.random.default_rng(0).normal(3, 2, size=(4000, 5))
    covered = np.mean([f.low <= 3 <= f.high for f in map(mean_interval, draws)])
    assert covered == pytest.approx(0.95, abs=0.012)


def test_a_ratio_over_parts_of_different_sizes():
    """Of equal sizes it is the mean's; else the ratio of the sums, and 95 % of intervals cover the true one."""
    values = np.array([1.0, 2.0, 4.0, 7.0])
    one, other = mean_interval(values), ratio_interval(3 * values, np.full(4, 3.0))
    assert (other.mean, other.low, other.high) == pytest.approx((one.mean, one.low, one.high))
    assert ratio_interval([3.0, 5.0], [1.0, 3.0]).mean == pytest.approx(2.0)
    assert not ratio_interval([3.0], [1.0]).known
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        sizes = rng.integers(50, 150, size=40).astype(float)
        found = ratio_interval(2 * sizes + rng.normal(0, 10, size=40), sizes)
        covered += found.low < 2 < found.high
    assert 0.92 < covered / 400 < 0.98
    with pytest.raises(ValueError, match="0 totals of 0 sizes"):
        ratio_interval([], [])


def test_one_value_has_no_interval():
    found = mean_interval([2.0])
    assert found.mean == 2.0
    assert not found.known
    assert not found.below(10)
    assert mean_interval([]).n == 0


def test_floor_cuts_the_interval_and_infinity_is_refused():
    assert mean_interval([0.0, 0.0, 1.0], floor=0).low == 0
    with pytest.raises(ValueError, match="infinite"):
        mean_interval([1.0, math.inf])


def test_pairs_are_narrower_than_the_spread_of_seeds():
    noise = np.random.default_rng(1).normal(0, 0.5, 8)
    b = {i: 4 * math.exp(x) for i, x in enumerate(noise)}
    a = {i: 1.25 * v + 0.001 * (i % 2) for i, v in b.items()}
    found = paired_percent(a, b)
    assert found.mean == pytest.approx(25, abs=0.05)
    assert found.high - found.low < 0.1


def test_intervals_of_seeds_that_share_rows_are_wider():
    x = [1.0, 2.0, 3.0, 4.0]
    alone, shared = mean_interval(x), mean_interval(x, overlap=0.25)
    assert shared.mean == alone.mean
    assert (shared.high - shared.mean) / (alone.high - alone.mean) == pytest.approx(math.sqrt(2))


def test_the_best_of_several_has_a_wider_interval():
    """Of 4 arms that do not differ the best seems to in far more than 5 % of studies; widened, it does not."""
    draws = np.random.default_rng(2).normal(size=(2000, 4, 8))
    best = [min(map(mean_interval, study), key=lambda f: f.mean) for study in draws]
    assert np.mean([f.high < 0 for f in best]) > 0.07
    assert np.mean([f.widened(4).high < 0 for f in best]) < 0.04
    with pytest.raises(ValueError, match="median"):
        median_interval([1, 2, 3]).widened(2)


def test_pairs_are_the_shared_seeds():
    assert paired_percent({1: 2.0, 2: 3.0, 3: 9.0}, {1: 1.0, 2: 2.0}).n == 2
    assert paired_percent({1: 2.0, 2: 4.0}, {1: 1.0, 2: 2.0}).mean == 100


def test_ratio_is_geometric_and_symmetric():
    a, b = {0: 2.0, 1: 8.0, 2: 4.0}, {0: 1.0, 1: 2.0, 2: 1.0}
    there, back = paired_ratio(a, b), paired_ratio(b, a)
    assert there.kind == "ratio"
    assert there.mean == pytest.approx(1 / back.mean)
    assert there.low == pytest.approx(1 / back.high)


def test_ratio_with_never():
    a = dict.fromkeys(range(8), math.inf)
    b = dict.fromkeys(range(8), 100.0)
    assert paired_ratio(a, b).low == math.inf
    assert paired_ratio(b, a).high == 0
    assert paired_ratio(a, a).n == 0, "neither arrived: nothing to say"


def test_median_interval_is_order_statistics():
    found = median_interval([5, 1, 4, 2, 3, 6, 8, 7])
    assert (found.mean, found.low, found.high) == (4.5, 1, 8)  # n = 8: P(Bin < 2) = .035, so rank 1
    assert (median_interval(range(1, 10)).low, median_interval(range(1, 10)).high) == (2, 8)
    assert not median_interval([1, 2, 3, 4, 5]).known
    assert median_interval([1, 2, 3, 4, 5, 6]).known


def test_median_interval_covers_the_median():
    draws = np.random.default_rng(0).exponential(size=(3000, 12))
    covered = np.mean([f.low <= math.log(2) <= f.high for f in map(median_interval, draws)])
    assert covered >= 0.95


def test_never_counts_as_infinite():
    some = quantity_interval([100, 200, math.inf, 150, 120, 130])
    assert (some.kind, some.never, some.mean, some.high) == ("median", 1, 140, math.inf)
    assert quantity_interval([math.inf] * 6).mean == math.inf
    assert quantity_interval([100, 200]).kind == "mean"


def test_json_has_no_infinity():
    found = quantity_interval([math.inf] * 6).to_json()
    assert found["mean"] is None
    assert found["never"] == 6
