"""Training many codebooks at once with the very functions that the layer uses: sources, starts, every hit counted."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from codebound import search
from codebound.quantize.init import Init, Normal, Sample, Uniform, Xavier
from codebound.quantize.update import EMA, CodebookState, codebook_gradient
from codebound.studies.framework.cells import stream
from codebound.studies.population.settings import REVIVAL, Scenario, SourceName
from codebound.theory.population import Population, Schedule, Source

CLUSTERS, SPREAD = 32, 0.15


def source(name: SourceName, dim: int) -> Source:
    """Fresh points; every coordinate has variance 1 (mixture: about 1)."""
    if name == "gaussian":
        return lambda n, generator: torch.randn(n, dim, generator=generator)
    if name == "laplace":
        return lambda n, generator: _laplace(torch.rand(n, dim, generator=generator))
    if name == "cube":
        return lambda n, generator: (torch.rand(n, dim, generator=generator) * 2 - 1) * math.sqrt(3)
    return _mixture(dim)


def _laplace(u: Tensor) -> Tensor:
    """Inverse distribution function; 0.5·2^−24 at the ends keeps it finite."""
    centred = u - 0.5
    tail = (1 - 2 * centred.abs()).clamp_min(2.0**-25)
    return centred.sign() * -tail.log() / math.sqrt(2)


def _mixture(dim: int) -> Source:
    centres = torch.randn(CLUSTERS, dim, generator=torch.Generator().manual_seed(12345))

    def draw(n: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(CLUSTERS, (n,), generator=generator)
        return centres[chosen] + SPREAD * torch.randn(n, dim, generator=generator)

    return draw


def starts(scenario: Scenario, runs: int, generator: torch.Generator) -> Tensor:
    """Codebooks `[runs, K, D]` before the first step; `sample` takes rows of a batch of 4K tokens."""
    normal = Normal(scenario.std)
    begin: dict[str, Init] = {"uniform": Uniform(), "normal": normal, "xavier": Xavier(), "sample": Sample()}
    draw, size = source(scenario.source, scenario.dim), scenario.codebook_size
    books = [begin[scenario.init](draw(4 * size, generator), size, generator) for _ in range(runs)]
    return torch.stack(books)


def generator(scenario: Scenario, seed: int, purpose: str) -> torch.Generator:
    """A stream for each purpose; it depends on what the scenario does, not on its name or role."""
    facts = scenario.model_dump(exclude={"name", "role", "varied"})
    return stream(sorted(facts.items()), seed, purpose)


class Simulation:
    """`m` codebooks, each with batches of its own."""

    def __init__(
        self, scenario: Scenario, draw: Source, start: Float[Tensor, "m K D"], stream: torch.Generator
    ) -> None:
        self.scenario, self.draw, self.stream = scenario, draw, stream
        self.state = CodebookState.fresh(start.clone())

    def step(self) -> Tensor:
        """One update; returns the hits `[m, K]`."""
        scenario, (m, size, dim) = self.scenario, self.state.codewords.shape
        z = self.draw(m * scenario.batch_size, self.stream).view(m, scenario.batch_size, dim)
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
            tokens = self.draw(self.scenario.batch_size, self.stream)
            result = REVIVAL.revive(state, hits[i], tokens, self.stream)
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
