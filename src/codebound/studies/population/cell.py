"""One cell: a scenario, simulated and predicted from the same starting codebooks."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from codebound import search
from codebound.runs.folder import RunFolder
from codebound.studies.population.settings import REVIVAL, Scenario, Settings
from codebound.studies.population.simulation import Simulated, Simulation, simulate
from codebound.studies.population.sources import generator, source, starts
from codebound.theory.population import Population, Schedule, evolve, unhit

LEVELS = ("frozen", "mean_field", "shot_noise")
FROZEN_POINTS = 4  # times a window's tokens


def run_cell(folder: RunFolder[Settings], scenario: Scenario) -> None:
    """Simulate, predict and write one cell; its file says that it is finished."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the sum's order, hence its last bit, depends on it
    try:
        folder.finish(scenario.name, measure(folder.settings, scenario))
    finally:
        torch.set_num_threads(threads)


def measure(settings: Settings, scenario: Scenario) -> dict[str, Any]:
    """Per window and run: dead, died, returned, revived; simulated, and by each level of the theory."""
    seed, schedule, runs = settings.seed, settings.schedule(scenario), settings.runs(scenario)
    draw = source(scenario.source, scenario.dim)
    start = starts(scenario, runs, generator(scenario, seed, "starts"))
    began = time.perf_counter()
    run = simulate(Simulation(scenario, draw, start, generator(scenario, seed, "batches")), schedule)
    found: dict[str, Any] = {
        "scenario": scenario.model_dump(mode="json"),
        "runs": runs,
        "steps": schedule.window_steps * schedule.windows,
        "window_steps": schedule.window_steps,
        "simulation": _simulated(scenario, run) | {"seconds": time.perf_counter() - began},
        "frozen": _frozen(scenario, start, schedule, generator(scenario, seed, "frozen")),
    }
    for level in LEVELS[1:]:
        began = time.perf_counter()
        stream = int(torch.randint(2**31, (), generator=generator(scenario, seed, level)))
        # The mean field has no noise of its own: fewer starts do.
        population = evolve(
            start if level == "shot_noise" else start[: -(-runs // 2)],
            scenario.rule,
            schedule,
            draw,
            noise=level == "shot_noise",
            revive_below=scenario.revive_below,
            seed=stream,
        )
        found[level] = _predicted(scenario, population) | {"seconds": time.perf_counter() - began}
    return found


def _simulated(scenario: Scenario, run: Simulated) -> dict[str, Any]:
    none = (run.hits == 0).double()
    return _counts(scenario, Population(none, run.revived.double(), run.mass, run.codewords))


def _predicted(scenario: Scenario, population: Population) -> dict[str, Any]:
    return _counts(scenario, population)


def _counts(scenario: Scenario, population: Population) -> dict[str, Any]:
    """Lists by run, then window. Mass below the revival's share of the mean is dead by mass."""
    found = {name: _rounded(getattr(population, name).T) for name in ("dead", "died", "returned", "revived")}
    if scenario.update == "ema":
        share = REVIVAL.threshold * scenario.batch_size / scenario.codebook_size
        found["dead_by_mass"] = (population.mass < share).sum(-1).tolist()
    return found


def _rounded(values: Tensor) -> list[Any]:
    return [[round(float(x), 4) for x in row] for row in values]


def _frozen(scenario: Scenario, start: Tensor, schedule: Schedule, stream: torch.Generator) -> dict[str, Any]:
    """Dead in a window if no codeword ever moved, by run."""
    tokens = schedule.window_steps * scenario.batch_size
    draw, counts, points = source(scenario.source, scenario.dim), torch.zeros(start.shape[:2]), 0
    block = min(tokens, 2**15)
    while points < FROZEN_POINTS * tokens:
        z = draw(block, stream)
        indices = search.nearest(z, start, certify=False)
        counts += search.assignment_sums(z, indices, start.shape[1])[0]
        points += block
    return {"dead": [round(x, 4) for x in unhit(counts, points, tokens).tolist()]}
