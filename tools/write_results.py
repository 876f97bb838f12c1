"""Keep what finished runs say, and write the pages of it: python tools/write_results.py [RUN …]

A run becomes docs/results/runs/STUDY.json, in place of an earlier one. docs/claims.md is written from all that are
kept; from a full run of `codebound study init` also the table of docs/results/initialisation.md.
"""

import os
import sys
from pathlib import Path

from typer.testing import CliRunner

from codebound.cli import app
from codebound.runs.folder import read_study
from codebound.studies.framework.results import StudyRun, load
from codebound.studies.initialisation.labels import arm
from codebound.studies.initialisation.settings import Settings
from codebound.studies.initialisation.study import STUDY
from codebound.studies.initialisation.summary import summarise

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "results" / "initialisation.md"
CLAIMS, RUNS = "docs/claims.md", "docs/results/runs"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"
SEEDS = 8
SOURCES = {"isotropic": "isotropic", "anisotropic": "Σ ∝ BBᵀ", "photos": "photographs"}
ARMS = ("uniform", "kmeans", "rd_gaussian", "water_filling", "synthetic", "best")


def table(run: StudyRun[Settings]) -> str:
    """Markdown: start → end and its decibels for each source, dead codes at the end."""
    if run.missing:
        cells = "cell is" if len(run.missing) == 1 else "cells are"
        raise SystemExit(f"this run is not finished: {len(run.missing)} {cells} missing; resume it first")
    summary = summarise(run)
    seeds = min(summary.seeds.values())
    if seeds < SEEDS:
        raise SystemExit(f"this run has {seeds} seeds; the table needs {SEEDS}")
    heads = [cell for name in SOURCES.values() for cell in (f"{name}: step 0 → trained", "dB")]
    lines = [f"| start | {' | '.join(heads)} | dead at the end |", "|---" * (len(heads) + 2) + "|"]
    for name in ARMS:
        cells, dead = [], []
        for source in SOURCES:
            row = summary.row(source, name)
            if row is None:
                raise SystemExit(f"{name} was not run on {source}: the table needs a full run")
            gap = f"final_{summary.reference(source)}"
            metrics = ("initial_fresh_distortion", "final_fresh_distortion", gap)
            start, end, decibels = (row.metrics[metric].mean for metric in metrics)
            cells += [f"{start:.3f} → {end:.3f}", f"{decibels:+.2f}".replace("-", "−")]
            dead.append(f"{row.metrics['final_fresh_dead'].mean:.0f}")
        lines.append(f"| {arm(name).name} | {' | '.join(cells)} | {', '.join(dead)} |")
    limits = []
    for source in SOURCES:
        known = summary.limits[source]
        if summary.estimated(source):
            low, high = (known[f"shannon_{side}"].mean for side in ("low", "high"))
            text = f"Gaussian reference {known['gaussian_reference'].mean:.3f}; Shannon, estimated {low:.3f}–{high:.3f}"
        else:
            text = f"Shannon {known['shannon'].mean:.3f}"
            text += f", converse {known['converse'].mean:.3f}" if "converse" in known else ""
        limits += [text, "0"]
    return "\n".join([*lines, f"| *limit* | {' | '.join(limits)} | |"]) + "\n"


def command(*arguments: str | Path) -> None:
    """Run `codebound study …`; what it refuses ends this."""
    result = CliRunner().invoke(app, ["study", *map(str, arguments), "--force"])
    if result.exit_code:
        raise SystemExit(result.output)


def write_table(run: StudyRun[Settings]) -> None:
    """Replace what stands between the marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(before + BEGIN + table(run) + END + after, encoding="utf-8")


def main() -> None:
    """Keep the runs, then write the pages."""
    folders = [Path(argument).resolve() for argument in sys.argv[1:]]
    # The page names the command as it is given in the repository's root.
    os.chdir(ROOT)
    for folder in folders:
        study = read_study(folder)["study"]
        if study == STUDY.entry.name:
            write_table(load(STUDY, folder))
        command("keep", folder, "--out", f"{RUNS}/{study}.json")
    command("claims", RUNS, "--out", CLAIMS)


if __name__ == "__main__":
    main()
