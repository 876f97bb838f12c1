"""How long a codeword of a given cell lives, and how long it stays dead: the EMA mass simulated beside theory."""

from __future__ import annotations

from typing import Any

import numpy as np

from codebound.reporting.long_table import finite
from codebound.reporting.statistics import mean_interval
from codebound.studies.population.settings import REVIVAL
from codebound.theory.population import passage_time

BATCH, SIZE = 64, 64  # a mean codeword gets one hit a step
DECAYS = (0.9, 0.97, 0.99)
SHARES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15)  # of a mean codeword's probability
CHAINS = 1000
LONGEST = 20_000  # steps; a chain that lives longer makes the mean unknown, so the point is left out


def measure(seed: int) -> dict[str, Any]:
    """Mean steps to extinction (from the mass of a mean codeword) and to recovery (from no mass), with intervals."""
    threshold = REVIVAL.threshold * BATCH / SIZE
    rng = np.random.default_rng(seed)
    rows = []
    for decay in DECAYS:
        for share in SHARES:
            p = share / SIZE
            for what, start in (("extinction", BATCH / SIZE), ("recovery", 0.0)):
                times = _simulate(p, decay, threshold, start, rng)
                theory = passage_time(p, BATCH, decay, threshold, start)
                row = {"what": what, "decay": decay, "share": share, "theory": finite(theory)}
                rows.append(row | {"simulation": None if times is None else mean_interval(times).to_json()})
    return {"batch_size": BATCH, "codebook_size": SIZE, "threshold": threshold, "rows": rows}


def _simulate(p: float, decay: float, threshold: float, start: float, rng: np.random.Generator) -> Any:
    """Steps to the first crossing of each chain; None if one takes longer than `LONGEST`."""
    mass, times, active = np.full(CHAINS, start), np.full(CHAINS, np.nan), np.arange(CHAINS)
    for step in range(1, LONGEST + 1):
        mass = decay * mass + (1 - decay) * rng.binomial(BATCH, p, len(mass))
        crossed = (mass < threshold) == (start >= threshold)
        times[active[crossed]] = step
        active, mass = active[~crossed], mass[~crossed]
        if not len(active):
            return times
    return None
