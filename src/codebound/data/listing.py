"""The files below a folder: those of some kind, and what was passed over."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from codebound.errors import InputError

NAMED = 5  # files that a sentence names


class Listing(NamedTuple):
    """Names relative to a folder, with `/` between their parts, sorted by these.

    Attributes:
        names: of the files that were asked for.
        passed_over: of all others that are not hidden, links to nothing among them.
    """

    names: list[str]
    passed_over: list[str]

    def said(self) -> str:
        """What was passed over, in a sentence; "" if nothing was."""
        if not self.passed_over:
            return ""
        more = len(self.passed_over) - NAMED
        rest = f" and {more:,} more" if more > 0 else ""
        return f"passed over: {', '.join(self.passed_over[:NAMED])}{rest}"


def files_below(path: str | Path, suffixes: Iterable[str], what: str) -> Listing:
    """The files below a folder with one of these suffixes, in capitals or not. A million of them take seconds.

    What is hidden is neither listed nor walked through, `._a.jpg` of macOS neither.

    Args:
        what: they are, for messages.

    Raises `InputError` if the folder is missing or has no such file.
    """
    root, accepted = Path(path), frozenset(suffixes)
    if not root.is_dir():
        raise InputError(
            f"path is {str(root)!r}, which is not a folder; one with at least one {what} is accepted"
        )
    names: list[str] = []
    passed_over: list[str] = []
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if not name.startswith(".")]
        prefix = "" if Path(folder) == root else Path(folder).relative_to(root).as_posix() + "/"
        for name in files:
            if name.startswith("."):
                continue
            fits = os.path.splitext(name)[1].lower() in accepted and os.path.isfile(
                os.path.join(folder, name)
            )
            (names if fits else passed_over).append(prefix + name)
    if not names:
        raise InputError(f"folder {str(root)!r} holds no {what}; accepted: {', '.join(suffixes)}")
    return Listing(*(sorted(found, key=lambda name: name.split("/")) for found in (names, passed_over)))


def warn_passed_over(path: str | Path, listing: Listing) -> None:
    """Say as a warning what of a folder was passed over, if anything was."""
    if said := listing.said():
        warnings.warn(f"folder {path}: {said}", stacklevel=3)
