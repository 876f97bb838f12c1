"""`codebound course`: the exercises of the course."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from codebound.cli.terminal import AsJson, group, out, plain

app = group("The course's exercises: which there are, and your own answers tried, with hints.")


@app.command("list")
def list_tasks(
    chapter: Annotated[str | None, typer.Argument(help="A chapter; without one all chapters.")] = None,
) -> None:
    """The chapters, or what the file of answers to one of them may define."""
    from codebound.course.exercise import CHAPTERS, tasks

    if chapter is None:
        out.print("\n".join(CHAPTERS), highlight=False)
        return
    table = Table("name", "kind", "question")
    for task in tasks(chapter):
        table.add_row(task.name, task.kind, " ".join(task.question.split()))
    out.print(table)


@app.command("check")
def check_answers(
    chapter: Annotated[str, typer.Argument(help="Of the course: codebound course list.")],
    file: Annotated[Path, typer.Argument(help="Your answers, a Python file; it is executed.")],
    as_json: AsJson = False,
) -> None:
    """Try your answers to a chapter's questions; exit code 1 if one is wrong.

    [bold]Example[/]

      codebound course check ema my_answer.py
    """
    from codebound.course import check

    results = check(chapter, file)
    if as_json:
        plain(json.dumps([asdict(result) for result in results], indent=2, ensure_ascii=False))
    else:
        table = Table("name", "kind", "", "hint")
        for result in results:
            table.add_row(result.name, result.kind, result.state, escape(result.hint))
        out.print(table)
    if any(result.state == "wrong" for result in results):
        raise typer.Exit(1)
