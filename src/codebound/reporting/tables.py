"""Tables of results, described once and shown on a terminal and on a page; the claims ledger on a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from markupsafe import Markup
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from codebound.reporting.claims import Status, Verdict
from codebound.reporting.formatting import interval_text, number, typeset, unknown
from codebound.reporting.long_table import Metric
from codebound.reporting.statistics import Interval

_STYLES = {
    Status.CONFIRMED: "green",
    Status.REFUTED: "red",
    Status.INCONCLUSIVE: "yellow",
    Status.NOT_TESTABLE: "dim",
}
_SHORT = {s: ("NOT TESTABLE" if s is Status.NOT_TESTABLE else s.value) for s in Status}


class Swatch(NamedTuple):
    """A name with the colour that it has in the figures."""

    colour: str
    name: str


Value = Interval | Swatch | float | int | str | None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        kind: "number"; "change", signed, coloured by `better` where its interval excludes 0; "gap", which says "not
            known" where its interval is useless; "share", a fraction shown in per cent; "text", on the left.
        digits: after the point; four significant ones unless given.
        terminal: whether it is shown on a terminal, which has room for few.
    """

    title: str
    digits: int | None = None
    kind: Literal["number", "change", "gap", "share", "text"] = "number"
    better: Literal["more", "less"] | None = None
    terminal: bool = True

    @classmethod
    def of(cls, metric: Metric, *, terminal: bool = True) -> Column:
        """The column of a metric: its label with its unit."""
        return cls(
            f"{metric.label}, {metric.unit}" if metric.unit else metric.label,
            metric.digits,
            better=metric.better,
            terminal=terminal,
        )


@dataclass(frozen=True)
class ResultTable:
    """Rows of values under columns; a row that is a text is a heading over those that follow."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value] | str]
    note: str = ""
    best: int | None = None  # the row to be seen first


def terminal_table(table: ResultTable) -> Table:
    """For a terminal: the columns that are meant for it, an interval as 2.672 [2.668, 2.676]."""
    shown = [i for i, column in enumerate(table.columns) if column.terminal]
    rich = Table(title=escape(table.title), box=SIMPLE, padding=(0, 1, 0, 0))
    for place in shown:
        column = table.columns[place]
        left = column.kind == "text" or place == 0
        rich.add_column(escape(column.title), justify="left" if left else "right", no_wrap=place == 0)
    for index, row in enumerate(table.rows):
        if isinstance(row, str):
            rich.add_row(f"[dim]{escape(row)}[/dim]")
            continue
        cells = [escape(cell_text(table.columns[place], row[place])) for place in shown]
        rich.add_row(*cells, style="bold" if index == table.best else "")
    return rich


def cell_text(column: Column, value: Value) -> str:
    """A value in one line."""
    if value is None or (isinstance(value, Interval) and value.n == 0):
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, Swatch):
        return value.name
    if not isinstance(value, Interval):
        return _figure(column, value)
    if column.kind == "gap" and unknown(value):
        return "not known"
    if not math.isfinite(value.mean):
        return interval_text(value)
    bounds = f" [{_figure(column, value.low)}, {_figure(column, value.high)}]" if value.known else ""
    return _figure(column, value.mean) + bounds


def cell_html(column: Column, value: Value) -> Markup:
    """A value on a page: its interval in small print under it."""
    if isinstance(value, Swatch):
        dot = Markup('<span class="dot" style="background:{}"></span>{}')
        return dot.format(value.colour, value.name)
    if not isinstance(value, Interval) or value.n == 0:
        return Markup("{}").format(cell_text(column, value))
    if column.kind == "gap" and (reason := unknown(value)):
        return Markup("not known<small>{}</small>").format(typeset(reason))
    if value.mean == math.inf:
        return Markup("never<small>{} of {} seeds</small>").format(value.never, value.n)
    parts = Markup("{}").format(_figure(column, value.mean))
    if value.known:
        low, high = (_figure(column, bound) for bound in (value.low, value.high))
        parts += Markup("<small>[{}, {}]</small>").format(low, high)
    side = _side(column, value) if column.kind == "change" else ""
    return Markup('<span class="{}">{}</span>').format(side, parts) if side else parts


def _side(column: Column, value: Interval) -> str:
    """Whether a change is for the better or the worse; nothing where its interval holds 0."""
    up, down = value.above(0), value.below(0)
    if column.better is None or not (up or down):
        return ""
    return "better" if up == (column.better == "more") else "worse"


def _figure(column: Column, value: float | int) -> str:
    if not math.isfinite(value):
        return number(value)
    scaled = 100 * value if column.kind == "share" else value
    sign = "+" if column.kind == "change" else ""
    plus = sign if scaled >= 0 else ""
    text = plus + number(scaled) if column.digits is None else f"{scaled:{sign},.{column.digits}f}"
    return typeset(text + (" %" if column.kind == "share" else ""))


def claims_table(verdicts: Sequence[Verdict]) -> Table:
    """The ledger for a terminal of 100 columns, with the deciding case of each claim."""
    table = Table(
        title="Claims: what others say, and what this run measured (results.json says on what, and has more cases)",
        expand=False,
    )
    table.add_column("Claim", max_width=54)
    table.add_column("Claimed", justify="right", no_wrap=True)
    table.add_column("Measured, 95 %", justify="right")
    table.add_column("Verdict", no_wrap=True)
    topic = ""
    for v in verdicts:
        if not v.main:
            continue
        if v.claim.topic != topic:
            topic = v.claim.topic
            table.add_row(f"[bold]{topic}[/bold]")
        measured = "–" if v.interval is None else interval_text(v.interval)
        style = _STYLES[v.status]
        table.add_row(
            escape(v.claim.statement),
            v.claim.expect.text,
            measured,
            f"[{style}]{_SHORT[v.status]}[/{style}]",
        )
    return table


def plain_rows(table: ResultTable) -> list[dict[str, Any]]:
    """The rows for a program: what is not finite is null, an interval is a dictionary."""

    def plain(value: Value) -> Any:
        if isinstance(value, Interval):
            return value.to_json()
        if isinstance(value, Swatch):
            return value.name
        return None if isinstance(value, float) and not math.isfinite(value) else value

    titles = [column.title for column in table.columns]
    rows = [row for row in table.rows if not isinstance(row, str)]
    return [dict(zip(titles, map(plain, row), strict=True)) for row in rows]
