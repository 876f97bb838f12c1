"""HTML reports: one look, self-contained pages, numbers with their intervals."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from codebound import config
from codebound.reporting.claims import Status, Verdict
from codebound.reporting.formatting import number
from codebound.reporting.statistics import Interval
from codebound.reporting.tables import cell_html


def render(template: str, **context: Any) -> str:
    """The page of a template of the package (`runs/report.html.j2`); a name that it lacks is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("codebound", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {
        "interval": interval_html,
        "value": cell_html,
    }
    return environment.get_template(template).render(**context)


def fragment(template: str, **context: Any) -> Markup:
    """A part of a page, from a template of the package."""
    return Markup(render(template, **context))


def embed(path: Path) -> str:
    """A PNG or GIF as the address of an image."""
    return embed_bytes(path.read_bytes(), path.suffix[1:])


def embed_bytes(content: bytes, kind: str) -> str:
    """An image of this kind (png, gif) as its address."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def ledger(verdicts: Sequence[Verdict]) -> list[tuple[str, list[list[Verdict]]]]:
    """Verdicts by topic, then by claim, in the file's order."""
    by_claim = [list(group) for _, group in groupby(verdicts, key=lambda v: v.claim.id)]
    # One line is enough where no case can be tested, and all for the same reason.
    by_claim = [
        g[:1] if len({(v.status, v.reason) for v in g}) == 1 and not g[0].interval else g for g in by_claim
    ]
    return [
        (topic, list(group)) for topic, group in groupby(by_claim, key=lambda group: group[0].claim.topic)
    ]


def brief(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """One verdict for each claim, by the case that decides: for a short page, beside results.json, which has it all.

    Its reason is the first sentence, said once where claims in a row share it; or where other cases are refuted.
    """
    said, short = "", []
    for _, cases in groupby(verdicts, key=lambda verdict: verdict.claim.id):
        main, *others = cases
        if main.status in (Status.REFUTED, Status.NOT_TESTABLE):
            sentence = main.reason.split(". ")[0].rstrip(".")
            reason = "as above" if sentence == said else sentence
            said = sentence
        else:
            refuted = [v.case.label for v in others if v.status is Status.REFUTED and v.case]
            reason = f"refuted on: {'; '.join(refuted)}" if refuted else ""
        short.append(replace(main, reason=reason))
    return short


def count(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """How many claims have each verdict, by the case that each is judged by."""
    counts = Counter(v.status for v in verdicts if v.main)
    return {s.value: counts[s] for s in Status}


def settings_text(settings: config.Settings) -> str:
    """All settings as YAML, lists on one line."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, default_flow_style=None)


def interval_html(interval: Interval | None, digits: int | None = None, fixed: bool = False) -> Markup:
    """The centre, with the interval in small print under it; `fixed`: none where all seeds agree."""

    def show(x: float) -> str:
        return number(x) if digits is None or abs(x) == float("inf") else f"{x:.{digits}f}"

    if interval is None or interval.n == 0:
        return Markup("–")
    if interval.kind == "median" and interval.mean == float("inf"):
        return Markup("never<small>{} of {} seeds</small>").format(interval.never, interval.n)
    if not interval.known or (fixed and math.isclose(interval.low, interval.high, rel_tol=1e-9)):
        return Markup("{}").format(show(interval.mean))
    return Markup("{}<small>[{}, {}]</small>").format(
        show(interval.mean), show(interval.low), show(interval.high)
    )
