"""Write the notebooks of this list: python tools/make_notebook.py

That of the initialisation study reads a run that the reader has, so its outputs are not stored; that of generation is
run here, by the models in the package, and holds what its cells print and draw.
"""

import base64
import contextlib
import io
import sys
from pathlib import Path
from typing import Any

import nbformat

sys.path.insert(0, str(Path(__file__).parent / "site"))
from run_course import LOOK, picture, plt

INITIALISATION = [
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
place = (
    OUT / "runs" / SOURCE / trained["arm"] / trained["optimizer"] / f"seed-{seed}" / "codebook.safetensors"
)
books = load_file(place) if place.exists() else {}
{name: tuple(book.shape) for name, book in books.items()}""",
]


GENERATION = [
    """# New pictures: draw, guide, complete, and what they cost

Everything here comes from the models of `codebound sample default`: a tokenizer of Fashion-MNIST (28×28 pixels as 7×7
indices of 512 codewords) and an autoregressive prior over its indices, both in the package. Nothing is trained or
fetched; all of it takes seconds. For your own pictures, train both and open them with `from_pretrained`:

    codebound train --data classes:FOLDER --name mine
    codebound train prior runs/mine --name mine-prior""",
    """import matplotlib.pyplot as plt
import torch

from codebound.generators import default_model

prior, tokenizer = default_model()
print(f"{prior.layout.describe()}; classes: {', '.join(prior.classes)}")


def show(rows, names, title):
    figure, axes = plt.subplots(len(rows), len(rows[0]), squeeze=False)
    figure.set_size_inches(0.62 * len(rows[0]) + 1.2, 0.66 * len(rows) + 0.4)
    for line, pictures, name in zip(axes, rows, names, strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture[0], cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
    figure.suptitle(title)
    plt.show()""",
    """## Draw

A class, a seed, a temperature. Picture number n depends on seed, n and class alone: three of them are the first three
of a thousand.""",
    """rows = [tokenizer.decode(prior.sample(10, labels=name, temperature=0.9, seed=1)) for name in prior.classes]
show(rows, prior.classes, "Ten of each class, temperature 0.9")
again = tokenizer.decode(prior.sample(3, labels=prior.classes[0], temperature=0.9, seed=1))
print("the first three of ten:", torch.equal(again, rows[0][:3]))""",
    """## Guide

Logits with the class are moved away from those without it: `none + guidance · (with − none)`. 0 leaves the class out, 1
takes it as it is, more makes pictures surer of their class and less various.""",
    """drawn = {g: prior.sample(10, labels="sandal", guidance=g, seed=2) for g in (0.0, 1.0, 1.5, 3.0)}
show([tokenizer.decode(one) for one in drawn.values()], [f"{g:g}" for g in drawn], "Sandals, by guidance")""",
    """## What do they cost?

The prior's probabilities are exact, so each picture has a price in bits: what a file would take. Guided pictures are
cheaper, as they are more usual. The same codes are dearer under another class; by Bayes' rule that tells which class
they are of.""",
    """def bits_a_token(indices, name):
    return float(prior.bits(indices, name).mean()) / prior.layout.length


for guidance, indices in drawn.items():
    own, other = bits_a_token(indices, "sandal"), bits_a_token(indices, "coat")
    print(f"guidance {guidance:g}: {own:.2f} bits a token as sandals, {other:.2f} as coats, of 9 by log2 K")

samples = {name: prior.sample(20, labels=name, seed=3) for name in prior.classes}
costs = torch.stack(
    [torch.stack([prior.bits(s, other) for other in prior.classes], 1) for s in samples.values()]
)
right = (costs.argmin(2) == torch.arange(10)[:, None]).double().mean()
print(f"{right:.0%} of 200 samples are cheapest under the class that they were drawn with")""",
    """### Where the bits go

Each index costs −log₂ of its probability given those before it, row by row: what is usual is nearly free.""",
    """boot = prior.sample(5, labels="ankle-boot", temperature=0.9, seed=4)
layout, tokens = prior.tokens_of(boot)
with torch.no_grad():
    hidden = prior(tokens, prior.label_numbers("ankle-boot", 5), layout)
    prices = prior.costs(hidden, tokens, layout).reshape(5, 7, 7) / torch.log(torch.tensor(2.0))
figure, axes = plt.subplots(2, 5)
figure.set_size_inches(6.4, 2.8)
for column, (picture, price) in enumerate(zip(tokenizer.decode(boot), prices, strict=True)):
    axes[0, column].imshow(picture[0], cmap="gray", vmin=0, vmax=1)
    dear = axes[1, column].imshow(price, cmap="magma", vmin=0, vmax=12)
    axes[1, column].set_xlabel(f"{price.sum():.0f} bits")
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
figure.colorbar(dear, ax=axes[1], label="bits an index")
plt.show()""",
    """## Complete

Indices that are given stay; those that are −1 are drawn. From a file: `codebound sample default --from half.png
--keep top --out completed`.""",
    """whole = prior.sample(1, labels="pullover", temperature=0.9, seed=8)
half = whole.clone()
half[:, 3:] = -1
rows = []
for name in ("pullover", "dress", "t-shirt"):
    made = prior.sample(8, labels=name, known=half, temperature=0.9, seed=5)
    assert torch.equal(made[:, :3], whole[:, :3].expand(8, -1, -1, -1))
    rows.append(torch.cat([tokenizer.decode(whole), tokenizer.decode(made)]))
show(rows, ["pullover", "dress", "t-shirt"], "First column: whose upper three rows of indices are given")""",
    """## Temperature

0 takes the likeliest index every time: one picture a class. Lower temperatures are cheaper and more alike.""",
    """rows, labels = [], []
for temperature in (0.0, 0.5, 0.9, 1.2):
    indices = prior.sample(10, labels="bag", temperature=temperature, seed=6)
    rows.append(tokenizer.decode(indices))
    labels.append(f"{temperature:g}")
    print(
        f"temperature {temperature:g}: {bits_a_token(indices, 'bag'):.2f} bits a token, "
        f"{len({tuple(one.flatten().tolist()) for one in indices})} different pictures of 10"
    )
show(rows, labels, "Bags, by temperature")""",
]


def notebook(cells: list[str], run: bool) -> nbformat.NotebookNode:
    """Markdown and code cells, told apart by their first character; of those that are run also what they leave."""
    made, namespace = nbformat.v4.new_notebook(), {"__name__": "notebook"}
    for number, text in enumerate(cells):
        if text.startswith("#"):
            cell = nbformat.v4.new_markdown_cell(text)
        else:
            cell = nbformat.v4.new_code_cell(text, outputs=outputs(text, namespace) if run else [])
        cell["id"] = f"cell-{number}"  # fixed, so that writing it again changes nothing
        made.cells.append(cell)
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.validate(made)
    return made


def outputs(code: str, namespace: dict[str, Any]) -> list[nbformat.NotebookNode]:
    """What a cell prints, and the figure that it leaves."""
    with contextlib.redirect_stdout(io.StringIO()) as printed, plt.rc_context(LOOK):
        exec(compile(code, "notebook", "exec", dont_inherit=True), namespace)
        figure = picture() if plt.get_fignums() else None
    found = []
    if printed.getvalue():
        found.append(nbformat.v4.new_output("stream", name="stdout", text=printed.getvalue()))
    if figure:
        data = {"image/png": base64.b64encode(figure).decode()}
        found.append(nbformat.v4.new_output("display_data", data=data))
    return found


def main() -> None:
    """All of them."""
    folder = Path(__file__).parent.parent / "notebooks"
    folder.mkdir(exist_ok=True)
    for name, cells, run in (("initialisation", INITIALISATION, False), ("generation", GENERATION, True)):
        nbformat.write(notebook(cells, run), folder / f"{name}.ipynb")


if __name__ == "__main__":
    main()
