"""One long table of results: a row for each cell, its levels and each of its metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from codebound.files import replacing
from codebound.reporting.claims import ANY, Level, NotMeasuredError
from codebound.reporting.statistics import Interval, mean_interval, paired_percent, quantity_interval

Values = dict[int, float]  # by repeat: by seed
_COLUMNS = ("metric", "value", "unit")


@dataclass(frozen=True)
class Metric:
    """A measured quantity: its name in the data, how a reader sees it, and which way is better."""

    name: str
    label: str
    unit: str = ""
    better: Literal["more", "less"] | None = None
    digits: int | None = None  # after the point; four significant ones unless given
    floor: float | int = -math.inf  # no mean can be below it: 0 for counts and errors
    absent: str = ""  # why a run may have none of it, as a sentence for a reader


class Record(NamedTuple):
    """What one cell measured at these levels; a metric that is None was not measured."""

    levels: Mapping[str, Level]
    values: Mapping[str, float | int | None]


@dataclass(frozen=True)
class LongTable:
    """The measurements of a run. `repeats` is the factor that intervals are over: the seed, or the picture.

    `overlap` says how far the repeats are from independent, as in `statistics`: 0 where they are.
    """

    records: tuple[Record, ...]
    metrics: tuple[Metric, ...]
    repeats: str = "seed"
    overlap: float = 0.0

    @cached_property
    def metric(self) -> dict[str, Metric]:
        """The metrics by name."""
        return {metric.name: metric for metric in self.metrics}

    @cached_property
    def factors(self) -> list[str]:
        """All factors, in the order of their first appearance, what is repeated last."""
        names = dict.fromkeys(name for record in self.records for name in record.levels)
        return [name for name in names if name != self.repeats] + [self.repeats]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The table: a column for each factor, then metric, value and unit."""
        rows = [
            [*(record.levels.get(factor) for factor in self.factors), name, value, self.metric[name].unit]
            for record in self.records
            for name, value in record.values.items()
            if value is not None
        ]
        frame = pd.DataFrame(rows, columns=[*self.factors, *_COLUMNS])
        # A column of numbers and words (K, or "all") is words; one with gaps keeps its kind.
        for factor in self.factors:
            frame[factor] = _of_one_kind(pd.Series(frame[factor]))
        return frame.astype({"value": "float64", "metric": "string", "unit": "string"})

    def levels(self, factor: str) -> list[Any]:
        """The levels of a factor, in the order of their first appearance."""
        return list(
            dict.fromkeys(record.levels[factor] for record in self.records if factor in record.levels)
        )

    def values(self, metric: str, **levels: Level) -> Values:
        """A metric by repeat at these levels; empty where it was not measured.

        Raises:
            ValueError: several cells of one seed have these levels.
        """
        by_repeat: Values = {}
        for record in self._of(levels):
            value, repeat = record.values.get(metric), record.levels.get(self.repeats, 0)
            if value is None:
                continue
            assert isinstance(repeat, int)
            if repeat in by_repeat:
                free = [name for name in self.factors if name not in levels and name != self.repeats]
                raise ValueError(f"{metric} at {levels}: several cells; levels of {', '.join(free)} decide")
            by_repeat[repeat] = float(value)
        return by_repeat

    def interval(self, metric: str, **levels: Level) -> Interval:
        """Its mean over the repeats with the 95 % interval; the median where a value is infinite."""
        return quantity_interval(
            self.values(metric, **levels).values(), self.metric[metric].floor, self.overlap
        )

    def measured(self, metric: str, **levels: Level) -> Interval | None:
        """As `interval`; None where it was not measured."""
        return self.interval(metric, **levels) if self.values(metric, **levels) else None

    def difference(self, metric: str, against: Mapping[str, Level], **levels: Level) -> Interval | None:
        """The metric less that of another cell, paired by repeat; None where there is no pair.

        `against` names the levels in which the other cell differs.
        """
        own, other = self.values(metric, **levels), self.values(metric, **{**levels, **against})
        shared = sorted(own.keys() & other.keys())
        differences = (own[repeat] - other[repeat] for repeat in shared)
        return mean_interval(differences, overlap=self.overlap) if shared else None

    def percent(self, metric: str, against: Mapping[str, Level], **levels: Level) -> Interval | None:
        """By how many per cent the metric is larger than that of another cell, paired by repeat."""
        own, other = self.values(metric, **levels), self.values(metric, **{**levels, **against})
        return paired_percent(own, other, self.overlap) if own.keys() & other.keys() else None

    def lookup(self, cell: Mapping[str, Level], metric: str) -> Values:
        """What a claim asks: the metric by repeat; at a level `any` the best of all that ran.

        Raises:
            NotMeasuredError: with the reason, for a reader.
        """
        # Narrow level by level, so that the first one that this run lacks can be named.
        asked = {factor: level for factor, level in cell.items() if level != ANY}
        for count in range(1, len(asked) + 1):
            narrowed = dict(list(asked.items())[:count])
            if not self._of(narrowed):
                *others, (factor, level) = narrowed.items()
                where = f" with {_text(others)}" if others else ""
                raise NotMeasuredError(f"{_text([(factor, level)])} is not in this run{where}")
        whole = len(asked) == len(cell)
        values = self.values(metric, **asked) if whole else self._best(metric, asked)
        if not values or all(math.isnan(value) for value in values.values()):
            known = self.metric.get(metric)
            raise NotMeasuredError(
                (known.absent if known else "") or f"'{metric}' was not measured in this run"
            )
        return values

    def at(self, **levels: Level) -> LongTable:
        """The part of the table at these levels."""
        return replace(self, records=tuple(self._of(levels)))

    def write(self, folder: Path) -> None:
        """Write `results.csv` and `results.parquet`, each whole or not at all."""
        with replacing(folder / "results.csv") as path:
            self.frame.to_csv(path, index=False)
        with replacing(folder / "results.parquet") as path:
            self.frame.to_parquet(path, index=False)

    def _best(self, metric: str, levels: Mapping[str, Level]) -> Values:
        better = max if self.metric[metric].better == "more" else min
        candidates: dict[int, list[float]] = {}
        for record in self._of(levels):
            value, repeat = record.values.get(metric), record.levels.get(self.repeats, 0)
            if value is not None and not math.isnan(value):
                assert isinstance(repeat, int)
                candidates.setdefault(repeat, []).append(float(value))
        return {repeat: better(values) for repeat, values in candidates.items()}

    def _of(self, levels: Mapping[str, Level]) -> list[Record]:
        """The records at these levels. The first level narrows by an index, as it is asked a thousand times."""
        if not levels:
            return list(self.records)
        (factor, level), *rest = levels.items()
        return [
            record
            for record in self._index.get((factor, level), ())
            if all(record.levels.get(name) == value for name, value in rest)
        ]

    @cached_property
    def _index(self) -> dict[tuple[str, Level], list[Record]]:
        index: dict[tuple[str, Level], list[Record]] = {}
        for record in self.records:
            for factor in self.factors:
                index.setdefault((factor, record.levels.get(factor)), []).append(record)
        return index


def wide(table: LongTable, *metrics: str) -> pd.DataFrame:
    """A row for each record that has all of these metrics: its levels, and a column for each metric."""
    rows = [
        {factor: record.levels.get(factor) for factor in table.factors}
        | {metric: float(record.values[metric]) for metric in metrics}  # pyright: ignore[reportArgumentType]
        for record in table.records
        if all(record.values.get(metric) is not None for metric in metrics)
    ]
    return pd.DataFrame(rows, columns=[*table.factors, *metrics])


def _of_one_kind(column: pd.Series) -> pd.Series:
    kinds = {type(value) for value in column.dropna()}
    if len(kinds - {int, float}) > 0 and len(kinds) > 1:
        return column.map(lambda value: None if value is None else str(value)).astype("string")
    return column.convert_dtypes()


def _text(levels: Iterable[tuple[str, Level]]) -> str:
    return ", ".join(f"{factor.replace('_', ' ')} {level}" for factor, level in levels)


def finite(x: float | int) -> float | None:
    """The number, or None where JSON has no word for it."""
    return float(x) if np.isfinite(x) else None
