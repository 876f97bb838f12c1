"""The trellis of a trellis code, and the cheapest paths through it, of many sequences at once.

A path takes one step for each value. In state s it may take the levels n with n & 1 = s & 1; bit z1 = (n >> 1) & 1
of the level says where it goes on. So the four subsets n mod 4 are Ungerboeck's (1982), and after a step the state is

    next(s, z1) = (s >> 1) ⊕ [s odd] · (h0 >> 1) ⊕ [z1 = 1] · (h1 >> 1)

with the parity-check polynomials h1, h0 of his table I, longer ones found by a random search for this project.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

POLYNOMIALS = {  # (h1, h0) by the number of states
    4: (0o2, 0o5),
    8: (0o4, 0o13),
    16: (0o4, 0o23),
    32: (0o10, 0o45),
    64: (0o24, 0o103),
    128: (0o126, 0o235),
    256: (0o362, 0o515),
    512: (0o502, 0o1513),
    1024: (0o1102, 0o2745),
}
BLOCK = 64  # steps after which costs are brought down again, and decisions packed
COMPILED = "codebound.quantize.compiled"
WORTH = 200_000_000  # of `work`, over all searches: two thirds of a second, as long as loading the compiled search
STEP, VALUE = 1 << 14, 24  # what a step takes in PyTorch, and each value in it, beside its states
_worked = 0


@dataclass(frozen=True, eq=False)
class Machine:
    """The branches of a trellis: where each leads, where each comes from, and its subset n mod 4."""

    following: Int64[Tensor, "S 2"]  # by z1
    previous: Int64[Tensor, "S 2"]
    subset: Int64[Tensor, "S 2"]  # of the branch from previous[s, i] into s

    @property
    def states(self) -> int:
        return len(self.following)


@lru_cache(maxsize=64)
def machine(states: int, device: torch.device) -> Machine:
    """The trellis of `states` states, one of `POLYNOMIALS`."""
    h1, h0 = POLYNOMIALS[states]
    state = torch.arange(states)
    advanced = (state >> 1) ^ (state & 1) * (h0 >> 1)
    following = torch.stack([advanced, advanced ^ (h1 >> 1)], dim=1)

    # Of 2·S branches two come into each state.
    into, order = following.flatten().sort(stable=True)
    if not bool((into.view(-1, 2) == state.unsqueeze(1)).all()):
        raise AssertionError(f"the polynomials of {states} states do not give two branches into each")
    origin, z1 = order >> 1, order & 1
    tables = (following, origin.view(-1, 2), ((origin & 1) + 2 * z1).view(-1, 2))
    return Machine(*(table.to(device) for table in tables))


def cheapest_paths(
    metrics: Float[Tensor, "T 4 B"],
    states: int,
    start: Int64[Tensor, " B"] | None = None,
    end: Int64[Tensor, " B"] | None = None,
    active: Bool[Tensor, "T B"] | None = None,
) -> tuple[Int64[Tensor, "T B"], Int64[Tensor, "T B"]]:
    """Viterbi's algorithm (1967): the subsets of the cheapest path of each sequence, and its states before each step.

    Args:
        metrics: what a level of each subset costs at each step.
        start, end: the state that a path begins or ends in; any where it is −1, or without the argument.
        active: where there is a step at all; elsewhere a path stays in its state, and its subset is 0.
    """
    branches, (length, _, batch) = machine(states, metrics.device), metrics.shape
    if (fast := compiled_for(metrics, work(length, length * batch, states))) is not None:
        anywhere = torch.full((batch,), -1)
        places = [anywhere if given is None else given for given in (start, end)]
        stepped = None if active is None else active.numpy()
        found = fast.cheapest_paths(
            metrics.contiguous().numpy(),
            *(place.numpy() for place in places),
            stepped,
            branches.previous.numpy(),
            branches.subset.numpy(),
        )
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])
    cost = _from_state(start, states, batch, metrics)
    # One look tells whether steps are left out at all.
    skipped = None if active is None or bool(active.all()) else active
    packed = []
    for begin in range(0, length, BLOCK):
        part = slice(begin, begin + BLOCK)
        decisions, cost = _forward(metrics[part], cost, branches, None if skipped is None else skipped[part])
        packed.append(_pack(decisions))
        cost = cost - cost.amin(0)

    # The state at the end: the given one, else the cheapest.
    state = cost.argmin(0)
    if end is not None:
        state = torch.where(end < 0, state, end)
    return _back(torch.cat(packed) if packed else None, state, length, branches, skipped)


def compiled_for(tensor: Tensor, work: int) -> ModuleType | None:
    """The search compiled by Numba, where that is installed, can take the tensor, and has had work enough to be loaded.

    Args:
        work: what `work` says of the search.
    """
    if tensor.device.type != "cpu" or tensor.dtype != torch.float32 or tensor.requires_grad:
        return None
    global _worked
    if COMPILED not in sys.modules:
        _worked += work
        if _worked < WORTH or find_spec("numba") is None:
            return None
    return import_module(COMPILED)


def work(steps: int, values: int, states: int) -> int:
    """What a search takes in PyTorch, in looks at a state (some 3 ns each): steps after steps, side by side in each."""
    return STEP * steps + values * (states + VALUE)


def announce(work: int) -> None:
    """Say what the next searches will take, so that the compiled search is loaded before and not amid them."""
    global _worked
    if _worked + work >= WORTH:
        _worked = WORTH


def _from_state(start: Tensor | None, states: int, batch: int, like: Tensor) -> Float[Tensor, "S B"]:
    """The cost of beginning in each state."""
    cost = like.new_zeros(states, batch)
    if start is None:
        return cost
    elsewhere = torch.arange(states, device=like.device).unsqueeze(1) != start
    return cost.masked_fill_(elsewhere & (start >= 0), 1e9)


def _forward(
    metrics: Float[Tensor, "t 4 B"],
    cost: Float[Tensor, "S B"],
    branches: Machine,
    active: Bool[Tensor, "t B"] | None,
) -> tuple[Bool[Tensor, "t S B"], Float[Tensor, "S B"]]:
    """Which branch into each state is the cheaper one, for a block of steps, and what the states cost after it."""
    decisions = torch.empty(len(metrics), *cost.shape, dtype=torch.bool, device=cost.device)
    origins, subsets = branches.previous.t().contiguous(), branches.subset.t().contiguous()
    first, second, edge = torch.empty_like(cost), torch.empty_like(cost), torch.empty_like(cost)
    for step, metric in enumerate(metrics):
        # The cost by either branch.
        for into, origin, subset in ((first, origins[0], subsets[0]), (second, origins[1], subsets[1])):
            torch.index_select(cost, 0, origin, out=into)
            into += torch.index_select(metric, 0, subset, out=edge)

        # The cheaper one; where there is no step, costs stay.
        torch.lt(second, first, out=decisions[step])
        kept = cost
        cost = torch.minimum(first, second, out=None if active is not None else kept)
        if active is not None:
            cost = torch.where(active[step], cost, kept)
    return decisions, cost


def _pack(decisions: Bool[Tensor, "t S B"]) -> UInt8[Tensor, "t s8 B"]:
    """Eight states to a byte, the first one in the lowest bit."""
    length, states, batch = decisions.shape
    together = min(8, states)
    shifts = torch.arange(together, dtype=torch.uint8, device=decisions.device).view(-1, 1)
    bits = decisions.view(torch.uint8).view(length, states // together, together, batch)
    return (bits << shifts).sum(2, dtype=torch.uint8)


def _back(
    packed: UInt8[Tensor, "T s8 B"] | None,
    state: Int64[Tensor, " B"],
    length: int,
    branches: Machine,
    active: Bool[Tensor, "T B"] | None,
) -> tuple[Int64[Tensor, "T B"], Int64[Tensor, "T B"]]:
    """Along the decisions from the last step to the first: subsets, and the states before each step."""
    subsets = state.new_zeros(length, *state.shape)
    visited = torch.empty_like(subsets)
    subset_of, previous = branches.subset.flatten(), branches.previous.flatten()
    lanes = torch.arange(state.shape[0], device=state.device)
    for step in reversed(range(length)):
        assert packed is not None
        # The bit of this state says which branch led here.
        byte = packed[step].view(-1).take((state >> 3) * state.shape[0] + lanes)
        branch = 2 * state + ((byte >> (state & 7)) & 1)
        torch.take(subset_of, branch, out=subsets[step])
        before = previous.take(branch)
        state = before if active is None else torch.where(active[step], before, state)
        visited[step] = state
    return subsets if active is None else torch.where(active, subsets, 0), visited
