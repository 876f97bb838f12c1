"""The report of one run, or of several side by side: one self-contained page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codebound.engine.journal import Journal
from codebound.errors import InputError
from codebound.files import write_text
from codebound.reporting import page, plots
from codebound.runs import figures, labels, report_parts
from codebound.runs.run import check_run, final_figures, kind_of, load_settings
from codebound.runs.settings import Settings


@dataclass(frozen=True)
class RunData:
    """What a finished run left in its folder."""

    name: str
    folder: Path
    settings: Settings
    study: dict[str, Any]
    rows: list[dict[str, Any]]
    final: dict[str, Any]
    counts: list[list[int]]


def load(folders: Sequence[Path]) -> list[RunData]:
    """The runs in folders.

    Raises:
        InputError: not a run's folder, or a run that is not finished.
    """
    if not folders:
        raise InputError("give the folder of at least one run")
    return [_load(folder) for folder in folders]


def write(folders: Sequence[Path], path: Path | None = None) -> Path:
    """Write the page: `report.html` in the folder of a single run, `runs.html` beside the first of several."""
    # One run has its page in its folder, several beside the first one.
    runs = load(folders)
    path = report_parts.page_of(folders, path)

    # All figures and pictures go into the page itself, so that it can be sent alone.
    drawn = {
        "curves": figures.curves(runs),
        "shares": figures.code_shares(runs),
        "rate": figures.rate_distortion(runs),
    }
    pictures = {name: page.embed_bytes(plots.picture(figure).png, "png") for name, figure in drawn.items()}
    samples = [(run.name, page.embed(run.folder / "samples.png")) for run in runs]

    # Fill the template.
    text = page.render(
        "runs/report.html.j2",
        runs=runs,
        rows=labels.rows([run.final for run in runs]),
        pictures=pictures,
        samples=samples,
        settings=[page.settings_text(run.settings) for run in runs],
        differing=_differing(runs),
    )
    write_text(path, text)
    return path


def _load(folder: Path) -> RunData:
    """What a report shows of a run; `InputError` where it is not finished."""
    study = check_run(folder)
    final = final_figures(folder)
    try:
        counts = json.loads((folder / "code_counts.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"run {folder}: its figures can't be read: {error}") from None
    settings = load_settings(folder, kind_of(folder).settings)
    return RunData(folder.resolve().name, folder, settings, study, Journal(folder).rows(), final, counts)


def _differing(runs: Sequence[RunData]) -> list[tuple[str, list[str]]]:
    """The settings in which runs differ."""
    dumps = [run.settings.model_dump(mode="json") for run in runs]
    return [
        (key, [str(dump[key]) for dump in dumps])
        for key in dumps[0]
        if len({str(dump[key]) for dump in dumps}) > 1
    ]
