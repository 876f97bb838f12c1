"""What the commands share on a terminal: consoles, command groups, progress bars."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from codebound.errors import InputError

if TYPE_CHECKING:
    from codebound.config import Settings

# Tables need 100 columns; a pipe or a file has no width of its own.
out = Console() if sys.stdout.isatty() else Console(width=120)
err = Console(stderr=True)


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Force = Annotated[bool, typer.Option("--force", help="Replace outputs that exist; an input never is.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; see show-config."),
]
Jobs = Annotated[int, typer.Option(help="Processes; −1: one per core. Changes no number but times.")]
Backend = Annotated[
    str,
    typer.Option(help="Where they run: loky (this machine), dask or ray (their cluster, or a local one)."),
]


class Commands(typer.core.TyperGroup):
    """A command group in which a user's mistake, or a file that the system refuses, is one line on stderr and exit
    code 2, and Ctrl-C is 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever read what is printed has enough of it
            raise
        except (InputError, OSError) as error:
            if os.environ.get("LOCAL_RANK", "0") == "0":  # the first process says it for all
                say_error(error)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


class Defaulting(Commands):
    """A group whose command `run` is meant where the first word is no command's name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = not args or args[0] in self.commands or args[0] == "--help"
        return super().parse_args(ctx, args if named else ["run", *args])


def group(text: str, kind: type[Commands] = Commands) -> typer.Typer:
    """An empty group of commands with this help."""
    return typer.Typer(
        cls=kind,
        help=text,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_show_locals=False,
    )


def say_error(error: Exception) -> None:
    """What was refused, in one line on stderr."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    err.print(f"[bold red]Error:[/] {escape(text)}", highlight=False, soft_wrap=True)


def plain(text: str) -> None:
    """Text for another program: no wrapping, no colour."""
    sys.stdout.write(text + "\n")


def say_where(page: Path) -> None:
    """The last line of a command that wrote a report."""
    out.print(f"Report: {escape(str(page.resolve()))}", highlight=False, soft_wrap=True)


def run_study(
    run: Callable[..., None], unit: str, folder: Path, settings: Settings, jobs: int, backend: str
) -> None:
    """A study's cells with a progress bar; Ctrl-C says how to go on."""
    try:
        with Cells(unit) as cells:
            run(folder, settings, jobs=jobs, backend=backend, progress=cells.show)
    except KeyboardInterrupt:
        err.print(
            f"Interrupted. What is finished stays in {escape(str(folder))}; the same command goes on from there."
        )
        raise


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


def progress_bar() -> Progress:
    """A bar with times."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err,
    )
