"""What the commands share on a terminal: consoles, command groups, progress bars."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import Any

import typer
import typer.core
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from codebound.errors import InputError

# Tables need 100 columns; a pipe or a file has no width of its own.
out = Console() if sys.stdout.isatty() else Console(width=120)
err = Console(stderr=True)


class Commands(typer.core.TyperGroup):
    """A command group in which a user's mistake is one line on stderr and exit code 2, and Ctrl-C is 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            if os.environ.get("LOCAL_RANK", "0") != "0":  # the first process says it for all
                raise typer.Exit(2) from None
            err.print(f"[bold red]Error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def group(text: str) -> typer.Typer:
    """An empty group of commands with this help."""
    return typer.Typer(
        cls=Commands,
        help=text,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_show_locals=False,
    )


def plain(text: str) -> None:
    """Text for another program: no wrapping, no colour."""
    sys.stdout.write(text + "\n")


class Cells(ExitStack):
    """A progress bar that is drawn from the first cell on: input that is refused comes before it."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit
        self.bar: Progress | None = None

    def show(self, done: int, of: int) -> None:
        if self.bar is None:
            self.bar = self.enter_context(progress_bar())
            self.bar.add_task(self.unit, total=of)
        self.bar.update(self.bar.task_ids[0], completed=done)


def progress_bar(*columns: ProgressColumn) -> Progress:
    """A bar with times, and further columns at its end."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        *columns,
        console=err,
    )
