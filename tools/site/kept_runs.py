"""Pages of the runs that the repository keeps (docs/results/runs/*.json): how each was made, and what it measured."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from codebound.reporting import kept
from codebound.reporting.formatting import number
from codebound.reporting.kept import KeptRow, KeptRun

RUNS = Path(__file__).parents[2] / "docs" / "results" / "runs"
FOLDER = "results/runs"


def navigation() -> dict[str, list[Any]]:
    """The runs of the section of results."""
    return {"Kept runs": [{run.study: f"{FOLDER}/{run.study}.md"} for run in kept.read(RUNS)]}


def files() -> Iterator[tuple[str, str]]:
    """A page for each run."""
    for run in kept.read(RUNS):
        yield f"{FOLDER}/{run.study}.md", page(run)


def page(run: KeptRun) -> str:
    """What the file says, in Markdown."""
    parts = [
        f"# Run: {run.study}",
        run.question,
        *((run.answer,) if run.answer else ()),
        " ".join(run.sentences),
    ]
    parts += [f"```\n{run.command}\n```", f"codebound {run.version}, {run.machine}, {run.date}."]
    if run.claims:
        counts = ", ".join(f"{n} {verdict.lower()}" for verdict, n in run.counts.items() if n)
        parts.append(f"[Its claims](../../claims.md#{run.anchor}): {counts}.")
    if run.rows:
        parts += ["## Figures", "Means over the seeds, in brackets the 95 % interval.", table(run)]
    else:
        parts.append("Of this run the claims are kept, and no other figures.")
    if run.settings:
        parts += [
            "## Settings",
            f"```yaml\n{yaml.safe_dump(run.settings, sort_keys=False, default_flow_style=None)}```",
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(run: KeptRun) -> str:
    """A row for each set of levels, a column for each factor and metric that any row has."""
    factors = list(dict.fromkeys(name for row in run.rows for name in row.levels))
    metrics = list(dict.fromkeys(name for row in run.rows for name in row.figures))
    heads = [*factors, "seeds", *(run.metrics.get(name, name) for name in metrics)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in run.rows:
        levels = [str(row.levels.get(name, "–")) for name in factors]
        lines.append(
            f"| {' | '.join([*levels, str(row.seeds), *(_figure(row, name) for name in metrics)])} |"
        )
    return "\n".join(lines)


def _figure(row: KeptRow, name: str) -> str:
    mean, low, high = row.figures.get(name, (None, None, None))
    if mean is None:
        return "–"
    bounds = "" if low is None or high is None else f" [{number(low)}, {number(high)}]"
    return number(mean) + bounds
