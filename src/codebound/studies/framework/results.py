"""A run read back: its settings, its finished cells, its long table and the verdicts on its claims."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic

from codebound import config
from codebound.errors import InputError
from codebound.reporting import claims
from codebound.reporting.claims import Level, Verdict
from codebound.reporting.long_table import LongTable
from codebound.runs.folder import PLAN, read_study
from codebound.studies.framework.cells import Cell
from codebound.studies.framework.content import Content
from codebound.studies.framework.study import S, Study

AGAIN = "delete it and run the same command again"


class CellContent(dict[str, Any]):
    """A JSON object of a cell's file, at any depth; a key that it lacks is an `InputError` that names the file."""

    def __init__(self, file: Path, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self.file = file

    def __missing__(self, key: str) -> Any:
        raise InputError(f"{self.file} has no {key!r}: {AGAIN}")


@dataclass(frozen=True)
class FinishedCell:
    """A cell and what its file holds; a key that the file lacks is an `InputError` that names the file."""

    cell: Cell
    file: Path
    content: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        if key not in self.content:
            raise InputError(f"{self.file} has no {key!r}: {AGAIN}")
        return self.content[key]

    def get(self, key: str, default: Any = None) -> Any:
        """A key that not every cell has."""
        return self.content.get(key, default)

    @property
    def seconds(self) -> float:
        """Wall time."""
        return float(self.get("cell_seconds", 0.0))


@dataclass(frozen=True)
class StudyRun(Generic[S]):
    """A run of a study, finished or not."""

    study: Study[S]
    folder: Path
    record: dict[str, Any]  # study.json: versions, machine, command
    settings: S
    cells: dict[str, FinishedCell]  # by name, in the order of the study
    missing: tuple[str, ...]

    def where(self, **levels: Level) -> list[FinishedCell]:
        """The finished cells at these levels; a cell without such a factor is none of them."""
        return [
            finished
            for finished in self.cells.values()
            if all(name in finished.cell.factors for name in levels)
            and all(finished.cell.factors[name] == level for name, level in levels.items())
        ]

    @cached_property
    def table(self) -> LongTable:
        """The long table of everything measured."""
        return LongTable(tuple(self.study.records(self)), self.study.metrics, self.study.repeats)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """What this run says about each claim."""
        asked = self.study.claims(self)
        measured = {metric.name for metric in self.study.metrics}
        for claim in asked:
            if unknown := [case.metric for case in claim.cases if case.metric not in measured]:
                raise InputError(f"claim {claim.id} is about {unknown[0]!r}; measured: {', '.join(measured)}")
        return claims.judge(asked, self.table.lookup, self.study.facts(self))

    @cached_property
    def content(self) -> Content:
        """What the study says of the run."""
        return self.study.tell(self)


def load(study: Study[S], folder: Path) -> StudyRun[S]:
    """Read a run's folder.

    Raises:
        InputError: not a run of this study, a cell that is damaged or of another run, or no finished cell.
    """
    record = read_study(folder)
    if record.get("study") != study.entry.name:
        raise InputError(f"{folder} holds a run of study {record.get('study')!r}, not {study.entry.name!r}")
    settings = config.from_yaml(study.settings, folder / "config.yaml")
    cells, missing = {}, []
    for cell in _plan(study, settings, folder / PLAN):
        file = folder / "cells" / f"{cell.name}.json"
        if file.exists():
            cells[cell.name] = FinishedCell(cell, file, _read(file, cell))
        else:
            missing.append(cell.name)
    if all(finished.cell.aside for finished in cells.values()):
        raise InputError(
            f"{folder} has no finished cell to report yet: the command of the run goes on from there"
        )
    return StudyRun(study, folder, record, settings, cells, tuple(missing))


def _plan(study: Study[S], settings: S, file: Path) -> list[Cell]:
    """The cells of the run; of a run of before the framework, as the study has them now."""
    if not file.exists():
        return study.cells(settings)
    try:
        return [Cell(**values) for values in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{file} can't be read ({error}): {AGAIN}") from None


def _read(file: Path, cell: Cell) -> CellContent:
    try:
        content = json.loads(file.read_text(encoding="utf-8"), object_hook=partial(CellContent, file))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} can't be read ({error}): {AGAIN}") from None
    if not isinstance(content, CellContent):
        raise InputError(f"{file} is no cell of a study: {AGAIN}")
    if not isinstance(content.get("cell_seconds", 0.0), int | float):
        raise InputError(f"{file} has no number for 'cell_seconds': {AGAIN}")
    # Files of before the framework don't name their levels.
    if content.get("factors", cell.factors) != dict(cell.factors):
        raise InputError(f"{file} is of another cell, {content['factors']}: {AGAIN}")
    return content
