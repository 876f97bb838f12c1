"""The cheapest path through a trellis is the cheapest of all paths, and a path."""

import itertools

import pytest
import torch

from codebound.quantize.viterbi import POLYNOMIALS, cheapest_paths, machine

CPU = torch.device("cpu")


def test_the_tables_are_those_of_the_text():
    assert machine(4, CPU).following.tolist() == [[0, 1], [2, 3], [1, 0], [3, 2]]
    eight = [[0, 2], [5, 7], [1, 3], [4, 6], [2, 0], [7, 5], [3, 1], [6, 4]]
    assert machine(8, CPU).following.tolist() == eight


@pytest.mark.parametrize("states", POLYNOMIALS)
def test_two_branches_leave_and_two_enter_each_state(states):
    branches = machine(states, CPU)
    for state, i in itertools.product(range(states), range(2)):
        origin, subset = int(branches.previous[state, i]), int(branches.subset[state, i])
        assert subset & 1 == origin & 1
        assert int(branches.following[origin, subset >> 1]) == state


@pytest.mark.parametrize(("start", "end"), [(0, -1), (3, -1), (-1, -1), (2, 1)])
def test_no_path_is_cheaper(start, end):
    metrics = torch.rand(6, 4, 5, generator=torch.Generator().manual_seed(0))
    following = machine(4, CPU).following.tolist()

    def cost(state, bits, lane):
        total = 0.0
        for step, z1 in enumerate(bits):
            total += float(metrics[step, (state & 1) + 2 * z1, lane])
            state = following[state][z1]
        return total if end in (-1, state) else float("inf")

    begin = torch.full((5,), start)
    paths, visited = cheapest_paths(metrics, 4, begin, torch.full((5,), end))
    for lane in range(5):
        starts = range(4) if start < 0 else [start]
        least = min(cost(s, bits, lane) for s in starts for bits in itertools.product((0, 1), repeat=6))
        bits = [int(subset) >> 1 for subset in paths[:, lane]]
        assert cost(int(visited[0, lane]), bits, lane) == pytest.approx(least)


def test_steps_that_are_none_leave_no_trace():
    generator = torch.Generator().manual_seed(1)
    metrics = torch.rand(300, 4, 3, generator=generator)
    active = torch.rand(300, 3, generator=generator) < 0.6
    paths, visited = cheapest_paths(metrics, 16, torch.zeros(3, dtype=torch.int64), active=active)
    for lane in range(3):
        there = active[:, lane]
        alone = cheapest_paths(metrics[there][:, :, lane : lane + 1], 16, torch.zeros(1, dtype=torch.int64))
        assert torch.equal(paths[there, lane], alone[0][:, 0])
        assert torch.equal(visited[there, lane], alone[1][:, 0])
        assert bool((paths[~there, lane] == 0).all())


def test_no_steps():
    paths, visited = cheapest_paths(torch.zeros(0, 4, 2), 8)
    assert paths.shape == visited.shape == (0, 2)
