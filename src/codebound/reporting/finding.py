"""What a study says in words: the numbers choose the sentences, and every report shows them alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from codebound.reporting.formatting import typeset
from codebound.reporting.statistics import Interval


@dataclass(frozen=True)
class Finding:
    """A sentence or two under a heading."""

    title: str
    text: str
    items: tuple[str, ...] = ()  # a list after the text


def typeset_all(findings: Iterable[Finding | None]) -> list[Finding]:
    """Those that there are, their numbers and signs as they look in print."""
    return [
        Finding(f.title, typeset(f.text), tuple(map(typeset, f.items))) for f in findings if f is not None
    ]


def sides(differences: Mapping[str, Interval], above: str, below: str, undecided: str) -> str:
    """Which of several differences are above 0, below it or undecided, in words: "closer than A and B, not told apart
    from C", from the words before the names. A side without a name is left out."""
    groups: dict[str, list[str]] = {above: [], below: [], undecided: []}
    for name, interval in differences.items():
        groups[above if interval.above(0) else below if interval.below(0) else undecided].append(name)
    return ", ".join(f"{words} {' and '.join(names)}" for words, names in groups.items() if names)
