"""From a run to tables: simulated and predicted dead codewords, their difference, and who meets the criterion."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codebound import config
from codebound.errors import InputError
from codebound.reporting.statistics import Interval, mean_interval
from codebound.runs.folder import read_study
from codebound.studies.population.cell import LEVELS
from codebound.studies.population.settings import Role, Scenario, Settings
from codebound.studies.population.study import FILM, LIFETIMES

TOLERANCE = 10.0  # per cent: of the prediction's error, and of two standard errors of the simulated mean
NONE_LEFT = 0.5  # codewords: with so few dead per codebook a relative error says nothing


@dataclass(frozen=True)
class Level:
    """One level of the theory on one scenario; `error` is over the starts that it shares with the simulation."""

    dead: Interval
    error: Interval  # per cent of the simulated mean at the end
    over_run: Interval  # the same for the mean over all windows
    by_mass: Interval | None


@dataclass(frozen=True)
class Row:
    """One scenario. Numbers of codewords are per codebook."""

    scenario: Scenario
    runs: int
    dead: Interval  # simulated, no hit in the last window
    precision: float  # two standard errors of that mean, per cent of it; nan where it is 0
    first: Interval  # simulated, no hit in the first window
    most: float  # largest mean over the windows
    died: Interval  # over the run, window to window
    returned: Interval
    revived: Interval
    by_mass: Interval | None
    levels: dict[str, Level]
    revived_predicted: Interval
    seconds: dict[str, float]

    @property
    def none_left(self) -> bool:
        """Hardly any codeword is dead at the end, simulated and predicted."""
        return max(self.dead.mean, self.levels["shot_noise"].dead.mean) < NONE_LEFT

    def met(self, level: str) -> bool | None:
        """Whether a level is within the tolerance at the end; None where it can't be said."""
        if max(self.dead.mean, self.levels[level].dead.mean) < NONE_LEFT:
            return True
        if not self.precision < TOLERANCE:
            return None
        return abs(self.levels[level].error.mean) <= TOLERANCE

    def to_json(self) -> dict[str, Any]:
        """As a dictionary for results.json."""
        return {
            "scenario": self.scenario.model_dump(mode="json"),
            "runs": self.runs,
            "memory_hits": self.scenario.memory_hits,
            "dead": self.dead.to_json(),
            "two_standard_errors_percent": _finite(self.precision),
            "dead_first_window": self.first.to_json(),
            "died": self.died.to_json(),
            "returned": self.returned.to_json(),
            "revived": self.revived.to_json(),
            "revived_predicted": self.revived_predicted.to_json(),
            "dead_by_mass": self.by_mass and self.by_mass.to_json(),
            "levels": {
                name: {
                    "dead": level.dead.to_json(),
                    "error_percent": level.error.to_json(),
                    "error_over_run_percent": level.over_run.to_json(),
                    "dead_by_mass": level.by_mass and level.by_mass.to_json(),
                    "within_10_percent": self.met(name),
                }
                for name, level in self.levels.items()
            },
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Data:
    """A run folder read back."""

    path: Path
    study: dict[str, Any]
    settings: Settings
    cells: dict[str, dict[str, Any]]
    lifetimes: dict[str, Any] | None
    film: dict[str, Any] | None
    missing: list[str]
    rows: list[Row]

    def role(self, *roles: Role) -> list[Row]:
        """The rows of these roles, in the order of the settings."""
        return [row for row in self.rows if row.scenario.role in roles]

    def row(self, name: str) -> Row | None:
        """A row by its name."""
        return next((row for row in self.rows if row.scenario.name == name), None)

    def curve(self, name: str, who: str, what: str = "dead") -> np.ndarray:
        """`[runs, windows]` of a cell; `who` is "simulation" or a level."""
        return np.asarray(self.cells[name][who][what], dtype=float)


def load(out: Path) -> Data:
    """Read a run folder, finished or not.

    Raises:
        InputError: not the folder of a population study, or none of its scenarios is finished.
    """
    out = Path(out)
    study = read_study(out)
    if study.get("study") != "population":
        raise InputError(f"{out} holds a run of study {study.get('study')!r}, not of the population study")
    settings = config.from_yaml(Settings, out / "config.yaml")
    scenarios = {s.name: s for s in settings.all}
    names = [*scenarios, LIFETIMES, FILM]
    cells = {n: _read(out / "cells" / f"{n}.json") for n in names if (out / "cells" / f"{n}.json").exists()}
    if not set(cells) & set(scenarios):
        raise InputError(
            f"{out}: no scenario is finished yet, so there is nothing to report; resume the run first"
        )
    rows = [_row(scenario, cells[name]) for name, scenario in scenarios.items() if name in cells]
    missing = [n for n in names if n not in cells]
    return Data(out, study, settings, cells, cells.get(LIFETIMES), cells.get(FILM), missing, rows)


def _row(scenario: Scenario, cell: dict[str, Any]) -> Row:
    run = {name: np.asarray(values, dtype=float) for name, values in cell["simulation"].items()}
    end = run["dead"][:, -1]
    dead = mean_interval(end, floor=0)
    standard_error = end.std(ddof=1) / len(end) ** 0.5
    return Row(
        scenario=scenario,
        runs=cell["runs"],
        dead=dead,
        precision=200 * standard_error / dead.mean if dead.mean else float("nan"),
        first=mean_interval(run["dead"][:, 0], floor=0),
        most=float(run["dead"].mean(0).max()),
        died=mean_interval(run["died"].sum(1), floor=0),
        returned=mean_interval(run["returned"].sum(1), floor=0),
        revived=mean_interval(run["revived"].sum(1), floor=0),
        by_mass=_by_mass(cell["simulation"]),
        levels={level: _level(run["dead"], cell[level]) for level in LEVELS},
        revived_predicted=mean_interval(np.asarray(cell["shot_noise"]["revived"]).sum(1), floor=0),
        seconds={who: cell[who].get("seconds", 0.0) for who in ("simulation", *LEVELS[1:])},
    )


def _level(simulated: np.ndarray, found: dict[str, Any]) -> Level:
    """`found["dead"]` is `[runs, windows]`, or `[runs]` for frozen cells; it may hold the first of the runs only."""
    predicted = np.asarray(found["dead"], dtype=float)
    if predicted.ndim == 1:
        predicted = np.repeat(predicted[:, None], simulated.shape[1], axis=1)
    shared = simulated[: len(predicted)]
    end = predicted[:, -1] - shared[:, -1]
    over = predicted.mean(1) - shared.mean(1)
    return Level(
        dead=mean_interval(predicted[:, -1], floor=0),
        error=_percent(end, simulated[:, -1].mean()),
        over_run=_percent(over, simulated.mean()),
        by_mass=_by_mass(found),
    )


def _percent(difference: np.ndarray, of: float) -> Interval:
    """Per cent of the simulated mean; nan where that is 0."""
    return mean_interval(100 * difference / of if of else np.full(len(difference), np.nan))


def _by_mass(found: dict[str, Any]) -> Interval | None:
    return mean_interval(found["dead_by_mass"], floor=0) if "dead_by_mass" in found else None


def _finite(x: float) -> float | None:
    return x if np.isfinite(x) else None


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}; delete it and resume the run") from None
