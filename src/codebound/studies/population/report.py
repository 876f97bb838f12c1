"""The report: results.json, figures/*.png and one self-contained report.html in the run folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from codebound.files import write_text
from codebound.reporting import page
from codebound.reporting.formatting import interval_text, number, typeset
from codebound.studies.population import figures, labels
from codebound.studies.population.findings import findings
from codebound.studies.population.settings import REVIVAL
from codebound.studies.population.summary import TOLERANCE, Data, Row, load


def write(out: Path) -> Path:
    """Write results.json, the figures and report.html of a run, finished or not; returns the page's path.

    Raises:
        InputError: not a run of this study, no finished scenario, or files that can't be read.
    """
    data = load(Path(out))
    pictures = figures.write_figures(data.path / "figures", data)
    write_text(data.path / "results.json", json.dumps(results(data), indent=1, allow_nan=False))
    place = data.path / "report.html"
    write_text(place, _render(data, pictures))
    return place


def refresh(out: Path) -> Path:
    """The report of a run, written only if a cell is newer than it; returns the page's path."""
    place, cells = Path(out) / "report.html", list((Path(out) / "cells").glob("*.json"))
    if place.exists() and all(cell.stat().st_mtime <= place.stat().st_mtime for cell in cells):
        return place
    return write(out)


def results(data: Data) -> dict[str, Any]:
    """The content of results.json."""
    return {
        **data.study,
        "settings": data.settings.model_dump(mode="json"),
        "complete": not data.missing,
        "missing_cells": data.missing,
        "findings": [asdict(f) for f in findings(data)],
        "rows": [row.to_json() for row in data.rows],
        "lifetimes": data.lifetimes,
        "film": data.film,
    }


def tables(data: Data) -> list[Table]:
    """For a terminal: a table per role."""
    found = []
    for role, name in labels.ROLES.items():
        rows = data.role(role)  # pyright: ignore[reportArgumentType]
        if not rows:
            continue
        table = Table(title=f"Dead codewords at the end: {name}", expand=False)
        for column in (
            "Setting",
            "Simulated, 95 %",
            "Frozen",
            "Mean field",
            "Shot noise",
            "Error %",
            "Within 10 %",
        ):
            table.add_column(column, justify="left" if column == "Setting" else "right", no_wrap=True)
        for row in rows:
            table.add_row(
                row.scenario.name,
                interval_text(row.dead),
                *(number(row.levels[level].dead.mean) for level in labels.LEVELS),
                error_text(row),
                verdict(row),
            )
        found.append(table)
    return found


def error_text(row: Row, level: str = "shot_noise") -> str:
    """+2.1 ± 1.3"""
    error = row.levels[level].error
    if row.none_left or error.n == 0:
        return "–"
    return typeset(f"{error.mean:+.1f} ± {(error.high - error.low) / 2:.1f}")


def verdict(row: Row, level: str = "shot_noise") -> str:
    """yes, no, none left, or more runs needed."""
    met = row.met(level)
    if row.none_left:
        return "none left"
    return {True: "yes", False: "no", None: "more runs needed"}[met]


def _render(data: Data, pictures: dict[str, Path]) -> str:
    return page.render(
        "studies/population/report.html.j2",
        data=data,
        findings=findings(data),
        tiles=_tiles(data),
        groups=[(labels.ROLES[role], rows) for role in labels.ROLES if (rows := data.role(role))],  # pyright: ignore
        pictures={name: page.embed(path) for name, path in pictures.items()},
        labels=labels,
        error=error_text,
        verdict=verdict,
        tolerance=TOLERANCE,
        revival=REVIVAL,
        settings=page.settings_text(data.settings),
    )


def _tiles(data: Data) -> list[tuple[str, str]]:
    """The numbers to see first."""
    tiles = []
    for role in ("held_out", "sweep", "development", "own"):
        rows = [r for r in data.role(role) if r.met("shot_noise") is not None and not r.none_left]
        if rows:
            right = sum(bool(r.met("shot_noise")) for r in rows)
            tiles.append(
                (f"{right} of {len(rows)}", f"{labels.ROLES[role]}: dead codewords within {TOLERANCE:.0f} %")
            )
    return tiles
