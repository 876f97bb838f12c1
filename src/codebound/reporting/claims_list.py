"""The claims of several studies as one Markdown page: what is claimed, by whom, what was measured, the verdict."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import jinja2

from codebound.reporting import page
from codebound.reporting.claims import Status, Verdict
from codebound.reporting.formatting import interval_text


@dataclass(frozen=True)
class StudyLedger:
    """A study's verdicts, and the run that they are from."""

    name: str
    question: str
    command: str  # of the run
    version: str  # of codebound
    machine: str
    verdicts: Sequence[Verdict]

    @property
    def anchor(self) -> str:
        """The name under which a page's heading is linked to."""
        return re.sub(r"[^\w\- ]", "", self.question.lower()).replace(" ", "-")

    @property
    def counts(self) -> dict[str, int]:
        """How many claims have each verdict."""
        return page.count(self.verdicts)

    @property
    def topics(self) -> list[tuple[str, str, list[list[Verdict]]]]:
        """(topic, source, the verdicts of each claim), in the ledger's order."""
        claims = [group for _, groups in page.ledger(self.verdicts) for group in groups]
        return [
            (topic, source, list(group))
            for (topic, source), group in groupby(claims, lambda c: (c[0].claim.topic, c[0].claim.source))
        ]


def markdown(studies: Sequence[StudyLedger], command: str) -> str:
    """The page, of studies that have claims; `command` is what writes it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("codebound", "reporting"),
        autoescape=False,  # Markdown, not HTML
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    text = environment.get_template("claims.md.j2").render(
        studies=studies, command=command, statuses=[status.value for status in Status], measured=_measured
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _measured(verdict: Verdict) -> str:
    return "–" if verdict.interval is None else interval_text(verdict.interval)
