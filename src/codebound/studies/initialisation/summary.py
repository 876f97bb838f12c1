"""From a run folder to tables: every number with its interval over seeds, and its distance from the limit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from codebound import config
from codebound.errors import InputError
from codebound.studies.claims import Lookup, NotMeasuredError
from codebound.studies.folder import read_study
from codebound.studies.initialisation.cell import cells
from codebound.studies.initialisation.labels import in_order
from codebound.studies.initialisation.settings import DOCUMENTED, Settings
from codebound.studies.statistics import Interval, mean_interval, paired_percent, quantity_interval
from codebound.theory.gaussian import gap_db

BASELINE = "kmeans"
SPLITS = ("fresh", "train")
WHEN = ("initial", "final")
PERCENTS = (1, 5)
REFERENCES = ("best", "documents", "own")
MEASURES = ("distortion", "distortion_per_dim", "reconstruction", "perplexity", "entropy_bits", "dead")
Values = dict[int, float]  # by seed


@dataclass(frozen=True)
class StudyData:
    """A run folder, as far as it is finished.

    `runs` has a row per (source, seed, arm, optimizer) with `{initial,final}_{fresh,train}_{measure}`, the gaps
    in dB and the steps to convergence; `curves` a row per evaluation, read when first asked for.
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
                frames.append(frame.assign(source=source, seed=seed, arm=run["arm"], optimizer=run["optimizer"]))
        return pd.concat(frames, ignore_index=True)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row per run."""
        rows = [
            {"source": source, "seed": seed, "arm": run["arm"], "optimizer": run["optimizer"]}
            | {f"{when}_{name}": value for when in WHEN for name, value in run[when].items()}
            | _gaps(run, cell["limits"])
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

    def limit(self, source: str, name: str) -> Values:
        """A limit per seed, without the seeds where it is not defined."""
        found = {seed: self.cells[source, seed]["limits"].get(name) for seed in self.seeds(source)}
        return {seed: value for seed, value in found.items() if value is not None}


def load(out: Path) -> StudyData:
    """Read a run folder, finished or not.

    Raises:
        InputError: not the folder of an initialisation study, or none of its cells is finished.
    """
    out = Path(out)
    study = read_study(out)
    if study.get("study") != "init":
        raise InputError(f"{out} holds a run of study {study.get('study')!r}, not of the initialisation study")
    settings = config.from_yaml(Settings, out / "config.yaml")
    done, missing = {}, []
    for cell in cells(settings):
        path = out / "cells" / f"{cell.name}.json"
        if path.exists():
            done[cell.source, cell.seed] = _read_cell(path)
        else:
            missing.append(cell.name)
    if not done:
        raise InputError(f"{out}: no cell is finished yet, so there is nothing to report; resume the run first")
    return StudyData(out, study, settings, done, missing)


@dataclass(frozen=True)
class Row:
    """One arm under one optimizer on one source. `metrics` by the names of `StudyData.runs`."""

    source: str
    arm: str
    optimizer: str
    seeds: int
    metrics: dict[str, Interval]
    versus_baseline: dict[str, Interval]  # per cent, paired by seed, same optimizer; empty for the baseline

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "arm": self.arm,
            "optimizer": self.optimizer,
            "seeds": self.seeds,
            "metrics": {k: v.to_json() for k, v in self.metrics.items()},
            f"percent_versus_{BASELINE}": {k: v.to_json() for k, v in self.versus_baseline.items()},
        }


@dataclass(frozen=True)
class Summary:
    """All rows of a study, its limits per source, and what is missing."""

    rows: list[Row]
    limits: dict[str, dict[str, Interval]]
    seeds: dict[str, int]
    missing: list[str]
    steps: int
    codebook_size: int
    dim: int
    arms: list[str] = field(default_factory=list)

    @property
    def sources(self) -> list[str]:
        return list(self.limits)

    def select(self, source: str, optimizer: str = "adam") -> list[Row]:
        """The rows of a source under one optimizer, in the order of every table."""
        rows = {r.arm: r for r in self.rows if r.source == source and r.optimizer == optimizer}
        return [rows[arm] for arm in in_order(set(rows))]

    def row(self, source: str, arm: str, optimizer: str = "adam") -> Row | None:
        """One row, or None where it was not run."""
        return next((r for r in self.select(source, optimizer) if r.arm == arm), None)

    def optimizers(self, source: str) -> list[str]:
        """Optimizers that were run on a source."""
        return list(dict.fromkeys(r.optimizer for r in self.rows if r.source == source))

    def to_dict(self) -> dict[str, Any]:
        """As plain types; what is not finite is null."""
        return {
            "complete": not self.missing,
            "missing_cells": self.missing,
            "dim": self.dim,
            "codebook_size": self.codebook_size,
            "steps": self.steps,
            "seeds": self.seeds,
            "limits": {s: {k: v.to_json() for k, v in by.items()} for s, by in self.limits.items()},
            "rows": [row.to_json() for row in self.rows],
        }

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)


def summarise(data: StudyData) -> Summary:
    """Intervals over seeds for every run of a study."""
    names = [c for c in data.runs.columns if c not in ("source", "seed", "arm", "optimizer")]
    rows = []
    for source, arm, optimizer, frame in _groups(data.runs):
        base = data.runs.query("source == @source and arm == @BASELINE and optimizer == @optimizer")
        metrics = {name: _interval(name, frame[name]) for name in names if frame[name].notna().any()}
        versus = {} if arm == BASELINE or base.empty else _versus(frame, base)
        rows.append(Row(source, arm, optimizer, len(frame), metrics, versus))
    limit_names = list(next(iter(data.cells.values()))["limits"])
    limits = {
        s: {n: mean_interval(v.values()) for n in limit_names if (v := data.limit(s, n))} for s in data.sources
    }
    first = next(iter(data.cells.values()))
    return Summary(
        rows=rows,
        limits=limits,
        seeds={s: len(data.seeds(s)) for s in data.sources},
        missing=data.missing,
        steps=int(data.curves["step"].max()),
        codebook_size=first["codebook_size"],
        dim=first["dim"],
        arms=in_order(set(data.runs["arm"])),
    )


def steps_table(curves: pd.DataFrame) -> pd.DataFrame:
    """First evaluated step within 1 % and 5 % of a final distortion, per run; infinite where never.

    The final distortion is the best over all runs of the same source and seed ("best"), over the documents'
    three arms under the same optimizer ("documents"), or the run's own ("own").
    """
    keys = ["source", "seed", "arm", "optimizer"]
    last = curves.sort_values("step").groupby(keys, sort=False).tail(1).reset_index(drop=True)
    table = last[keys].copy()
    for split in SPLITS:
        name = f"{split}_distortion"
        documents = last[last["arm"].isin(DOCUMENTED)]
        goals = last[[*keys, name]].rename(columns={name: "own"})
        best = last.groupby(["source", "seed"])[name].min().rename("best").reset_index()
        three = documents.groupby(["source", "seed", "optimizer"])[name].min().rename("documents").reset_index()
        goals = goals.merge(best, how="left").merge(three, how="left")
        with_goals = curves[[*keys, "step", name]].merge(goals, on=keys)
        for reference in REFERENCES:
            for percent in PERCENTS:
                there = with_goals[with_goals[name] <= with_goals[reference] * (1 + percent / 100)]
                first = there.groupby(keys)["step"].min().rename(_steps_name(split, percent, reference))
                table = table.merge(first.reset_index(), on=keys, how="left")
                column = _steps_name(split, percent, reference)
                # "Never" where there was a target, "unknown" where the documents' arms were not run.
                known = table[keys].merge(goals, on=keys)[reference].notna().to_numpy()
                table[column] = table[column].astype(float).mask(table[column].isna() & known, math.inf)
    return table


def lookup(data: StudyData) -> Lookup:
    """What a claim may ask of this run; arm or optimizer "any" is the smallest value over all that ran."""

    def find(source: str, arm: str, optimizer: str, metric: str) -> Mapping[int, float]:
        frame = data.runs[data.runs["source"] == source]
        if frame.empty:
            raise NotMeasuredError(f"the source '{source}' is not in this run")
        if arm != "any":
            frame = frame[frame["arm"] == arm]
            if frame.empty:
                raise NotMeasuredError(f"the arm '{arm}' is not in this run")
        if optimizer != "any":
            frame = frame[frame["optimizer"] == optimizer]
            if frame.empty:
                raise NotMeasuredError(f"'{arm}' was not trained with '{optimizer}' in this run")
        if metric not in frame or frame[metric].isna().all():
            raise NotMeasuredError(f"'{metric}' was not measured in this run")
        return {int(str(seed)): float(value) for seed, value in frame.groupby("seed")[metric].min().items()}

    return find


def facts(data: StudyData) -> dict[str, float | str]:
    """The run's own settings, for the claims' `requires`."""
    plain = data.settings.model_dump(mode="json")
    return {k: v for k, v in plain.items() if isinstance(v, int | float | str)}


def _gaps(run: dict[str, Any], limits: dict[str, Any]) -> dict[str, float]:
    """Decibels to the bound and to the Gaussian reference, on fresh data."""
    found = {}
    for name, limit in (("gap_db", limits["shannon"]), ("gaussian_reference_db", limits["gaussian_reference"])):
        for when in WHEN:
            value = run[when]["fresh_distortion"]
            usable = limit is not None and limit > 0 and value > 0
            found[f"{when}_{name}"] = gap_db(value, limit) if usable else math.nan
    return found


def _steps_name(split: str, percent: int, reference: str) -> str:
    return f"steps_{split}_{percent}pct_{reference}"


def _interval(name: str, values: pd.Series) -> Interval:
    return quantity_interval(values, floor=-math.inf if name.endswith("_db") else 0.0)


def _versus(frame: pd.DataFrame, base: pd.DataFrame) -> dict[str, Interval]:
    def by_seed(table: pd.DataFrame, column: str) -> Values:
        return dict(zip(table["seed"], table[column], strict=True))

    names = [f"{when}_{split}_distortion" for when in WHEN for split in SPLITS]
    return {name: paired_percent(by_seed(frame, name), by_seed(base, name)) for name in names}


def _groups(runs: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    for key, frame in runs.groupby(["source", "arm", "optimizer"], sort=False):
        source, arm, optimizer = key  # pyright: ignore[reportGeneralTypeIssues]
        yield source, arm, optimizer, frame


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
