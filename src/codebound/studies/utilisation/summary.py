"""From cells to intervals: each arm at each size, and its distance from the baseline seed by seed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codebound import config
from codebound.errors import InputError
from codebound.reporting.claims import NotMeasuredError
from codebound.reporting.statistics import Interval, mean_interval
from codebound.runs.folder import read_study
from codebound.studies.utilisation.arms import ARMS, BASELINE, PLAIN, Start
from codebound.studies.utilisation.settings import Settings
from codebound.studies.utilisation.study import STUDY, cells

FIGURES = (
    "psnr", "usage", "perplexity", "entropy_bits", "bpp_nominal", "bpp_entropy", "gap_db", "gaussian_reference_db",
    "usage_training",
)  # fmt: skip
NEEDED_USAGE = 0.95  # row B6


@dataclass(frozen=True)
class StudyData:
    """A run: settings, provenance, finished cells by (arm, size, start), then by seed, and what is missing."""

    folder: Path
    settings: Settings
    study: dict[str, Any]
    cells: dict[tuple[str, int, Start], dict[int, dict[str, Any]]]
    missing: list[str]

    def values(self, arm: str, size: int, start: Start, figure: str) -> dict[int, float]:
        """A final figure by seed; seeds without it are left out."""
        found = self.cells.get((arm, size, start), {})
        values = {seed: cell["final"].get(figure) for seed, cell in found.items()}
        return {seed: value for seed, value in values.items() if value is not None}


@dataclass(frozen=True)
class Row:
    """An arm at a size from a start: means over seeds, 95 % intervals."""

    arm: str
    label: str
    codebook_size: int
    start: Start
    seeds: int
    figures: dict[str, Interval]
    psnr_gain: Interval | None  # dB above the baseline from the same start, paired by seed; None for itself
    plain_gain: Interval | None  # the same above the baseline without revival
    rate_gain: (
        Interval | None
    )  # dB above the baseline's own curve over K, at this entropy; None off the curve
    seconds: Interval

    @property
    def meets_bar(self) -> bool:
        """Whether usage is at least 95 % in the mean: half of row B6's bar."""
        return self.figures["usage"].mean >= NEEDED_USAGE


def load(folder: Path) -> StudyData:
    """A run, finished or not.

    Raises:
        InputError: not a run of this study, or no finished cell.
    """
    study = read_study(folder)
    if study["study"] != STUDY:
        raise InputError(f"{folder} holds a run of study {study['study']!r}, not {STUDY}")
    settings = config.from_yaml(Settings, folder / "config.yaml")
    found: dict[tuple[str, int, Start], dict[int, dict[str, Any]]] = {}
    missing = []
    for cell in cells(settings):
        try:
            content = json.loads((folder / "cells" / f"{cell.name}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            missing.append(cell.name)
            continue
        except (OSError, json.JSONDecodeError) as error:
            raise InputError(f"{folder}/cells/{cell.name}.json can't be read: {error}") from None
        found.setdefault((cell.arm, cell.codebook_size, cell.start), {})[cell.seed] = content
    if not found:
        raise InputError(f"{folder} has no finished cell yet")
    return StudyData(folder, settings, study, found, missing)


def summarise(data: StudyData) -> list[Row]:
    """Rows by size, then start, then in the arms' order."""
    order = list(ARMS)
    keys = sorted(data.cells, key=lambda key: (key[1], key[2] == "bad", order.index(key[0])))
    return [_row(data, *key) for key in keys]


def groups(rows: Sequence[Row]) -> list[tuple[int, Start, list[Row]]]:
    """Rows that may be compared: of one size and start."""
    found: dict[tuple[int, Start], list[Row]] = {}
    for row in rows:
        found.setdefault((row.codebook_size, row.start), []).append(row)
    return [(size, start, members) for (size, start), members in found.items()]


def even_usage(codebook_size: int, tokens: int) -> float:
    """Expected usage of a code that is used evenly, on this many tokens: 1 − (1 − 1/K)^N."""
    return -math.expm1(tokens * math.log1p(-1 / codebook_size))


def held_out_tokens(data: StudyData) -> int:
    """Tokens that usage is counted on."""
    cell = next(iter(next(iter(data.cells.values())).values()))
    return int(cell["final"]["tokens"])


def lookup(data: StudyData):
    """What the claims ask: ({arm, codebook_size, start}, figure) → value per seed."""

    def find(cell: Mapping[str, Any], metric: str) -> Mapping[int, float | int]:
        key = (cell["arm"], cell["codebook_size"], cell["start"])
        if key not in data.cells:
            raise NotMeasuredError(f"this run has no {ARMS[key[0]].label} at K = {key[1]} from this start")
        return data.values(*key, metric)

    return find


def _row(data: StudyData, arm: str, size: int, start: Start) -> Row:
    by_seed = data.cells[arm, size, start]
    figures = {name: mean_interval(data.values(arm, size, start, name).values()) for name in FIGURES}
    return Row(
        arm,
        ARMS[arm].label,
        size,
        start,
        len(by_seed),
        figures,
        None if arm == BASELINE else gain(data, arm, size, start),
        None if arm == PLAIN else gain(data, arm, size, start, PLAIN),
        None if arm == BASELINE else _rate_gain(data, arm, size, start),
        mean_interval(cell["cell_seconds"] for cell in by_seed.values()),
    )


def gain(data: StudyData, arm: str, size: int, start: Start, base: str = BASELINE) -> Interval | None:
    """PSNR of the arm less that of another, over the seeds that both have; None where there are none."""
    own, other = (data.values(name, size, start, "psnr") for name in (arm, base))
    shared = sorted(own.keys() & other.keys())
    return mean_interval(own[seed] - other[seed] for seed in shared) if shared else None


def _rate_gain(data: StudyData, arm: str, size: int, start: Start) -> Interval | None:
    """Each seed beside that seed's baseline over all K, joined by straight lines in bits per pixel."""
    gains = []
    for seed, rate in data.values(arm, size, start, "bpp_entropy").items():
        curve = sorted(
            (cell[seed]["final"]["bpp_entropy"], cell[seed]["final"]["psnr"])
            for (name, _, begun), cell in data.cells.items()
            if name == BASELINE and begun == "kmeans" and seed in cell
        )
        if len(curve) > 1 and curve[0][0] <= rate <= curve[-1][0]:
            psnr = data.values(arm, size, start, "psnr")[seed]
            rates, reached = np.array(curve).T
            gains.append(psnr - float(np.interp(rate, rates, reached)))
    return mean_interval(gains) if len(gains) == len(data.cells[arm, size, start]) else None
