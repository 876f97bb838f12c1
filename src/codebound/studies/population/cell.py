"""One cell: a scenario, simulated and predicted from the same starting codebooks."""

from __future__ import annotations

import time
from typing import Any

import torch

from codebound import search
from codebound.studies.population.settings import REVIVAL, Scenario, Settings
from codebound.studies.population.simulation import Simulation, generator, simulate, source, starts
from codebound.theory.population import Population, Schedule, evolve, unhit

LEVELS = ("frozen", "mean_field", "shot_noise")
FROZEN_POINTS = 4  # times a window's tokens


def measure(settings: Settings, scenario: Scenario) -> dict[str, Any]:
    """Per window and run: dead, died, returned, revived; simulated, and by each level of the theory."""
    seed, schedule, runs = settings.seed, settings.schedule(scenario), settings.runs(scenario)
    draw = source(scenario.source, scenario.dim)
    start = starts(scenario, runs, generator(scenario, seed, "starts"))

    # Train every codebook with batches of its own.
    began = time.perf_counter()
    simulated = simulate(Simulation(scenario, draw, start, generator(scenario, seed, "batches")), schedule)
    result: dict[str, Any] = {
        "scenario": scenario.model_dump(mode="json"),
        "runs": runs,
        "steps": schedule.window_steps * schedule.windows,
        "window_steps": schedule.window_steps,
        "simulation": _counts(scenario, simulated) | {"seconds": time.perf_counter() - began},
        "frozen": _frozen(scenario, start, schedule, generator(scenario, seed, "frozen")),
    }

    # The mean field has no noise of its own: half the starts do.
    for level, books in (("mean_field", start[: -(-runs // 2)]), ("shot_noise", start)):
        began = time.perf_counter()
        predicted = evolve(
            books,
            scenario.rule,
            schedule,
            draw,
            noise=level == "shot_noise",
            revive_below=scenario.revive_below,
            seed=int(torch.randint(2**31, (), generator=generator(scenario, seed, level))),
        )
        result[level] = _counts(scenario, predicted) | {"seconds": time.perf_counter() - began}
    return result


def _counts(scenario: Scenario, population: Population) -> dict[str, Any]:
    """Lists by run, then window. Mass below the revival's share of the mean is dead by mass, at the end."""
    counts: dict[str, Any] = {
        name: [[round(float(x), 4) for x in run] for run in getattr(population, name).T]
        for name in ("dead", "died", "returned", "revived")
    }
    if scenario.update == "ema":
        share = REVIVAL.threshold * scenario.batch_size / scenario.codebook_size
        counts["dead_by_mass"] = (population.mass < share).sum(-1).tolist()
    return counts


def _frozen(
    scenario: Scenario, start: torch.Tensor, schedule: Schedule, stream: torch.Generator
) -> dict[str, Any]:
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
