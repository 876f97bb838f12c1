"""A study is one declaration: what it asks, what its cells measure, and what it says about them."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from codebound import config
from codebound.errors import InputError
from codebound.reporting import claims
from codebound.reporting.claims import Claim
from codebound.reporting.long_table import Metric, Record
from codebound.studies.framework.cells import Cell, CellResult
from codebound.studies.framework.content import Content
from codebound.studies.framework.entry import Entry

if TYPE_CHECKING:
    from codebound.studies.framework.results import StudyRun

S = TypeVar("S", bound=config.Settings)


class Study(ABC, Generic[S]):
    """Subclass it and fill in what is asked for; `docs/studies.md` shows a whole study.

    Attributes:
        entry: the name, the question and the command's options.
        settings: the class of its settings.
        metrics: what is measured of every cell; the rows of the long table.
        unit: what a progress bar counts.
        repeats: the factor that intervals are over, an integer in each cell.
        claims_file: the ledger beside the declaration; empty for none.
        every_case: whether the page shows all cases of a claim, or the one that decides it.
    """

    entry: Entry
    settings: type[S]
    metrics: tuple[Metric, ...] = ()
    unit: str = "cells"
    repeats: str = "seed"
    claims_file: str = ""
    every_case: bool = True

    @abstractmethod
    def cells(self, settings: S) -> list[Cell]:
        """All cells, in the order in which they run."""

    @abstractmethod
    def measure(self, settings: S, cell: Cell) -> dict[str, Any] | CellResult:
        """What one cell measures: a pure function, computed on one thread, that writes nothing."""

    @abstractmethod
    def tell(self, run: StudyRun[S]) -> Content:
        """What the finished cells say: the answer, figures, tables, and the keys of results.json.

        Raises:
            InputError: a cell that can't be used; `run.cells[name]["key"]` raises it for a key that is missing.
        """

    def prepare(self, settings: S) -> Mapping[str, str]:
        """Check what can be checked before anything is written; returns digests of what else decides the numbers.

        Raises:
            InputError: data, a model or settings that can't be used.
        """
        return {}

    def records(self, run: StudyRun[S]) -> Iterable[Record]:
        """The rows of the long table: by default each cell's levels with its metrics of the same names."""
        names = [metric.name for metric in self.metrics]
        for finished in run.cells.values():
            values = {name: finished.content[name] for name in names if name in finished.content}
            if values:
                yield Record(finished.cell.factors, values)

    def facts(self, run: StudyRun[S]) -> Mapping[str, float | int | str]:
        """What claims may require of a run, and quote: by default the settings that are a number or a word."""
        plain = run.settings.model_dump(mode="json")
        return {name: value for name, value in plain.items() if isinstance(value, int | float | str)}

    def claims(self, run: StudyRun[S]) -> Sequence[Claim]:
        """The claims that this run is asked about: by default all of the ledger."""
        if not self.claims_file:
            return ()
        assert self.declared_in is not None
        return claims.load_claims(self.declared_in.parent / self.claims_file)

    @property
    def declared_in(self) -> Path | None:
        """The file of the declaration; None where it was typed in."""
        file = vars(sys.modules[type(self).__module__]).get("__file__")
        return Path(file) if file else None

    def configure(self, presets: Iterable[str], given: Mapping[str, Any], overrides: Iterable[str] = ()) -> S:
        """Settings from a preset's name, then the command's own options, then `key=value` texts.

        Raises:
            InputError: two presets, one that the study lacks, or a setting that is not accepted.
        """
        names = list(presets)
        if len(names) > 1:
            raise InputError(f"give {' or '.join(f'--{name}' for name in names)}, not both")
        values: dict[str, Any] = {}
        for name in names:
            if name not in self.entry.presets:
                known = ", ".join(f"--{preset}" for preset in self.entry.presets) or "none"
                raise InputError(
                    f"the study {self.entry.name} has no --{name}; it has {known}, and takes --set …"
                )
            values |= self.entry.presets[name].values
        options = {option.name: option for option in self.entry.options}
        for name, value in given.items():
            if value is not None:
                values |= options[name].values(value)
        return config.with_overrides(config.build(self.settings, values), overrides)
