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
from codebound.reporting.tables import claims_table, terminal_table
from codebound.studies.framework.results import load
from codebound.studies.initialisation import figures, sections
from codebound.studies.initialisation.study import STUDY
from codebound.studies.initialisation.summary import summarise

OUT = Path(os.environ.get("CODEBOUND_RUN", "runs/demo"))
if not OUT.exists() and (Path("..") / OUT).exists():  # opened from the notebooks folder
    OUT = Path("..") / OUT
run = load(STUDY, OUT)
summary = summarise(run)
print(f"{len(run.cells)} cells, {len(run.missing)} missing; sources: {', '.join(summary.sources)}")""",
    """## Every run in one table

`run.table.frame` has a row for each source, seed, arm, optimizer and metric. `final_gap_db` is the distance to the
Shannon bound on fresh data.""",
    """columns = ["final_fresh_distortion", "final_gap_db", "final_fresh_dead", "final_fresh_perplexity"]
frame = run.table.frame[run.table.frame["metric"].isin(columns)]
frame.pivot_table(index=["source", "optimizer", "arm"], columns="metric", values="value", sort=False).round(3)""",
    """## The summary of one source

Change `SOURCE` to any of `summary.sources`.""",
    """SOURCE = summary.sources[0]
terminal_table(sections.source_table(summary, SOURCE))""",
    """plots.picture(figures.distance(summary, SOURCE))""",
    """plots.picture(figures.training(run, summary, SOURCE))""",
    """## Two arms against each other

Paired by seed: a seed redraws source, samples, initialisation and order, and is shared by all arms.""",
    """ONE, OTHER, METRIC = run.settings.arms[0], run.settings.arms[-1], "final_fresh_distortion"
change = run.table.percent(METRIC, {"arm": OTHER}, source=SOURCE, arm=ONE, optimizer="adam")
print(f"{ONE} against {OTHER}: {change.mean:+.2f} % [{change.low:+.2f}, {change.high:+.2f}]")""",
    """## The claims""",
    """claims_table(run.verdicts)""",
    """for verdict in run.verdicts:
    if verdict.main and verdict.status is Status.REFUTED:
        print(f"{verdict.claim.statement}\\n    {verdict.reason}")""",
    """## What the report concludes""",
    """print(run.content.answer, *run.content.sentences, sep="\\n")
for finding in run.content.findings:
    print(f"{finding.title}\\n    {finding.text}")
    for item in finding.items:
        print(f"    - {item}")""",
    """## A codebook

Both codebooks of every run are stored: before step 0 and after training.""",
    """from safetensors.torch import load_file

cell = run.where(source=SOURCE)[0]
trained = cell["runs"][0]
seed = cell.cell["seed"]
place = OUT / "runs" / SOURCE / trained["arm"] / trained["optimizer"] / f"seed-{seed}" / "codebook.safetensors"
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
