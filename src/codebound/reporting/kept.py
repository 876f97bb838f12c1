"""What a finished run says, small enough to be kept in a repository: settings, findings, figures, claims with verdicts.

A page of results is written from such files, so that it needs no run folder, which may take gigabytes and hours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from codebound.errors import InputError
from codebound.reporting import page
from codebound.reporting.claims import Level, Status, Verdict
from codebound.reporting.formatting import interval_text
from codebound.reporting.long_table import LongTable

DIGITS = 6  # significant ones of a kept figure


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KeptCase(_Record):
    """One measurement that tested a claim."""

    measured_on: str  # for a reader; "–" where there was none
    shown: str  # the centre and its 95 % interval, as a page shows them
    measured: dict[str, float | int | str | None] | None  # the same as numbers, null where not finite
    verdict: Status


class KeptClaim(_Record):
    """One claim with its cases; the first one decides."""

    id: str
    topic: str
    source: str
    statement: str
    claimed: str
    reason: str  # a sentence, or nothing
    cases: tuple[KeptCase, ...] = Field(min_length=1)


class KeptRow(_Record):
    """Every metric at these levels, over the seeds: (mean, low, high) of the 95 % interval, null where not finite."""

    levels: dict[str, Level]
    seeds: int
    figures: dict[str, tuple[float | None, float | None, float | None]]


class KeptRun(_Record):
    """A run: what was asked, how and when it was run, what it says."""

    study: str
    question: str
    command: str
    version: str  # of codebound
    machine: str
    date: str  # of its last cell, YYYY-MM-DD
    settings: dict[str, Any] = {}  # none of what was kept from a page, before runs were
    answer: str = ""
    sentences: tuple[str, ...] = ()
    claims: tuple[KeptClaim, ...] = ()
    metrics: dict[str, str] = {}  # by name, what a reader sees, with its unit
    rows: tuple[KeptRow, ...] = ()

    @property
    def anchor(self) -> str:
        """The name under which a page's heading is linked to."""
        return re.sub(r"[^\w\- ]", "", self.question.lower()).replace(" ", "-")

    @property
    def counts(self) -> dict[str, int]:
        """How many claims have each verdict, by the case that decides."""
        verdicts = [claim.cases[0].verdict for claim in self.claims]
        return {status.value: verdicts.count(status) for status in Status}

    @property
    def topics(self) -> list[tuple[str, str, list[KeptClaim]]]:
        """(topic, source, claims), in the ledger's order."""
        groups = groupby(self.claims, lambda claim: (claim.topic, claim.source))
        return [(topic, source, list(claims)) for (topic, source), claims in groups]

    def text(self) -> str:
        """As JSON: a line for each case and each row of figures."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        lines = [
            f' "{key}": [{",".join(_item(item) for item in value)}\n ]'
            if key in ("claims", "rows")
            else f' "{key}": {_line(value)}'
            for key, value in values.items()
        ]
        return "{\n" + ",\n".join(lines) + "\n}\n"


def read(path: Path) -> list[KeptRun]:
    """The run of a file, or those of a folder by the names of their files.

    Raises:
        InputError: there is no such file, or one that holds no kept run.
    """
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise InputError(f"{path} holds neither a run nor files of kept runs (*.json)")
        return [run for file in files for run in read(file)]
    try:
        return [KeptRun.model_validate_json(path.read_text(encoding="utf-8"))]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "JSON"
        raise InputError(f"{path} is no file of codebound study keep: {where}: {first['msg']}") from None


def kept_claims(verdicts: Sequence[Verdict]) -> tuple[KeptClaim, ...]:
    """Verdicts as they are kept: of each claim the cases that a page shows."""
    groups = (cases for _, claims in page.ledger(verdicts) for cases in claims)
    return tuple(
        KeptClaim(
            id=cases[0].claim.id,
            topic=cases[0].claim.topic,
            source=cases[0].claim.source,
            statement=cases[0].claim.statement,
            claimed=cases[0].claim.expect.text,
            reason=cases[0].reason,
            cases=tuple(map(_case, cases)),
        )
        for cases in groups
    )


def kept_rows(table: LongTable) -> tuple[KeptRow, ...]:
    """The long table with its seeds drawn together; levels that several cells of one seed share are left out."""
    alike: dict[tuple[tuple[str, Level], ...], None] = {}
    for record in table.records:
        alike[tuple((name, level) for name, level in record.levels.items() if name != table.repeats)] = None
    rows = []
    for key in alike:
        levels = dict(key)
        # A record without a factor is a row of its own: None asks for those that lack it.
        asked: Mapping[str, Level] = {
            name: levels.get(name) for name in table.factors if name != table.repeats
        }
        try:
            found = {name: table.measured(name, **asked) for name in table.metric}
        except ValueError:
            continue
        known = {name: interval for name, interval in found.items() if interval is not None}
        if known:
            figures = {name: (_short(i.mean), _short(i.low), _short(i.high)) for name, i in known.items()}
            rows.append(KeptRow(levels=levels, seeds=max(i.n for i in known.values()), figures=figures))
    return tuple(rows)


def markdown(runs: Sequence[KeptRun], command: str) -> str:
    """The claims of these runs as a page: what is claimed, by whom, what was measured; `command` is what writes it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("codebound", "reporting"),
        autoescape=False,  # Markdown, not HTML
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    text = environment.get_template("claims.md.j2").render(
        runs=runs, command=command, statuses=[status.value for status in Status]
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _case(verdict: Verdict) -> KeptCase:
    interval = verdict.interval
    return KeptCase(
        measured_on=verdict.case.label if verdict.case else "–",
        shown="–" if interval is None else interval_text(interval),
        measured=interval.to_json() if interval else None,
        verdict=verdict.status,
    )


def _short(x: float) -> float | None:
    return float(f"{x:.{DIGITS}g}") if abs(x) < float("inf") else None


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _item(item: dict[str, Any]) -> str:
    """A row on a line; a claim's cases on a line each."""
    if "cases" not in item:
        return f"\n  {_line(item)}"
    head = _line({key: value for key, value in item.items() if key != "cases"})[:-1]
    return f'\n  {head}, "cases": [' + ",".join(f"\n   {_line(case)}" for case in item["cases"]) + "]}"
