"""The report: results.json, the tables of the terminal, and one self-contained page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from rich.table import Table

from codebound.files import write_text
from codebound.reporting import claims, page, plots
from codebound.reporting.claims import Verdict
from codebound.reporting.statistics import Interval
from codebound.studies.utilisation import figures
from codebound.studies.utilisation.findings import START_NAMES, findings
from codebound.studies.utilisation.summary import (
    Row,
    StudyData,
    even_usage,
    groups,
    held_out_tokens,
    load,
    lookup,
    summarise,
)

_HERE = files("codebound.studies.utilisation")


def write(folder: Path) -> Path:
    """Write results.json and report.html of a run, finished or not; returns the page's path.

    Raises:
        InputError: not a run of this study, or no finished cell.
    """
    data = load(folder)
    rows, verdicts = summarise(data), judge(data)
    found = findings(data, rows)
    results = {
        **data.study,
        "settings": data.settings.model_dump(mode="json"),
        "complete": not data.missing,
        "missing_cells": data.missing,
        "rows": [_row_json(row) for row in rows],
        "findings": [asdict(f) for f in found],
        "claims": [v.to_json() for v in verdicts],
    }
    write_text(folder / "results.json", json.dumps(results, indent=1) + "\n")
    curve_size = max(data.settings.sizes)
    drawn = {
        "rate": figures.rate_distortion(rows),
        "sizes": figures.by_size(data, rows),
        "curves": figures.curves(data, curve_size),
    }
    tokens = held_out_tokens(data)
    text = page.render(
        "studies/utilisation/report.html.j2",
        data=data,
        groups=groups(rows),
        findings=found,
        starts=START_NAMES,
        tokens=tokens,
        even=lambda size: even_usage(size, tokens),
        curve_size=curve_size,
        verdicts=page.ledger(verdicts),
        counts=page.count(verdicts),
        pictures={name: page.embed_bytes(plots.picture(f).png, "png") for name, f in drawn.items()},
        settings=page.settings_text(data.settings),
    )
    write_text(folder / "report.html", text)
    return folder / "report.html"


def judge(data: StudyData) -> list[Verdict]:
    """The verdicts of this study's own claims."""
    with as_file(_HERE.joinpath("claims.yaml")) as path:
        ledger = claims.load_claims(path)
    return claims.judge(ledger, lookup(data), {"data": data.settings.data})


def tables(data: StudyData, rows: Sequence[Row]) -> list[Table]:
    """One table a size and start, for a terminal of 100 columns."""
    tokens, found = held_out_tokens(data), []
    for size, start, group in groups(rows):
        table = Table(
            title=f"K = {size:,}, {START_NAMES[start]}; an even code would use {even_usage(size, tokens):.1%}"
        )
        for column in (
            "arm",
            "PSNR, dB",
            "above EMA, dB",
            "usage",
            "entropy, bits",
            "bpp, entropy",
            "gap, dB",
        ):
            table.add_column(column, justify="left" if column == "arm" else "right")
        for row in group:
            f = row.figures
            gain = "–" if row.psnr_gain is None else _decibels(row.psnr_gain)
            table.add_row(
                row.label, _decibels(f["psnr"]), gain, f"{f['usage'].mean:.1%}", f"{f['entropy_bits'].mean:.2f}",
                f"{f['bpp_entropy'].mean:.3f}", "–" if f["gap_db"].n == 0 else f"{f['gap_db'].mean:.2f}",
            )  # fmt: skip
        found.append(table)
    return found


def _decibels(interval: Interval) -> str:
    bounds = f" [{interval.low:.2f}, {interval.high:.2f}]" if interval.known else ""
    return f"{interval.mean:.2f}{bounds}"


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "arm": row.arm,
        "codebook_size": row.codebook_size,
        "start": row.start,
        "seeds": row.seeds,
        "figures": {name: interval.to_json() for name, interval in row.figures.items()},
        "psnr_gain": row.psnr_gain.to_json() if row.psnr_gain else None,
        "psnr_gain_without_revival": row.plain_gain.to_json() if row.plain_gain else None,
        "psnr_gain_at_equal_rate": row.rate_gain.to_json() if row.rate_gain else None,
        "cell_seconds": row.seconds.to_json(),
    }
