"""What things are called and how they look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codebound.studies.population.settings import Scenario

if TYPE_CHECKING:
    from codebound.studies.population.summary import Row

LEVELS = {"frozen": "Frozen cells", "mean_field": "Mean field", "shot_noise": "Shot noise"}
ROLES = {
    "held_out": "held out",
    "development": "development",
    "revival": "with revival",
    "sweep": "sweep",
    "own": "yours",
}
ROLE_STYLE: dict[str, dict[str, Any]] = {
    "held_out": {"fmt": "D", "color": "#b3261e", "ms": 6, "zorder": 5},
    "development": {"fmt": "o", "color": "#0b63a5", "ms": 5, "zorder": 4},
    "revival": {"fmt": "s", "color": "#117733", "ms": 5, "zorder": 4},
    "sweep": {"fmt": "o", "color": "#8f99a5", "ms": 4, "mfc": "#ffffff", "zorder": 3},
    "own": {"fmt": "D", "color": "#0b63a5", "ms": 5, "zorder": 4},
}
KEYS = {
    "codebook_size": "Codebook size K",
    "batch_size": "Batch size B (equal numbers of tokens)",
    "decay": "Decay γ of EMA",
    "lr": "Learning rate of SGD",
    "init": "Start",
    "source": "Source",
}


def rule(s: Scenario) -> str:
    """EMA γ = 0.99"""
    return f"EMA γ = {s.decay:g}" if s.update == "ema" else f"SGD lr = {s.lr:g}"


def start(s: Scenario) -> str:
    """normal × 2"""
    return f"normal × {s.std:g}" if s.init == "normal" else s.init


def title(s: Scenario) -> str:
    """Two lines over a panel."""
    first = f"{s.name}: {rule(s)}, K = {s.codebook_size}, B = {s.batch_size}"
    return f"{first}\n{start(s)} start, {s.source}, {s.dim}-D"


def without_revival(rows: Sequence[Row], row: Row) -> Row | None:
    """The scenario that differs from this one in nothing but revival."""
    drop = {"name", "role", "varied", "revival"}
    wanted = row.scenario.model_dump(exclude=drop)
    return next(
        (r for r in rows if not r.scenario.revival and r.scenario.model_dump(exclude=drop) == wanted), None
    )
