"""A run folder read back: one table of runs, one of curves, and what claims may ask of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from codebound import config
from codebound.errors import InputError
from codebound.reporting.claims import Lookup, NotMeasuredError
from codebound.runs.folder import read_study
from codebound.studies.initialisation.cell import cells
from codebound.studies.initialisation.settings import DOCUMENTED, Settings
from codebound.theory.gaussian import gap_db

SPLITS = ("fresh", "train")
WHEN = ("initial", "final")
PERCENTS = (1, 5)
RESPLIT = 0.2 / 0.8  # held-out rows over training rows where every seed splits the same rows again
Values = dict[int, float]  # by seed


@dataclass(frozen=True)
class StudyData:
    """A run folder, as far as it is finished.

    `runs` has a row per (source, seed, arm, optimizer) with `{initial,final}_{fresh,train}_{measure}`, the
    gaps in dB, the steps to convergence and the change of the fresh error in training; `curves` a row per
    evaluation, read when first asked for.
    """

    path: Path
    study: dict[str, Any]
    settings: Settings
    cells: dict[tuple[str, int], dict[str, Any]]
    missing: list[str]

    @cached_property
    def curves(self) -> pd.DataFrame:
        """All metrics.csv of the finished cells, one long table."""
        frames = []
        for (source, seed), cell in self.cells.items():
            for run in cell["runs"]:
                place = self.path / "runs" / source / run["arm"] / run["optimizer"] / f"seed-{seed}"
                frame = _read_csv(place / "metrics.csv")
                frames.append(
                    frame.assign(source=source, seed=seed, arm=run["arm"], optimizer=run["optimizer"])
                )
        return pd.concat(frames, ignore_index=True)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row per run."""
        rows = [
            {"source": source, "seed": seed, "arm": run["arm"], "optimizer": run["optimizer"]}
            | {f"{when}_{name}": value for when in WHEN for name, value in run[when].items()}
            | _gaps(run, cell["limits"])
            | {"fresh_change_percent": _change(run)}
            | {"codeword_variance": cell["codeword_variance"].get(run["arm"], math.nan)}
            for (source, seed), cell in self.cells.items()
            for run in cell["runs"]
        ]
        return pd.DataFrame(rows).merge(steps_table(self.curves), on=["source", "seed", "arm", "optimizer"])

    @property
    def sources(self) -> list[str]:
        """Sources with at least one finished cell, in the settings' order."""
        return [s for s in self.settings.sources if any(source == s for source, _ in self.cells)]

    def seeds(self, source: str) -> list[int]:
        """Finished seeds of a source."""
        return sorted(seed for s, seed in self.cells if s == source)

    def overlap(self, source: str) -> float:
        """How far the seeds of a source are from independent (`statistics`): 0, but for rows split again."""
        return RESPLIT if source == "data" else 0.0

    def limit(self, source: str, name: str) -> Values:
        """A limit per seed, without the seeds where it is not defined."""
        found = {seed: self.cells[source, seed]["limits"].get(name) for seed in self.seeds(source)}
        return {seed: value for seed, value in found.items() if value is not None}

    def floor(self, source: str) -> Values:
        """The reconstruction error of the dropped dimensions, per seed."""
        return {seed: self.cells[source, seed]["reconstruction_floor"] for seed in self.seeds(source)}


def load(out: Path) -> StudyData:
    """Read a run folder, finished or not.

    Raises:
        InputError: not the folder of an initialisation study, or none of its cells is finished.
    """
    out = Path(out)
    study = read_study(out)
    if study.get("study") != "init":
        raise InputError(
            f"{out} holds a run of study {study.get('study')!r}, not of the initialisation study"
        )
    settings = config.from_yaml(Settings, out / "config.yaml")
    done, missing = {}, []
    for cell in cells(settings):
        path = out / "cells" / f"{cell.name}.json"
        if path.exists():
            done[cell.source, cell.seed] = _read_cell(path)
        else:
            missing.append(cell.name)
    if not done:
        raise InputError(
            f"{out}: no cell is finished yet, so there is nothing to report; resume the run first"
        )
    return StudyData(out, study, settings, done, missing)


def steps_table(curves: pd.DataFrame) -> pd.DataFrame:
    """Evaluated step from which on the distortion stays within 1 % and 5 % of a final one, per run.

    Infinite where it is not there at the end. The final distortion is the best over all runs of the same source
    and seed ("best"), over the documents' three arms under the same optimizer ("documents"; nan where none of
    them was run), or the run's own ("own"; nan where the curve has not settled, since its end is then no limit).
    """
    rows: list[dict[str, Any]] = []
    for (source, seed), cell in curves.groupby(["source", "seed"], sort=False):  # pyright: ignore[reportGeneralTypeIssues]
        runs = {
            key: frame.sort_values("step") for key, frame in cell.groupby(["arm", "optimizer"], sort=False)
        }
        found: dict[Any, dict[str, float]] = {key: {} for key in runs}
        for split in SPLITS:
            paths = {key: frame[f"{split}_distortion"].to_numpy() for key, frame in runs.items()}
            for key, goals in _goals({key: float(path[-1]) for key, path in paths.items()}).items():
                steps, path = runs[key]["step"].to_numpy(), paths[key]
                for (reference, goal), percent in product(goals.items(), PERCENTS):
                    known = goal == goal and (reference != "own" or settled(steps, path, percent))
                    step = from_there_on(steps, path <= goal * (1 + percent / 100)) if known else math.nan
                    found[key][f"steps_{split}_{percent}pct_{reference}"] = step
        rows += [
            {"source": source, "seed": seed, "arm": arm, "optimizer": optimizer, **steps}
            for (arm, optimizer), steps in found.items()
        ]
    return pd.DataFrame(rows)


def settled(steps: np.ndarray, path: np.ndarray, percent: float | int) -> bool:
    """Whether a curve's end may stand for its limit: it moved by at most `percent`/4 % in the last tenth of the run.

    At that rate another `percent` % takes at least four tenths of the run's length.
    """
    before = path[np.searchsorted(steps, 0.9 * steps[-1], side="right") - 1]
    return bool(abs(path[-1] / before - 1) <= percent / 400)


def from_there_on(steps: np.ndarray, there: np.ndarray) -> float:
    """The first step after the last one at which `there` fails; infinite where it fails at the end."""
    away = np.flatnonzero(~there)
    if away.size == 0:
        return float(steps[0])
    return float(steps[away[-1] + 1]) if away[-1] + 1 < len(steps) else math.inf


def _goals(final: dict[Any, float]) -> dict[Any, dict[str, float]]:
    """What each (arm, optimizer) of a cell is to come near, by reference."""
    best, goals = min(final.values()), {}
    for (arm, optimizer), own in final.items():
        three = [v for (a, o), v in final.items() if a in DOCUMENTED and o == optimizer]
        goals[arm, optimizer] = {"best": best, "documents": min(three, default=math.nan), "own": own}
    return goals


def lookup(data: StudyData) -> Lookup:
    """What a claim may ask of this run; arm or optimizer "any" is the smallest value over all that ran."""

    def find(cell: Mapping[str, Any], metric: str) -> Mapping[int, float | int]:
        source, arm, optimizer = (cell[factor] for factor in ("source", "arm", "optimizer"))
        frame = only(data.runs, source=source)
        if frame.empty:
            raise NotMeasuredError(f"the source '{source}' is not in this run")
        if arm != "any":
            frame = only(frame, arm=arm)
            if frame.empty:
                raise NotMeasuredError(f"the arm '{arm}' is not in this run")
        if optimizer != "any":
            frame = only(frame, optimizer=optimizer)
            if frame.empty:
                raise NotMeasuredError(f"'{arm}' was not trained with '{optimizer}' in this run")
        if metric not in frame or bool(np.isnan(frame[metric].to_numpy(dtype=float)).all()):
            if metric.startswith("steps_") and metric.endswith("_own"):
                raise NotMeasuredError(
                    "the curve still moves when the run stops, so its own end is not where it converges to"
                )
            raise NotMeasuredError(f"'{metric}' was not measured in this run")
        values: dict[int, float] = {}
        for seed, value in zip(frame["seed"], frame[metric], strict=True):
            values[int(seed)] = float(np.fmin(value, values.get(int(seed), math.nan)))
        return values

    return find


def only(frame: pd.DataFrame, **equal: object) -> pd.DataFrame:
    """The rows in which each named column has the value given."""
    for column, value in equal.items():
        frame = pd.DataFrame(frame.loc[frame[column] == value])
    return frame


def facts(data: StudyData) -> dict[str, float | int | str]:
    """The run's own settings and the isotropic source's limits, for the claims."""
    isotropic = next(
        (cell["limits"] for (source, _), cell in data.cells.items() if source == "isotropic"), {}
    )
    plain = data.settings.model_dump(mode="json") | isotropic
    return {k: v for k, v in plain.items() if isinstance(v, int | float | str)}


def _gaps(run: dict[str, Any], limits: dict[str, Any]) -> dict[str, float]:
    """Decibels to the bound and to the Gaussian reference, on fresh data.

    Where the bound is estimated, also to the ends of its interval: `gap_db_low` to the largest bound the estimate
    allows, `gap_db_high` to the smallest (infinite where that is zero).
    """
    names = {"gap_db": "shannon", "gaussian_reference_db": "gaussian_reference"}
    if limits.get("shannon_low") is not None:
        names |= {"gap_db_low": "shannon_high", "gap_db_high": "shannon_low"}
    return {
        f"{when}_{name}": _db(run[when]["fresh_distortion"], limits[key])
        for name, key in names.items()
        for when in WHEN
    }


def _db(value: float, limit: float | None) -> float:
    if limit is None or value <= 0:
        return math.nan
    return gap_db(value, limit) if limit > 0 else math.inf


def _change(run: dict[str, Any]) -> float:
    """Per cent by which the fresh error is larger after training than before."""
    start, end = (run[when]["fresh_distortion"] for when in WHEN)
    return 100 * (end / start - 1) if start > 0 else math.nan


def _read_cell(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}; delete it and resume the run") from None


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path} can't be read: {error}; delete its cell and resume the run") from None
