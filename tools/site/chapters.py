"""The course's chapters as pages and notebooks: text and code from course/*.py, outputs as `make course` left them.

A chapter is a Python file in cells: `# %% [markdown]` begins text, `# %%` begins code. A code cell whose first line is
`# Figure: …` leaves a figure with those words under it. What the cells printed and drew lies in course/outputs, with
the hash of the code that did; a page is refused where code and outputs differ.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from codebound.course.exercise import CHAPTERS

COURSE = Path(__file__).parents[2] / "course"
OUTPUTS = COURSE / "outputs"
CELL = re.compile(r"^# %%(.*)\n", flags=re.MULTILINE)
CAPTION = re.compile(r"# Figure: (.*)")


@dataclass(frozen=True)
class Cell:
    """A cell: text in Markdown, or code."""

    text: str
    is_code: bool

    @property
    def caption(self) -> str | None:
        """What stands under the figure of a code cell; None without a figure."""
        found = CAPTION.match(self.text) if self.is_code else None
        return found[1] if found else None

    @property
    def shown(self) -> str:
        """The code without the line that holds the caption."""
        return self.text.partition("\n")[2] if self.caption else self.text


def sources() -> list[Path]:
    """The chapters, in their order."""
    return sorted(COURSE.glob("[0-9][0-9]_*.py"))


def cells(path: Path) -> list[Cell]:
    """The cells of a chapter."""
    _, *parts = CELL.split(path.read_text(encoding="utf-8"))
    found = []
    for head, body in zip(parts[::2], parts[1::2], strict=True):
        if "[markdown]" in head:
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines())
            found.append(Cell(text, is_code=False))
        else:
            found.append(Cell(body.strip(), is_code=True))
    return found


def digest(code: str) -> str:
    """What says whether an output is of this code."""
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def title(path: Path) -> str:
    """The heading of a chapter."""
    return cells(path)[0].text.splitlines()[0].removeprefix("# ")


def navigation() -> list[Any]:
    """The section of the course."""
    pages = [{title(path): f"course/{path.stem}.md"} for path in sources()]
    answers = [{f"Answers: {name}": f"course/answers/{name}.md"} for name in CHAPTERS]
    return ["course/index.md", *pages, {"Worked answers": answers}]


def files() -> Iterator[tuple[str, str | bytes]]:
    """Every file of the course: pages, figures, notebooks."""
    for path in sources():
        outputs = stored(path)
        yield f"course/{path.stem}.md", page(path, outputs)
        yield f"course/{path.stem}.ipynb", nbformat.writes(notebook(path, outputs))
    for number, name in enumerate(CHAPTERS, start=1):
        yield f"course/answers/{name}.md", answers(number, name)
    for figure in sorted(OUTPUTS.glob("*.png")):
        yield f"course/{figure.name}", figure.read_bytes()


def stored(path: Path) -> list[dict[str, Any]]:
    """What each code cell left: its printed text and whether there is a figure.

    Raises:
        SystemExit: the code has changed since; `make course` runs it again.
    """
    file = OUTPUTS / f"{path.stem}.json"
    outputs = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    code = [digest(cell.text) for cell in cells(path) if cell.is_code]
    if code != [output["code"] for output in outputs]:
        raise SystemExit(f"the outputs of {path.name} are of other code: run `make course`")
    return outputs


def page(path: Path, outputs: list[dict[str, Any]]) -> str:
    """A chapter in Markdown."""
    remaining = iter(outputs)
    blocks = []
    for cell in cells(path):
        if not cell.is_code:
            blocks.append(cell.text)
            continue
        output = next(remaining)
        blocks.append(f"```python\n{cell.shown}\n```")
        if output["text"]:
            blocks.append(f"```text\n{output['text']}```")
        if output["figure"]:
            blocks.append(f"![{cell.caption}]({output['figure']})\n*{cell.caption}*")
    link = f"[This chapter as a notebook]({path.stem}.ipynb)"
    heading, _, rest = blocks[0].partition("\n")
    return "\n\n".join([heading, link, rest, *blocks[1:]]) + "\n"


def answers(number: int, name: str) -> str:
    """The worked answers of a chapter as a page."""
    (chapter,) = COURSE.glob(f"{number:02}_*.py")
    code = (COURSE / "answers" / f"{name}.py").read_text(encoding="utf-8")
    return (
        f"# Answers: {name}\n\nTo the questions of [{title(chapter)}](../{chapter.stem}.md). Try your own first: "
        f"`codebound course check {name} my_answer.py`; this page is a file that passes.\n\n```python\n{code}```\n"
    )


def notebook(path: Path, outputs: list[dict[str, Any]]) -> nbformat.NotebookNode:
    """A chapter for Jupyter, with what its cells printed."""
    remaining = iter(outputs)
    found = []
    for number, cell in enumerate(cells(path)):
        if cell.is_code:
            text = next(remaining)["text"]
            printed = [nbformat.v4.new_output("stream", name="stdout", text=text)] if text else []
            found.append(nbformat.v4.new_code_cell(cell.text, outputs=printed, id=f"cell-{number}"))
        else:
            found.append(nbformat.v4.new_markdown_cell(cell.text, id=f"cell-{number}"))
    return nbformat.v4.new_notebook(cells=found)
