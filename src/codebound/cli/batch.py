"""One command over many files: where each result goes, that nothing is lost by it, and what is said at the end."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from codebound import files
from codebound.cli.terminal import Cells, err, out, say_error
from codebound.data.listing import Listing
from codebound.errors import InputError

STREAM = Path("-")  # stdin as a source, stdout as a goal
_STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")

Sources = Annotated[
    list[Path], typer.Argument(metavar="FILE...", help="Files, or folders of them; - for stdin.")
]
Output = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="A file; of several a folder (default: beside each); - for stdout."),
]
Row = dict[str, Any]


class Input(NamedTuple):
    """A file to work on, and its name within the folder that it was found in."""

    path: Path
    name: Path
    folder: Path


class Job(NamedTuple):
    """A file, where its result goes if it has one, and whether that is the very name that was asked for."""

    source: Path
    goal: Path = Path()
    asked: bool = False


def inputs(sources: Iterable[Path], within: Callable[[Path], Listing]) -> Iterator[Input]:
    """The files that are meant: those given, and in place of a folder what `within` finds there; the rest is said.

    Raises:
        InputError: no such file, or stdin twice.
    """
    streams = 0
    for source in sources:
        streams += source == STREAM
        if streams > 1:
            raise InputError("FILE=- stands for stdin, which can be read once; got it twice")
        if os.path.isdir(source):
            listing = within(source)
            if said := listing.said():
                err.print(escape(f"{source}: {said}"), highlight=False, soft_wrap=True)
            yield from (Input(source / name, Path(name), source) for name in listing.names)
        elif source != STREAM and not os.path.exists(source):
            raise InputError(f"there is no file {source}")
        else:
            yield Input(source, Path(source.name), source.parent)


def plan(
    sources: list[Path],
    within: Callable[[Path], Listing],
    target: Path | None,
    result: Callable[[Path], Path],
    remedy: str = "",
) -> list[Job]:
    """Each input and where its result goes.

    Args:
        target: a file, or of several inputs a folder; beside each input if not given.
        result: the name of a result by that of its input.
        remedy: what else keeps apart inputs that differ in their names.

    Raises:
        InputError: as `inputs`, several results for one file, or for stdout.
    """
    # What is given as a folder, or several files, goes to a folder.
    found = list(inputs(sources, within))
    several = len(sources) > 1 or os.path.isdir(sources[0])
    target = STREAM if str(target) in _STDOUT else target
    if several and target == STREAM:
        raise InputError(f"--out {STREAM} takes the result of one file; got {len(found)}")
    if several and target is not None and os.path.exists(target) and not os.path.isdir(target):
        raise InputError(f"--out {target} is a file; a folder takes the results of several files")

    # A single file may go to the very name that is asked for; what comes from stdin has no name of its own.
    if not several and target is not None and not os.path.isdir(target):
        return [Job(found[0].path, target, True)]
    if not several and found[0].path == STREAM:
        if target is not None:
            raise InputError(f"--out {target} is a folder; what comes from stdin has no name, so give a file")
        return [Job(STREAM, STREAM, False)]
    jobs = [Job(each.path, (target or each.folder) / result(each.name), False) for each in found]
    _check_apart(jobs, remedy)
    return jobs


def _check_apart(jobs: list[Job], remedy: str) -> None:
    """Refuse two inputs with one result, by the names that links stand for; both are named."""
    taken: dict[str, Job] = {}
    for job in jobs:
        other = taken.setdefault(os.path.realpath(job.goal), job)
        if other is not job:
            ways = "give them apart, with --out"
            if remedy and other.source.name != job.source.name:
                ways = f"{remedy}, or {ways}"
            raise InputError(f"{other.source} and {job.source} would both be written to {job.goal}: {ways}")


class Outputs:
    """Writes results so that no input, no earlier result and, without `force`, no file at all is replaced.

    Args:
        sources: all inputs of the command.
    """

    def __init__(self, sources: Iterable[Path], force: bool) -> None:
        self._force = force
        self._inputs = {found for source in sources if (found := _identity(source))}
        self._written: set[tuple[int, int]] = set()

    def check(self, goal: Path) -> None:
        """Refuse before the work what would be refused after it.

        Raises:
            InputError: the goal is an input, was just written, or exists and may not be replaced.
        """
        # Bytes are no text for a terminal; pipes and devices take whatever comes.
        if goal == STREAM:
            if sys.stdout.isatty():
                raise InputError("stdout is a terminal; give --out FILE, or send it to a file or a program")
            return
        if os.path.isdir(goal):
            raise InputError(f"{goal} is a folder")
        found = _identity(goal)
        if found in self._inputs:
            raise InputError(f"{goal} is an input; give another --out")
        if found in self._written:
            raise InputError(f"{goal} was just written, from another input; give another --out")
        if found and not self._force:
            raise InputError(f"{goal} exists; --force replaces it")

    def write(self, goal: Path, data: bytes) -> None:
        """The result, whole or not at all.

        Raises:
            InputError: as `check`, or it can't be written.
        """
        if goal == STREAM:
            self.check(goal)
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        with self.writing(goal) as stream:
            stream.write(data)

    @contextmanager
    def writing(self, goal: Path) -> Iterator[BinaryIO]:
        """A file to write the result to, which gets its name at the end, whole or not at all.

        Raises:
            InputError: as `check`, or it can't be written.
        """
        self.check(goal)
        try:
            with files.replacing(goal, keep=not self._force) as temporary, temporary.open("wb") as stream:
                yield stream
        except OSError as error:
            if isinstance(error, FileExistsError) and os.path.lexists(goal):
                raise InputError(f"{goal} exists; --force replaces it") from None
            raise InputError(f"{goal} can't be written: {error.strerror or error}") from None
        if found := _identity(goal):
            self._written.add(found)


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from every other, whatever its names; None where there is none, or a pipe or device."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


@contextmanager
def opened(source: Path) -> Iterator[BinaryIO]:
    """A file, or stdin, to be read once from its beginning to its end.

    Raises:
        InputError: it can't be read.
    """
    try:
        if source == STREAM:
            yield sys.stdin.buffer
        else:
            with source.open("rb") as stream:
                yield stream
    except OSError as error:
        raise InputError(f"{source} can't be read: {error.strerror or error}") from None


def read(source: Path) -> bytes:
    """All bytes of a file, or of stdin; `InputError` where it can't be read."""
    with opened(source) as stream:
        return stream.read()


def each(jobs: list[Job], one: Callable[[Job], Row], unit: str, as_json: bool) -> None:
    """Do one file after the other; what is refused is said, the rest is done, and the exit code is 2.

    Ctrl-C prints what was done until then.
    """
    # What goes to stdout is the result alone: what is said goes to stderr then.
    console = err if any(job.goal == STREAM for job in jobs) else out
    rows: list[Row] = []
    refused: list[Row] = []
    try:
        with Cells(unit) as bar:
            for number, job in enumerate(jobs, start=1):
                try:
                    with naming(job.source):
                        rows.append(one(job))
                except InputError as error:
                    refused.append({"file": str(job.source), "refused": str(error)})
                    say_error(error)
                if len(jobs) > 1 and err.is_terminal:
                    bar.show(number, len(jobs))
    except KeyboardInterrupt:
        _say(console, rows, refused, as_json)
        err.print(f"Interrupted: {len(rows)} of {len(jobs)} {unit} are done.")
        raise
    _say(console, rows, refused, as_json)
    if refused:
        raise typer.Exit(2)


def _say(console: Console, rows: list[Row], refused: list[Row], as_json: bool) -> None:
    """What was done, a table for each kind of result; as JSON what was refused, too."""
    if as_json:
        console.file.write(json.dumps([*rows, *refused], indent=2) + "\n")
        return
    kinds: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        kinds.setdefault(tuple(row), []).append(row)
    for alike in kinds.values():
        console.print(table(alike))


def table(rows: list[Row], title: str | None = None) -> Table:
    """Rows of equal keys."""
    shown = Table(*rows[0], title=title)
    for row in rows:
        cells = ("" if v is None else f"{v:,}" if isinstance(v, int) else str(v) for v in row.values())
        shown.add_row(*map(escape, cells))
    return shown


@contextmanager
def naming(source: Path) -> Iterator[None]:
    """What is refused in here says which file it is about."""
    name = "stdin" if source == STREAM else str(source)
    try:
        yield
    except InputError as error:
        if name in str(error):
            raise
        raise InputError(f"{name}: {error}") from None
