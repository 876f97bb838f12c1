"""The curves of a run: read back, when they arrive, and as a table to draw from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from codebound.errors import InputError
from codebound.metrics.usage import DEAD as DEAD_BELOW
from codebound.reporting.long_table import LongTable, Metric, Record
from codebound.studies.framework.results import FinishedCell, StudyRun
from codebound.studies.initialisation.cell import place
from codebound.studies.initialisation.settings import PROPOSED, Settings

SPLITS = ("fresh", "train")
PERCENTS = (1, 5)
REFERENCES = ("best", "documents", "own")
Key = tuple[str, str]  # arm, optimizer
Curves = Mapping[Key, pd.DataFrame]  # a row per evaluation, in the order of the steps

ERROR, PERPLEXITY, DEAD, RECONSTRUCTION = METRICS = (
    Metric("distortion", "Error on fresh data", "squared error per vector", "less", floor=0),
    Metric("perplexity", "Perplexity of the codes", "codewords in effective use", "more", floor=0),
    Metric("dead", "Dead codes", f"codewords used less than {DEAD_BELOW:g}", "less", floor=0),
    Metric("reconstruction", "Reconstruction loss", "squared error per vector, whole space", "less", floor=0),
)


def read(folder: Path, finished: FinishedCell) -> Curves:
    """The curves of a cell's runs.

    Raises:
        InputError: a file that can't be read.
    """
    curves = {}
    for run in finished["runs"]:
        key = (run["arm"], run["optimizer"])
        path = folder / place(finished.cell["source"], *key, finished.cell["seed"]) / "metrics.csv"
        try:
            curves[key] = pd.read_csv(path).sort_values("step")
        except (OSError, KeyError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise InputError(f"{path} can't be read: {error}; delete its cell and resume the run") from None
    return curves


def arrivals(curves: Curves) -> dict[Key, dict[str, float]]:
    """The evaluated step from which on the error stays within 1 % and 5 % of a final one, for each run of a cell.

    Infinite where it is not there at the end. The final error is the best of all runs ("best"), that of the proposal's
    three arms under the same optimizer ("documents"; nan where none of them was run), or the run's own ("own"; nan
    where the curve has not settled, since its end is then no limit).
    """
    steps: dict[Key, dict[str, float]] = {key: {} for key in curves}
    for split in SPLITS:
        paths = {key: frame[f"{split}_distortion"].to_numpy() for key, frame in curves.items()}
        final = {key: float(path[-1]) for key, path in paths.items()}
        for key, path in paths.items():
            at = curves[key]["step"].to_numpy()
            three = [value for (arm, rule), value in final.items() if arm in PROPOSED and rule == key[1]]
            goals = (min(final.values()), min(three, default=math.nan), final[key])
            for (reference, goal), percent in product(zip(REFERENCES, goals, strict=True), PERCENTS):
                known = goal == goal and (reference != "own" or settled(at, path, percent))
                step = from_there_on(at, path <= goal * (1 + percent / 100)) if known else math.nan
                steps[key][f"steps_{split}_{percent}pct_{reference}"] = step
    return steps


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


def table(run: StudyRun[Settings], source: str, overlap: float, optimizer: str = "adam") -> LongTable:
    """Error, perplexity, dead codes and reconstruction loss on fresh data by arm, step and seed.

    Seeds redraw the source: each seed's errors are rescaled to the mean limit of all, so that the band shows the rest.
    A reconstruction's loss is the error and that of the dimensions which the encoder drops, their mean here.
    """
    cells = run.where(source=source)
    limits = [cell["limits"]["gaussian_reference"] for cell in cells]
    dropped = dropped_dimensions(run, source)
    records = []
    for cell, limit in zip(cells, limits, strict=True):
        scale = float(np.mean(limits)) / limit
        for (arm, rule), frame in read(run.folder, cell).items():
            if rule != optimizer:
                continue
            columns = ("step", "fresh_distortion", "fresh_perplexity", "fresh_dead", "fresh_reconstruction")
            for step, error, perplexity, dead, loss in zip(*(frame[c] for c in columns), strict=True):
                levels = {"arm": arm, "step": int(step), "seed": cell.cell["seed"]}
                rescaled = (loss - cell["reconstruction_floor"]) * scale + dropped
                values = (error * scale, perplexity, dead, rescaled)
                records.append(Record(levels, dict(zip((m.name for m in METRICS), values, strict=True))))
    return LongTable(tuple(records), METRICS, overlap=overlap)


def dropped_dimensions(run: StudyRun[Settings], source: str) -> float:
    """The squared error per vector of the dimensions that the encoder drops: no codebook can lower it."""
    return float(np.mean([cell["reconstruction_floor"] for cell in run.where(source=source)]))
