"""What the reports of all kinds of run have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codebound.engine.journal import Journal
from codebound.reporting import page, plots
from codebound.runs.run import check_run, final_figures, kind_of, load_settings


def summaries(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """What finished runs left in their folders: name, study, final figures, settings as text, rows of the log.

    Raises:
        InputError: not a run's folder, or a run that is not finished.
    """
    return [
        {
            "name": folder.resolve().name,
            "study": check_run(folder),
            "final": final_figures(folder),
            "settings": page.settings_text(load_settings(folder, kind_of(folder).settings)),
            "rows": Journal(folder).rows(),
        }
        for folder in folders
    ]


def page_of(folders: Sequence[Path], asked: Path | None) -> Path:
    """Where the page goes: as asked, or `report.html` in the folder of one run, `runs.html` beside several."""
    if asked is not None:
        return asked
    return folders[0] / "report.html" if len(folders) == 1 else folders[0].parent / "runs.html"


def curves(runs: Sequence[dict[str, Any]], *drawn: tuple[str, str, str]) -> str:
    """Columns of the log over the steps, a line a run, as a picture for the page.

    Args:
        runs: as `summaries` returns them.
        drawn: column, title and unit of each part of the figure.
    """
    figure = plots.new_figure(11, 3.6)
    for axes, (column, title, unit) in zip(
        figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True
    ):
        plots.style(axes, title, "step", unit)
        for run in runs:
            points = [(row["step"], row[column]) for row in run["rows"] if row.get(column) is not None]
            axes.plot(*zip(*points, strict=True), label=run["name"], linewidth=1.6)
        if len(runs) > 1:
            axes.legend(fontsize=8, frameon=False)
    return page.embed_bytes(plots.picture(figure).png, "png")
