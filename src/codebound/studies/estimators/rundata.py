"""A run folder read back: one table of runs, and what claims may ask of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from codebound import config
from codebound.errors import InputError
from codebound.reporting.claims import Lookup, NotMeasuredError
from codebound.runs.folder import read_study
from codebound.studies.estimators.arms import BASELINE, SINGLE
from codebound.studies.estimators.settings import Settings
from codebound.studies.estimators.study import VERIFIED_ON, cells
from codebound.theory.gaussian import gap_db

Values = dict[int, float]  # by seed
TIMING = "timing"  # the "source" of time and memory, whose "seeds" are rounds
_LLOYD = (SINGLE, BASELINE)


@dataclass(frozen=True)
class StudyData:
    """A run folder, as far as it is finished. `cells` by (experiment, source, seed)."""

    path: Path
    study: dict[str, Any]
    settings: Settings
    cells: dict[tuple[str, str, int], dict[str, Any]]
    missing: list[str]

    def of(self, experiment: str, source: str) -> dict[int, dict[str, Any]]:
        """The finished cells of an experiment on a source, by seed."""
        return {s: c for (e, where, s), c in self.cells.items() if e == experiment and where == source}

    @property
    def sources(self) -> list[str]:
        """Sources with a finished linear cell, in the order of the settings."""
        return [s for s in self.settings.sources if self.of("linear", s)]

    @property
    def mlp_sources(self) -> list[str]:
        """Sources with a finished non-linear cell."""
        return [s for s in self.settings.mlp_sources if self.of("mlp", s)]

    def size(self, source: str) -> int:
        """The codebook size of the source's comparison."""
        return self.settings.sizes(source)[0]  # pyright: ignore[reportArgumentType]

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row per linear run: source, seed, size, estimator, protocol, beta and its measures, `gap_db` among them."""
        rows = []
        for (experiment, source, seed), cell in self.cells.items():
            if experiment != "linear":
                continue
            for found in cell["sizes"]:
                size = found["codebook_size"]
                bound = cell["limits"][str(size)]["shannon"]
                for run in found["runs"]:
                    row = {k: v for k, v in run.items() if k != "curve"}
                    gap = gap_db(run["mse"], bound)
                    rows.append({"source": source, "seed": seed, "size": size, "gap_db": gap, **row})
        return pd.DataFrame(rows)

    @cached_property
    def _index(self) -> dict[tuple[Any, ...], dict[str, Values]]:
        """Measures by seed, for (source, size, estimator, protocol, β)."""
        names = ("mse", "gap_db", "entropy_percent", "perplexity_percent", "dead", "captured_percent")
        found: dict[tuple[Any, ...], dict[str, Values]] = {}
        for row in self.runs.to_dict("records"):
            lloyd = row["estimator"] in _LLOYD
            beta = None if lloyd else row["beta"]
            key = (
                row["source"],
                row["size"],
                row["estimator"],
                "lloyd" if lloyd else row["protocol"],
                beta,
            )
            for name in names:
                if not math.isnan(row.get(name, math.nan)):
                    found.setdefault(key, {}).setdefault(name, {})[row["seed"]] = row[name]
        return found

    def values(
        self,
        source: str,
        estimator: str,
        protocol: str,
        metric: str = "mse",
        *,
        beta: float | int | None = None,
        size: int | None = None,
    ) -> Values:
        """One measure by seed; empty where it was not run. β is the settings' unless given."""
        lloyd = estimator in _LLOYD
        weight = None if lloyd else self.settings.commitment if beta is None else beta
        key = (source, size or self.size(source), estimator, "lloyd" if lloyd else protocol, weight)
        return self._index.get(key, {}).get(metric, {})

    def limit(self, source: str, name: str, size: int | None = None) -> Values:
        """A limit by seed; empty where not defined."""
        k = str(size or self.size(source))
        found = {s: c["limits"][k][name] for s, c in self.of("linear", source).items() if k in c["limits"]}
        return {s: v for s, v in found.items() if v is not None}

    def part(self, source: str, size: int | None = None) -> dict[int, dict[str, Any]]:
        """What the cells hold for one codebook size, by seed."""
        k = size or self.size(source)
        return {
            s: part
            for s, c in self.of("linear", source).items()
            for part in c["sizes"]
            if part["codebook_size"] == k
        }

    def reference(self, source: str, name: str = "pca", size: int | None = None) -> Values:
        """The optimal-quantizer reference by seed: `pca`, or `free` of the limit to m dimensions."""
        found = {s: part["reference"][name] for s, part in self.part(source, size).items()}
        return {s: v for s, v in found.items() if v is not None}

    def curves(self, source: str, estimator: str, protocol: str, beta: float) -> pd.DataFrame:
        """Test-set error, a row per seed and a column per step, at the source's own codebook size."""
        rows = {}
        for seed, part in self.part(source).items():
            for run in part["runs"]:
                if (run["estimator"], run["protocol"], run["beta"]) == (estimator, protocol, beta):
                    rows[seed] = dict(zip(run["curve"]["step"], run["curve"]["mse"], strict=True))
        return pd.DataFrame.from_dict(rows, orient="index")

    def network(self, source: str, estimator: str, beta: float, metric: str = "mse") -> Values:
        """A measure of the non-linear runs by seed."""
        return {
            s: run[metric]
            for s, cell in self.of("mlp", source).items()
            for run in cell["runs"]
            if run["estimator"] == estimator and run["beta"] == beta
        }

    @property
    def timing(self) -> dict[str, Any] | None:
        """The timing's cell, if it is finished."""
        return next(iter(self.of("timing", VERIFIED_ON).values()), None)


def load(out: Path) -> StudyData:
    """Read a run folder.

    Raises:
        InputError: not a run of this study, no finished comparison, or a cell that can't be read.
    """
    study = read_study(out)
    if study["study"] != "estimators":
        raise InputError(f"{out} holds a run of study {study['study']!r}, not 'estimators'")
    settings = config.from_yaml(Settings, out / "config.yaml")
    found, missing = {}, []
    for cell in cells(settings):
        path = out / "cells" / f"{cell.name}.json"
        try:
            found[tuple(cell)] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            missing.append(cell.name)
        except (OSError, json.JSONDecodeError) as error:
            raise InputError(f"{path} can't be read: {error}; delete it and run again") from None
    data = StudyData(out, study, settings, found, missing)
    if not data.sources:
        raise InputError(f"{out} has no finished cell yet")
    return data


def best_of(train: np.ndarray, fresh: np.ndarray, count: int) -> float:
    """Expected error on fresh data of the best on training data among `count` of the restarts, drawn at random.

    The i-th best of n is the best of a random `count` with probability C(n − i, count − 1)/C(n, count).
    """
    order = np.argsort(train, kind="stable")
    n = len(order)
    weights = [math.comb(n - 1 - i, count - 1) / math.comb(n, count) for i in range(n)]
    return float(np.dot(weights, fresh[order]))


def restart_values(data: StudyData, source: str, count: int) -> Values:
    """`best_of` by seed."""
    return {
        s: best_of(np.array(part["restarts"]["train"]), np.array(part["restarts"]["fresh"]), count)
        for s, part in data.part(source).items()
    }


def spread_percent(data: StudyData, source: str) -> Values:
    """By how many per cent the worst of the restarts is above the best, on fresh data, by seed."""
    found = {s: np.array(part["restarts"]["fresh"]) for s, part in data.part(source).items()}
    return {s: float(100 * (x.max() / x.min() - 1)) for s, x in found.items()}


def beta_range_percent(data: StudyData, source: str, estimator: str, protocol: str) -> Values:
    """By how many per cent the worst β is above the best one, by seed."""
    tables = [data.values(source, estimator, protocol, beta=b) for b in data.settings.commitments]
    if not all(tables):
        return {}
    return {s: 100 * (max(t[s] for t in tables) / min(t[s] for t in tables) - 1) for s in tables[0]}


def lookup(data: StudyData) -> Lookup:
    """What claims may ask: ({source, estimator, protocol, and maybe codebook_size and beta}, metric) → value per seed.

    `beta_range_percent` and `scaling_percent` (the fall of the error from the smallest K to the largest) are derived.
    """

    def find(cell: Mapping[str, Any], name: str) -> Mapping[int, float]:
        source, arm, protocol = (cell[factor] for factor in ("source", "estimator", "protocol"))
        size, beta = cell.get("codebook_size"), cell.get("beta")
        if source == TIMING:
            return _timed(data, arm, name)
        if source not in data.sources:
            raise NotMeasuredError(f"source {source!r} was not run")
        if name == "beta_range_percent":
            found = beta_range_percent(data, source, arm, protocol)
        elif name == "scaling_percent":
            sizes = sorted(data.settings.sizes(source))  # pyright: ignore[reportArgumentType]
            small, large = (data.values(source, arm, protocol, size=k) for k in (sizes[0], sizes[-1]))
            found = {s: 100 * (1 - large[s] / small[s]) for s in small if s in large}
        else:
            found = data.values(source, arm, protocol, name, beta=beta, size=size)
        if not found:
            raise NotMeasuredError(f"{name} of {arm} ({protocol}) was not run on {source!r}")
        return found

    return find


def _timed(data: StudyData, arm: str, metric: str) -> Values:
    timing = data.timing
    if timing is None or arm not in timing["seconds"]:
        reason = timing["absent"].get(arm, "") if timing else ""
        raise NotMeasuredError(f"{arm} was not timed in this run{': ' if reason else ''}{reason}")
    seconds = timing["seconds"][arm]
    if metric == "seconds":
        return dict(enumerate(seconds))
    return dict.fromkeys(range(len(seconds)), float(timing["peak_bytes"][arm]))


def facts(data: StudyData) -> dict[str, float | int | str]:
    """The run's own figures, for the claims' conditions and sentences."""
    names = (
        "dim",
        "latent_dim",
        "rank",
        "codebook_size",
        "train_samples",
        "batch_size",
        "steps",
        "lr_encoder",
        "lr_codebook",
        "commitment",
        "codebook_weight",
        "top_variance",
        "bottom_variance",
        "restarts",
    )
    found: dict[str, float | int | str] = {name: getattr(data.settings, name) for name in names}
    found["sizes"] = ", ".join(map(str, sorted((data.settings.codebook_size, *data.settings.codebook_sizes))))
    if "gaussian" in data.sources:
        reference, bound = data.reference("gaussian"), data.limit("gaussian", "shannon")
        found["reference"] = float(np.mean(list(reference.values())))
        found["shannon"] = float(np.mean(list(bound.values())))
        found["spread"] = float(np.mean(list(spread_percent(data, "gaussian").values())))
    return found
