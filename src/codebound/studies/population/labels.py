"""What things are called and how they look."""

from __future__ import annotations

from codebound.reporting.plots import INK
from codebound.studies.framework.declare import Look
from codebound.studies.population.settings import Role, Scenario

LEVELS = {  # of the theory
    "frozen": Look("frozen cells", "#999933", dashes=(0, (1, 1.5))),
    "mean_field": Look("mean field", "#cc6677", dashes=(0, (5, 2))),
    "shot_noise": Look("shot noise", "#0b63a5", dashes=(0, (3, 1.5))),
}
SIMULATED = Look("simulated", INK)
ROLES: dict[Role, Look] = {
    "held_out": Look("held out", "#b3261e"),
    "own": Look("yours", "#7a3fa0"),
    "development": Look("development", "#0b63a5"),
    "revival": Look("with revival", "#117733"),
    "sweep": Look("one setting at a time", "#8f99a5"),
}
KEYS = {
    "codebook_size": "K",
    "batch_size": "B",
    "decay": "γ",
    "lr": "lr",
    "init": "start",
    "source": "source",
}


def title(s: Scenario) -> str:
    """H4: EMA, K = 192"""
    return f"{s.name}: {s.update.upper()}, K = {s.codebook_size}"


def definition(s: Scenario) -> str:
    """EMA γ = 0.95, K = 192, B = 96; normal × 2.5 start, cube in 3-D"""
    rule = f"EMA γ = {s.decay:g}" if s.update == "ema" else f"SGD lr = {s.lr:g}"
    start = f"normal × {s.std:g}" if s.init == "normal" else s.init
    return f"{rule}, K = {s.codebook_size}, B = {s.batch_size}; {start} start, {s.source} in {s.dim}-D"
