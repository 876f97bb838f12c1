"""Birth and death of codewords: closed forms against simulation, the flows against their limits."""

import math

import numpy as np
import pytest
import torch

from codebound import search
from codebound.errors import InputError
from codebound.theory.population import (
    EMA,
    SGD,
    Schedule,
    evolve,
    hit_probability,
    mass,
    passage_time,
    sgd_time_constant,
    starvation_time,
    unhit,
)


def gaussian(n: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(n, 2, generator=generator)


def test_hit_probability() -> None:
    found = hit_probability(np.array([0.0, 1e-12, 0.5, 1.0]), 4)
    assert found == pytest.approx([0, 4e-12, 1 - 0.5**4, 1], rel=1e-9)


def test_unhit_is_unbiased_where_the_plug_in_is_not() -> None:
    p, tokens, points = 0.02, 50, 100
    x = np.random.default_rng(0).binomial(points, p, 200_000)
    found = unhit(torch.from_numpy(x)[:, None], points, tokens).numpy()
    exact = (1 - p) ** tokens
    assert found.mean() == pytest.approx(exact, abs=4 * found.std() / len(x) ** 0.5)
    assert ((1 - x / points) ** tokens).mean() > 1.1 * exact


def test_moments_of_the_mass() -> None:
    p, batch, decay, rng = 0.03, 20, 0.8, np.random.default_rng(1)
    n = np.full(100_000, 2.0)
    for step in range(1, 31):
        n = decay * n + (1 - decay) * rng.binomial(batch, p, len(n))
        if step in (2, 30):
            expected = mass(p, batch, decay, steps=step, start=2.0)
            assert n.mean() == pytest.approx(expected.mean, rel=0.01)
            assert n.var() == pytest.approx(expected.variance, rel=0.03)
    assert mass(p, batch, decay).mean == pytest.approx(p * batch)
    assert mass(p, batch, 0.0).variance == pytest.approx(batch * p * (1 - p))


@pytest.mark.parametrize(
    ("p", "decay", "threshold", "start"),
    [
        (0.002, 0.9, 0.03, 1.0),  # between hits its mass falls under the threshold: dies, fast
        (0.01, 0.97, 0.1, 1.0),  # dies by fluctuation
        (0.005, 0.97, 0.1, 0.0),  # needs several hits to return
        (0.005, 0.9, 0.05, 0.02),  # needs one
    ],
)
def test_mean_passage_time(p: float, decay: float, threshold: float, start: float) -> None:
    batch, chains = 16, 4000
    rng, dying = np.random.default_rng(2), start >= threshold
    n, times, step = np.full(chains, start), np.zeros(chains), 0
    while (going := times == 0).any():
        step += 1
        n = decay * n + (1 - decay) * rng.binomial(batch, p, chains)
        times[going & ((n < threshold) == dying)] = step
    error = times.std() / chains**0.5
    assert error < 0.03 * times.mean()
    assert passage_time(p, batch, decay, threshold, start) == pytest.approx(times.mean(), abs=4 * error)


def test_limits_of_the_passage_time() -> None:
    starving = passage_time(0.0, 16, 0.9, 0.03, 1.0)
    assert starving == pytest.approx(math.ceil(starvation_time(1.0, 0.03, 0.9)), rel=1e-3)
    assert passage_time(0.01, 16, 0.9, 0.05, 0.0) == pytest.approx(1 / hit_probability(np.array(0.01), 16))
    assert passage_time(0.0, 16, 0.9, 0.05, 0.0) == math.inf
    assert passage_time(0.5, 64, 0.99, 0.5, 32.0) == math.inf


def test_sgd_moves_a_lone_codeword_in_its_time_constant() -> None:
    lr = 0.01
    steps = round(sgd_time_constant(1.0, lr))
    start = torch.tensor([[[3.0, -2.0]]])
    found = evolve(start, SGD(lr), Schedule(4000, steps, 1), gaussian, noise=False)
    assert found.codewords.norm() / start.norm() == pytest.approx(math.exp(-1), rel=0.03)
    assert found.dead.item() == 0


@pytest.mark.parametrize("rule", [SGD(0.5), EMA(0.98)], ids=["sgd", "ema"])
@pytest.mark.parametrize("noise", [False, True], ids=["mean field", "shot noise"])
def test_a_codeword_out_of_reach_stands_still_and_is_dead(rule: SGD | EMA, noise: bool) -> None:
    start = torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [60.0, 0.0]]])
    found = evolve(start, rule, Schedule(32, 20, 3), gaussian, noise=noise)
    assert found.dead.flatten().tolist() == [1.0, 1.0, 1.0]
    assert found.codewords[0, 2].tolist() == pytest.approx([60.0, 0.0], rel=0.011)  # smoothing: at most 1 %
    assert evolve(
        start, EMA(0.98, smoothing=0.0), Schedule(32, 20, 3), gaussian, noise=noise
    ).codewords[0, 2].tolist() == [60.0, 0.0]  # fmt: skip


def test_revival_replaces_it_once() -> None:
    start = torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [60.0, 0.0]]]).repeat(8, 1, 1)
    found = evolve(start, EMA(0.9), Schedule(32, 20, 3), gaussian, noise=True, revive_below=0.03)
    assert found.revived.sum(0).tolist() == [1.0] * 8
    assert found.dead[-1].sum() == 0


def test_mean_field_and_shot_noise_agree_where_hits_are_many() -> None:
    """lr/B → 0: one window, the same dead; and both beside direct simulation of every token."""
    generator = torch.Generator().manual_seed(0)
    start = 2 * torch.randn(24, 32, 2, generator=generator)
    schedule, lr = Schedule(64, 25, 3), 0.5
    flow, shot = (evolve(start, SGD(lr), schedule, gaussian, noise=noise, seed=5) for noise in (False, True))
    books, simulated = start.clone(), []
    for _ in range(schedule.windows):
        hits = torch.zeros(24, 32)
        for _ in range(schedule.window_steps):
            z = torch.randn(24, 64, 2, generator=generator)
            counts, sums = search.assignment_sums(z, search.nearest(z, books, certify=False), 32)
            books = books - (2 * lr / 64) * (counts.unsqueeze(-1) * books - sums).float()
            hits += counts
        simulated.append((hits == 0).double().sum(-1))
    truth = torch.stack(simulated)
    assert 4 < truth[-1].mean() < 16
    for found in (flow, shot):
        difference = (found.dead - truth).mean(0)  # paired by start
        assert abs(difference.mean()) < 3 * difference.std() / 24**0.5 + 0.1


def test_turnover_adds_up() -> None:
    start = 2 * torch.randn(4, 16, 2, generator=torch.Generator().manual_seed(1))
    found = evolve(start, EMA(0.9), Schedule(16, 20, 4), gaussian, noise=True)
    assert torch.equal(found.dead[1:] - found.dead[:-1], found.died - found.returned)
    again = evolve(start, EMA(0.9), Schedule(16, 20, 4), gaussian, noise=True)
    assert torch.equal(found.codewords, again.codewords)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: hit_probability(np.array([1.5]), 4), "cell_probability"),
        (lambda: hit_probability(np.array([0.5]), 0), "batch_size"),
        (lambda: unhit(torch.ones(3), 10, 11), "points is 10"),
        (lambda: mass(0.1, 4, 1.0), "decay is 1.0"),
        (lambda: passage_time(0.1, 4, 0.9, 0.0, 1.0), "threshold is 0.0"),
        (lambda: SGD(0.0), "lr is 0.0"),
        (lambda: EMA(1.0), "decay is 1.0"),
        (lambda: Schedule(4, 0, 1), "window_steps is 0"),
        (lambda: sgd_time_constant(0.0, 0.1), "cell_probability is 0.0"),
        (
            lambda: evolve(
                torch.full((1, 2, 2), torch.nan), SGD(1.0), Schedule(1, 1, 1), gaussian, noise=False
            ),
            "start",
        ),
        (
            lambda: evolve(
                torch.ones(1, 2, 2), SGD(1.0), Schedule(1, 1, 1), gaussian, noise=False, revive_below=1.0
            ),
            "revive_below is 1.0",
        ),
    ],
)
def test_bad_input_is_named(call, named: str) -> None:
    with pytest.raises(InputError, match=named):
        call()
