"""Training many codebooks at once with the very functions that the layer uses, counting every hit."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from codebound import search
from codebound.quantize.update import EMA, CodebookState, codebook_gradient
from codebound.studies.population.settings import REVIVAL, Scenario
from codebound.theory.population import Schedule, Source


class Simulated(NamedTuple):
    """What happened to `m` codebooks over `w` windows."""

    hits: Int64[Tensor, "w m K"]
    revived: Int64[Tensor, "w m"]
    mass: Float[Tensor, "m K"]  # at the end; of EMA only
    codewords: Float[Tensor, "m K D"]


class Simulation:
    """`m` codebooks, each with batches of its own."""

    def __init__(
        self,
        scenario: Scenario,
        source: Source,
        start: Float[Tensor, "m K D"],
        generator: torch.Generator,
    ) -> None:
        self.scenario, self.source, self.generator = scenario, source, generator
        self.state = CodebookState.fresh(start.clone())

    def step(self) -> Tensor:
        """One update; returns the hits `[m, K]`."""
        scenario, (m, size, dim) = self.scenario, self.state.codewords.shape
        z = self.source(m * scenario.batch_size, self.generator).view(m, scenario.batch_size, dim)
        nearest = search.nearest(z, self.state.codewords, certify=False)
        counts, sums = search.assignment_sums(z, nearest, size)
        if scenario.update == "ema":
            self.state = EMA(scenario.decay).step(self.state, counts, sums)
        else:
            gradient = codebook_gradient(self.state.codewords, counts, sums)
            self.state = self.state._replace(codewords=self.state.codewords - scenario.lr * gradient)
        return counts

    def revive(self, hits: Tensor) -> Tensor:
        """The layer's revival on each codebook; returns how many codewords it replaced `[m]`."""
        revived, states = [], []
        for i in range(hits.shape[0]):
            state = CodebookState(*(part[i] for part in self.state))
            tokens = self.source(self.scenario.batch_size, self.generator)
            result = REVIVAL.revive(state, hits[i], tokens, self.generator)
            states.append(result.state)
            revived.append(len(result.rows))
        self.state = CodebookState(*(torch.stack(parts) for parts in zip(*states, strict=True)))
        return torch.tensor(revived)


def simulate(simulation: Simulation, schedule: Schedule) -> Simulated:
    """Run it over a schedule."""
    hits, revived = [], []
    for _ in range(schedule.windows):
        window = torch.zeros(simulation.state.counts.shape, dtype=torch.float64)
        for _ in range(schedule.window_steps):
            window += simulation.step()
        hits.append(window.long())
        none = torch.zeros(len(window), dtype=torch.int64)
        revived.append(simulation.revive(window) if simulation.scenario.revival else none)
    return Simulated(
        torch.stack(hits), torch.stack(revived), simulation.state.counts, simulation.state.codewords
    )
