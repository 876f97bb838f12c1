"""Write notebooks/initialisation.ipynb (no outputs stored): python tools/make_notebook.py"""

from pathlib import Path

import nbformat

CELLS = [
    """# Initialisation study: look at a run yourself

This notebook reads a finished (or partly finished) run folder; it trains nothing. Make one with

    codebound study init --quick --out runs/demo

and give its path below, or in the environment variable `CODEBOUND_RUN`.""",
    """import os
from pathlib import Path

from codebound.reporting import plots
from codebound.reporting.claims import Status
from codebound.studies.initialisation import figures, report
from codebound.studies.initialisation.findings import findings
from codebound.studies.initialisation.recommendation import recommendation
from codebound.studies.initialisation.rundata import load, lookup
from codebound.studies.initialisation.summary import summarise
from codebound.studies.initialisation.tables import source_table
from codebound.reporting.statistics import paired_percent
from codebound.reporting.tables import claims_table

OUT = Path(os.environ.get("CODEBOUND_RUN", "runs/demo"))
if not OUT.exists() and (Path("..") / OUT).exists():  # opened from the notebooks folder
    OUT = Path("..") / OUT
data = load(OUT)
table = summarise(data)
print(f"{len(data.cells)} cells, {len(data.missing)} missing; sources: {', '.join(data.sources)}")""",
    """## Every run in one table

One row per source, seed, arm and optimizer. `gap_db` is the distance to the Shannon bound on fresh data.""",
    """columns = ["final_fresh_distortion", "final_gap_db", "final_fresh_dead", "final_fresh_perplexity"]
data.runs.groupby(["source", "optimizer", "arm"], sort=False)[columns].mean().round(3)""",
    """## The summary of one source

Change `SOURCE` to any of `data.sources`.""",
    """SOURCE = data.sources[0]
source_table(table, SOURCE)""",
    """plots.picture(figures.distance(table, SOURCE))""",
    """plots.picture(figures.training(data, table, SOURCE))""",
    """plots.picture(figures.utilisation(table, SOURCE))""",
    """## Two arms against each other

Paired by seed: a seed redraws source, samples, initialisation and order, and is shared by all arms.""",
    """find = lookup(data)
ONE, OTHER, METRIC = data.settings.arms[0], data.settings.arms[-1], "final_fresh_distortion"
one, other = (find({"source": SOURCE, "arm": arm, "optimizer": "adam"}, METRIC) for arm in (ONE, OTHER))
difference = paired_percent(one, other)
print(f"{ONE} against {OTHER}: {difference.mean:+.2f} % [{difference.low:+.2f}, {difference.high:+.2f}]")""",
    """## The claims""",
    """verdicts = report.judge(data)
claims_table(verdicts, every_case=True)""",
    """for verdict in verdicts:
    if verdict.main and verdict.status is Status.REFUTED:
        print(f"{verdict.claim.statement}\\n    {verdict.reason}")""",
    """## What the report concludes""",
    """for finding in findings(table, verdicts):
    print(f"{finding.title}\\n    {finding.text}")
    for item in finding.items:
        print(f"    - {item}")
print(*recommendation(table), sep="\\n")""",
    """## A codebook

Both codebooks of every run are stored: before step 0 and after training.""",
    """from safetensors.torch import load_file

seed, run = data.seeds(SOURCE)[0], data.runs.iloc[0]
place = OUT / "runs" / SOURCE / run["arm"] / run["optimizer"] / f"seed-{seed}" / "codebook.safetensors"
books = load_file(place) if place.exists() else {}
{name: tuple(book.shape) for name, book in books.items()}""",
]


def main() -> None:
    """Markdown and code cells, told apart by their first character."""
    notebook = nbformat.v4.new_notebook()
    for i, text in enumerate(CELLS):
        prose = text.startswith("#")
        cell = nbformat.v4.new_markdown_cell(text) if prose else nbformat.v4.new_code_cell(text)
        cell["id"] = f"cell-{i}"  # fixed, so that writing it again changes nothing
        notebook.cells.append(cell)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = Path(__file__).parent.parent / "notebooks" / "initialisation.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
