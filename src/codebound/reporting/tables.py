"""The claims ledger on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from codebound.reporting.claims import Status, Verdict
from codebound.reporting.formatting import interval_text

_STYLES = {
    Status.CONFIRMED: "green",
    Status.REFUTED: "red",
    Status.INCONCLUSIVE: "yellow",
    Status.NOT_TESTABLE: "dim",
}
_SHORT = {s: ("NOT TESTABLE" if s is Status.NOT_TESTABLE else s.value) for s in Status}


def claims_table(verdicts: Sequence[Verdict], *, every_case: bool = False) -> Table:
    """The ledger for a terminal of 100 columns; only the deciding case of each claim unless `every_case`."""
    table = Table(title="Claims: what the documents say, and what this run measured", expand=False)
    table.add_column("Row", no_wrap=True)
    table.add_column("Claim", max_width=44)
    table.add_column("Claimed", justify="right", no_wrap=True)
    table.add_column("Measured, 95 %", justify="right")
    table.add_column("Verdict", no_wrap=True)
    for v in verdicts:
        if not (v.main or every_case):
            continue
        where = f" [dim]({v.case.label})[/dim]" if every_case and v.case else ""
        measured = "–" if v.interval is None else interval_text(v.interval)
        style = _STYLES[v.status]
        table.add_row(
            v.claim.row,
            v.claim.statement + where,
            v.claim.expect.text,
            measured,
            f"[{style}]{_SHORT[v.status]}[/{style}]",
        )
    return table
