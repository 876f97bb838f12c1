"""From cells to results: simulated and predicted dead codewords, their difference, and who meets the criterion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from codebound.reporting.long_table import finite
from codebound.reporting.statistics import Interval, mean_interval
from codebound.studies.framework.declare import FinishedCell, Record
from codebound.studies.population.cell import LEVELS
from codebound.studies.population.settings import Role, Scenario

TOLERANCE = 10.0  # per cent: of the prediction's error, and of two standard errors of the simulated mean
NONE_LEFT = 0.5  # codewords: with so few dead per codebook a relative error says nothing
COUNTS = ("dead", "died", "returned", "revived", "dead_by_mass")


class LevelResult(NamedTuple):
    """What one level of the theory says of a scenario; errors are over the starts that the simulation shares."""

    dead: Interval  # codewords per codebook, no hit in the last window
    error_percent: Interval  # of the simulated mean at the end
    error_over_run_percent: Interval  # the same for the mean over all windows
    dead_by_mass: Interval | None
    within_10_percent: bool | None  # None where it can't be said


class ScenarioResult(NamedTuple):
    """One scenario, named as in results.json. Numbers of codewords are per codebook, intervals over codebooks."""

    scenario: Scenario
    runs: int
    memory_hits: float
    dead: Interval  # simulated, no hit in the last window
    two_standard_errors_percent: float  # of that mean, per cent of it; nan where it is 0
    dead_first_window: Interval
    most_dead: float  # largest mean over the windows
    died: Interval  # over the run, window to window
    returned: Interval
    revived: Interval
    revived_predicted: Interval
    dead_by_mass: Interval | None
    levels: dict[str, LevelResult]
    seconds: dict[str, float]

    @property
    def theory(self) -> LevelResult:
        """The level that is judged: shot noise."""
        return self.levels["shot_noise"]

    @property
    def none_left(self) -> bool:
        """Hardly any codeword is dead at the end, simulated and predicted."""
        return max(self.dead.mean, self.theory.dead.mean) < NONE_LEFT

    @property
    def judged(self) -> bool:
        """Codewords are dead at the end, and the simulation is precise enough to judge a prediction by."""
        return self.theory.within_10_percent is not None and not self.none_left

    @property
    def back(self) -> float:
        """Per cent of the largest number of dead codewords that is alive again at the end."""
        return 100 * (1 - self.dead.mean / self.most_dead)

    def error(self, level: str) -> Interval | None:
        """Of a level's prediction, in per cent of the simulation; None where hardly a codeword is left."""
        return None if self.none_left else self.levels[level].error_percent

    def share(self, level: str = "") -> Interval:
        """Dead at the end in per cent of the codebook, simulated or by a level of the theory."""
        dead, percent = self.levels[level].dead if level else self.dead, 100 / self.scenario.codebook_size
        return replace(dead, mean=percent * dead.mean, low=percent * dead.low, high=percent * dead.high)


def result(scenario: Scenario, cell: FinishedCell | Mapping[str, Any]) -> ScenarioResult:
    """What a cell says of its scenario."""
    run = {name: np.asarray(cell["simulation"][name], dtype=float) for name in COUNTS[:4]}
    end = run["dead"][:, -1]
    dead = mean_interval(end, floor=0)
    standard_error = end.std(ddof=1) / len(end) ** 0.5
    errors = 200 * standard_error / dead.mean if dead.mean else float("nan")
    return ScenarioResult(
        scenario=scenario,
        runs=cell["runs"],
        memory_hits=scenario.memory_hits,
        dead=dead,
        two_standard_errors_percent=errors,
        dead_first_window=mean_interval(run["dead"][:, 0], floor=0),
        most_dead=float(run["dead"].mean(0).max()),
        died=mean_interval(run["died"].sum(1), floor=0),
        returned=mean_interval(run["returned"].sum(1), floor=0),
        revived=mean_interval(run["revived"].sum(1), floor=0),
        revived_predicted=mean_interval(np.asarray(cell["shot_noise"]["revived"]).sum(1), floor=0),
        dead_by_mass=_by_mass(cell["simulation"]),
        levels={level: _level(run["dead"], cell[level], errors) for level in LEVELS},
        seconds={who: cell[who].get("seconds", 0.0) for who in ("simulation", *LEVELS[1:])},
    )


def of_role(results: Sequence[ScenarioResult], *roles: Role) -> list[ScenarioResult]:
    """Those of these roles, in their order."""
    return [each for each in results if each.scenario.role in roles]


def without_revival(results: Sequence[ScenarioResult], one: ScenarioResult) -> ScenarioResult | None:
    """The result of the scenario that differs from this one in nothing but revival."""
    names = {"name", "role", "varied", "revival"}
    same = one.scenario.model_dump(exclude=names)
    others = (r for r in results if not r.scenario.revival and r.scenario.model_dump(exclude=names) == same)
    return next(others, None)


def records(cell: FinishedCell, windows: int) -> Iterable[Record]:
    """The long table's rows: what was counted in each window of each codebook, simulated and predicted."""
    for level in ("simulation", *LEVELS):
        for name in (name for name in COUNTS if name in cell[level]):
            counts = np.asarray(cell[level][name], dtype=float).reshape(len(cell[level][name]), -1)
            # Frozen cells say the same of every window; what has fewer values than windows ends with the last.
            if level == "frozen":
                counts = np.repeat(counts, windows, axis=1)
            for (run, place), value in np.ndenumerate(counts):
                window = windows - counts.shape[1] + place + 1
                levels = {"setting": cell.cell.name, "level": level, "window": window, "run": run}
                yield Record(levels, {name: float(value)})


def _level(simulated: np.ndarray, counts: Mapping[str, Any], errors: float) -> LevelResult:
    """`counts["dead"]` is `[runs, windows]`, or `[runs]` for frozen cells; it may hold the first of the runs only."""
    predicted = np.asarray(counts["dead"], dtype=float)
    if predicted.ndim == 1:
        predicted = np.repeat(predicted[:, None], simulated.shape[1], axis=1)
    shared = simulated[: len(predicted)]
    dead = mean_interval(predicted[:, -1], floor=0)
    error = _percent(predicted[:, -1] - shared[:, -1], simulated[:, -1].mean())

    # With hardly a codeword dead in both the level is right; otherwise the simulation has to be precise.
    none_left = max(simulated[:, -1].mean(), dead.mean) < NONE_LEFT
    met = True if none_left else abs(error.mean) <= TOLERANCE if errors < TOLERANCE else None
    over_run = _percent(predicted.mean(1) - shared.mean(1), simulated.mean())
    return LevelResult(dead, error, over_run, _by_mass(counts), met)


def _percent(difference: np.ndarray, of: float) -> Interval:
    """Per cent of the simulated mean; nan where that is 0."""
    return mean_interval(100 * difference / of if of else np.full(len(difference), np.nan))


def _by_mass(counts: Mapping[str, Any]) -> Interval | None:
    return mean_interval(counts["dead_by_mass"], floor=0) if "dead_by_mass" in counts else None


def plain(value: Any) -> Any:
    """Results for results.json; what is not finite is null."""
    if isinstance(value, Interval):
        return value.to_json()
    if isinstance(value, Scenario):
        return value.model_dump(mode="json")
    if isinstance(value, ScenarioResult | LevelResult | dict):
        named = value if isinstance(value, dict) else value._asdict()
        return {key: plain(each) for key, each in named.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return finite(value) if isinstance(value, float) else value
