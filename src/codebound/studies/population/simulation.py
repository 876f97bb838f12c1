"""Training many codebooks at once with the very functions that the layer uses, counting every hit."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from codebound import search
from codebound.quantize.update import EMA, CodebookState, codebook_gradient
from codebound.studies.population.settings import REVIVAL, Scenario
from codebound.theory.population import Population, Schedule, Source


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


def simulate(simulation: Simulation, schedule: Schedule) -> Population:
    """Run it over a schedule; what happened is counted as the theory counts it."""
    no_hit, revived = [], []
    for _ in range(schedule.windows):
        window = torch.zeros(simulation.state.counts.shape, dtype=torch.float64)
        for _ in range(schedule.window_steps):
            window += simulation.step()
        no_hit.append((window == 0).double())
        none = torch.zeros(len(window), dtype=torch.int64)
        revived.append(simulation.revive(window) if simulation.scenario.revival else none)
    state = simulation.state
    return Population(torch.stack(no_hit), torch.stack(revived).double(), state.counts, state.codewords)
