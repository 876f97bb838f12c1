"""What a study says: the answer first, then sentences, figures beside text, tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from codebound.reporting.finding import Finding
from codebound.reporting.tables import ResultTable

MOST_SENTENCES = 5


@dataclass(frozen=True)
class Illustration:
    """A figure of the page, and a file under figures/: drawn here, or a picture that a cell left."""

    name: str
    picture: Callable[[], Figure] | Path  # drawn only when a page is written
    alt: str  # for who can't see it
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading: text beside figures; its tables come together further down.

    `block` is a study's own HTML, from `page.render` of its template.
    """

    title: str
    text: str = ""
    figures: Sequence[Illustration] = ()
    tables: Sequence[ResultTable] = ()
    block: Markup = field(default_factory=Markup)


@dataclass(frozen=True)
class Content:
    """Everything that a study says of a run.

    Attributes:
        title: of the page.
        answer: one or two sentences in plain words; they come first.
        sentences: at most five more.
        findings: what else was found, with its numbers, folded away on the page.
        method: how it was measured, a point each.
        results: the study's own keys of results.json.

    Raises:
        ValueError: more than five sentences.
    """

    title: str
    answer: str
    sentences: Sequence[str] = ()
    sections: Sequence[Section] = ()
    findings: Sequence[Finding] = ()
    method: Sequence[str] = ()
    results: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.sentences) > MOST_SENTENCES:
            raise ValueError(f"{len(self.sentences)} sentences after the answer; at most {MOST_SENTENCES}")
