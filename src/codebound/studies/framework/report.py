"""The report of a run: results.json, the long table, figures/*.png and one self-contained page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from rich.table import Table

from codebound import reporting
from codebound.errors import InputError
from codebound.files import write_text
from codebound.reporting import page, plots
from codebound.reporting.tables import claims_table, terminal_table
from codebound.runs.folder import PLAN
from codebound.studies.framework.content import Illustration
from codebound.studies.framework.results import StudyRun

PAGE, STAMP = "report.html", "report.sha256"
OUTPUTS = (PAGE, "results.json", "results.csv", "results.parquet")


class EmbeddedFigure(TypedDict):
    """A figure as the page's template takes it; `dark` is empty where there is no such version."""

    light: str
    dark: str
    alt: str
    caption: str


def write(run: StudyRun[Any]) -> Path:
    """Write everything that tells of a run, finished or not; returns the page's path.

    Each file is written beside its place and renamed, so that a reader never sees half of one.

    Raises:
        InputError: a cell that lacks something, or a picture that it left.
    """
    folder, content = run.folder, run.content
    run.table.write(folder)
    write_text(folder / "results.json", json.dumps(results(run), indent=1, allow_nan=False) + "\n")
    sections = [
        (section, [_embedded(folder, figure) for figure in section.figures]) for section in content.sections
    ]
    text = page.render(
        "studies/framework/study.html.j2",
        run=run,
        content=content,
        question=run.study.entry.question,
        sections=sections,
        has_tables=any(section.tables for section in content.sections),
        verdicts=page.ledger(run.verdicts if run.study.every_case else page.brief(run.verdicts)),
        counts=page.count(run.verdicts),
        seconds=f"{_seconds(run)['cells']:,.0f}",
        settings=page.settings_text(run.settings),
    )
    write_text(folder / PAGE, text)
    write_text(folder / STAMP, _digest(run) + "\n")
    return folder / PAGE


def refresh(run: StudyRun[Any]) -> Path:
    """The page as `write` makes it; at once where the run's cells, the study, framework and reporting are as then."""
    stamp = run.folder / STAMP
    whole = all((run.folder / name).exists() for name in (*OUTPUTS, STAMP))
    if whole and stamp.read_text(encoding="utf-8").strip() == _digest(run):
        return run.folder / PAGE
    return write(run)


def results(run: StudyRun[Any]) -> dict[str, Any]:
    """The content of results.json: what all studies have, and the study's own keys."""
    common = {
        **run.record,
        "question": run.study.entry.question,
        "settings": run.settings.model_dump(mode="json"),
        "complete": not run.missing,
        "missing_cells": list(run.missing),
        "seconds": _seconds(run),
        "answer": run.content.answer,
        "findings": [asdict(finding) for finding in run.content.findings],
    }
    if run.verdicts:
        common["claims"] = [verdict.to_json() for verdict in run.verdicts]
    if twice := common.keys() & run.content.results.keys():
        raise ValueError(f"keys of results.json that the framework writes: {', '.join(sorted(twice))}")
    return {**common, **run.content.results}


def terminal(run: StudyRun[Any]) -> list[Table]:
    """The tables for a terminal, the ledger last."""
    shown = [terminal_table(table) for section in run.content.sections for table in section.tables]
    return [*shown, claims_table(run.verdicts)] if run.verdicts else shown


def _embedded(folder: Path, figure: Illustration) -> EmbeddedFigure:
    """A drawn figure is saved for white paper and embedded for both; a cell's picture is embedded as it is."""
    dark = ""
    if isinstance(figure.picture, Path):
        path = figure.picture
        if not path.exists():
            raise InputError(
                f"{path} is missing: delete the cell that left it and run the same command again"
            )
    else:
        drawn = figure.picture()
        path = plots.save(drawn, folder / "figures" / f"{figure.name}.png")
        plots.darken(drawn)
        dark = page.embed_bytes(plots.picture(drawn).png, "png")
    return EmbeddedFigure(light=page.embed(path), dark=dark, alt=figure.alt, caption=figure.caption)


def _seconds(run: StudyRun[Any]) -> dict[str, float]:
    """What the cells took in all, by the clock and on the processor."""
    cells = run.cells.values()
    return {
        "cells": sum(cell.seconds for cell in cells),
        "cpu": sum(float(cell.get("cpu_seconds", 0.0)) for cell in cells),
    }


def _digest(run: StudyRun[Any]) -> str:
    """Of what a report is made from: the run's settings and cells, and the code that tells of them.

    A cell's file is written after the files that the cell left, so it stands for them.
    """
    own = [run.folder / name for name in ("study.json", "config.yaml", PLAN)]
    digest = hashlib.sha256()
    for path in (*own, *(cell.file for cell in run.cells.values()), *_code(run)):
        digest.update(path.name.encode())
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()


def _code(run: StudyRun[Any]) -> Iterator[Path]:
    """The study's own files (its package, or the one file of a study outside ours), the framework's, reporting's."""
    own, framework = run.study.declared_in, Path(__file__).parent
    if own is not None:
        yield from _files(own.parent) if framework.parent in own.parents else [own]
    yield from _files(framework)
    yield from _files(Path(next(iter(reporting.__path__))))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".py", ".j2", ".yaml"))
