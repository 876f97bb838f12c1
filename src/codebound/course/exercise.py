"""What an exercise is, and how an answer is tried."""

from __future__ import annotations

import importlib
import importlib.util
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from codebound.errors import InputError

Kind = Literal["understanding", "extension", "theory", "implementation", "research"]
State = Literal["right", "wrong", "not answered"]

# Chapters in the course's order, and the module that has their tasks.
CHAPTERS: dict[str, str] = {
    "scalar": "codes", "vector": "codes", "rate-distortion": "bounds", "random-codebooks": "bounds",
    "vqvae": "training", "straight-through": "training", "ema": "training", "dead-codes": "training",
    "blahut-arimoto": "bounds", "structured": "codes", "information": "bounds", "hierarchies": "models",
    "adversarial": "models", "priors": "models", "sound": "sounds", "half-decibel": "codes", "judging": "models",
}  # fmt: skip
ANSWER = "codebound_answer"  # the name of a reader's module while it is tried
SECONDS = 60  # that a file, or an answer to a task, may take
_TASKS: dict[str, list[Task]] = {}


class Wrong(Exception):
    """An answer is not right; the message is the hint."""


@dataclass(frozen=True)
class Task:
    """A question with a name, which an answer's file defines, and what tries the answer."""

    name: str
    kind: Kind
    question: str
    tried: Callable[[Any], None]


@dataclass(frozen=True)
class Result:
    """What came of a task: its state, and a hint where the answer is wrong."""

    name: str
    kind: Kind
    state: State
    hint: str = ""


def task(chapter: str, kind: Kind) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a function that raises `Wrong` as a task of a chapter; its name and docstring are the task's."""

    def add(tried: Callable[[Any], None]) -> Callable[[Any], None]:
        _TASKS.setdefault(chapter, []).append(
            Task(tried.__name__, kind, (tried.__doc__ or "").strip(), tried)
        )
        return tried

    return add


def tasks(chapter: str) -> list[Task]:
    """The tasks of a chapter.

    Raises:
        InputError: there is no such chapter.
    """
    if chapter not in CHAPTERS:
        raise InputError(f"there is no chapter {chapter!r}; there are {', '.join(CHAPTERS)}")
    importlib.import_module(f"codebound.course.{CHAPTERS[chapter]}")
    return _TASKS[chapter]


def check(chapter: str, file: str | Path) -> list[Result]:
    """Run a reader's file and try what it defines: a result for each task of the chapter.

    The file is Python and is executed: give it your own only.

    Raises:
        InputError: no such chapter or file, a file that can't be run, or one without any of the chapter's names.
    """
    wanted = tasks(chapter)
    answers = _load(Path(file))
    results = [_try(one, answers) for one in wanted]
    if all(result.state == "not answered" for result in results):
        raise InputError(f"{file} defines none of {', '.join(one.name for one in wanted)}")
    return results


def _load(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise InputError(f"there is no file {file}")
    # Dataclasses look for the module that they are defined in.
    module = ModuleType(ANSWER)
    module.__file__ = str(file)
    sys.modules[ANSWER] = module
    try:
        code = compile(file.read_text(encoding="utf-8"), str(file), "exec", dont_inherit=True)
        with _limited():
            exec(code, module.__dict__)
    except (Exception, SystemExit, _TooLong) as error:
        raise InputError(f"{file} can't be run: {_said(error)}") from error
    return module.__dict__


class _TooLong(BaseException):
    """Time is up; no Exception, which an answer might catch."""


@contextmanager
def _limited() -> Iterator[None]:
    """`SECONDS` for what is inside, where alarms exist: not in other threads than the first, nor on Windows."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: Any) -> None:
        raise _TooLong(f"it did not end within {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _said(error: BaseException) -> str:
    """What happened in a reader's code, in words."""
    if isinstance(error, _TooLong):
        return str(error)
    if isinstance(error, SystemExit):
        return "it calls exit"
    return f"it raised {type(error).__name__}: {error}"


def _try(one: Task, answers: dict[str, Any]) -> Result:
    if one.name not in answers:
        return Result(one.name, one.kind, "not answered")
    answer, called = answers[one.name], ""

    def noted(*arguments: Any) -> Any:
        """The reader's function; what it was last called with is told beside the hint."""
        nonlocal called
        called = f"{one.name}({', '.join(map(_short, arguments))}): "
        return answer(*arguments)

    try:
        with _limited():
            one.tried(noted if callable(answer) else answer)
    except Wrong as wrong:
        return Result(one.name, one.kind, "wrong", called + str(wrong))
    except (Exception, SystemExit, _TooLong) as error:
        return Result(one.name, one.kind, "wrong", called + _said(error))
    return Result(one.name, one.kind, "right")


def _short(value: Any) -> str:
    """An argument as it is told: numbers and small arrays as they are, of the rest the kind and shape."""
    if hasattr(value, "shape"):
        array = np.asarray(_plain(value), dtype=float)
        return f"array({np.round(array, 3).tolist()})" if array.size <= 8 else f"array of shape {array.shape}"
    if callable(value):
        return getattr(value, "__name__", "a function")
    if isinstance(value, list | tuple) and any(hasattr(part, "shape") for part in value):
        return f"{len(value)} arrays"
    return repr(value)


def expect(found: Any, wanted: Any, hint: str, *, relative: float = 1e-4, absolute: float = 1e-7) -> None:
    """Numbers or arrays are alike.

    Raises:
        Wrong: another shape, or other numbers; what was found is said, and the hint.
    """
    got = np.asarray(_plain(found), dtype=float)
    right = np.asarray(_plain(wanted), dtype=float)
    if got.shape != right.shape:
        raise Wrong(f"the shape is {got.shape}, {right.shape} is wanted. {hint}")
    if not np.allclose(got, right, rtol=relative, atol=absolute):
        shown = f"{float(got):.5g}" if got.ndim == 0 else f"{np.round(got.ravel()[:4], 4).tolist()} …"
        raise Wrong(f"got {shown}. {hint}")


def require(condition: Any, hint: str) -> None:
    """Raise `Wrong` with the hint unless the condition holds."""
    if not bool(condition):
        raise Wrong(hint)


def _plain(value: Any) -> Any:
    """Tensors without their graph, and functions given where a number is asked for, said so."""
    if callable(value):
        raise Wrong("a number is asked for, this is a function")
    if hasattr(value, "detach"):
        return value.detach().numpy()
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return value
