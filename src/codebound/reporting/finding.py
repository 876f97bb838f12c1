"""What a study says in words: the numbers choose the sentences, and every report shows them alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from codebound.reporting.formatting import typeset


@dataclass(frozen=True)
class Finding:
    """A sentence or two under a heading."""

    title: str
    text: str
    items: tuple[str, ...] = ()  # a list after the text


def typeset_all(found: Iterable[Finding | None]) -> list[Finding]:
    """Those that there are, their numbers and signs as they look in print."""
    return [Finding(f.title, typeset(f.text), tuple(map(typeset, f.items))) for f in found if f is not None]
