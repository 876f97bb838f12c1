"""The report: results.json, figures/*.png and one self-contained report.html in the run folder."""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.resources import as_file, files
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from codebound.files import write_text
from codebound.studies import claims, formatting
from codebound.studies.claims import Status, Verdict
from codebound.studies.initialisation import figures, findings, labels
from codebound.studies.initialisation.recommendation import ranking, recommendation
from codebound.studies.initialisation.rundata import StudyData, facts, load, lookup
from codebound.studies.initialisation.summary import BASELINE, Row, Summary, summarise
from codebound.studies.statistics import Interval

_HERE = files("codebound.studies.initialisation")

LIMIT_TEXT = {
    "shannon": (
        "Shannon bound",
        "No code of this rate, however long its blocks, has a smaller error. Water-filled where variances differ.",
    ),
    "converse": (
        "Certified converse",
        "No codebook of exactly this n and k has a smaller error (linear programming, dual certificate).",
    ),
    "best_known": (
        "Best code known",
        "The smallest error of any code of this n and k found for this project.",
    ),
    "random_codebook": (
        "Random codewords",
        "What random Gaussian codewords of the right (water-filled) spectrum are expected to have, untrained.",
    ),
    "gaussian_reference": (
        "Gaussian reference",
        "The bound of the Gaussian with the same covariance. Real data can do better: a reference, not a bound.",
    ),
    "isotropic_formula": (
        "k·σ²·2^(−2R)",
        "The documents' formula. A bound only where all variances are equal.",
    ),
}


ESTIMATED_TEXT = (
    "Shannon lower bound, estimated",
    "No code of this rate has a smaller error. It rests on an entropy estimated from samples: in brackets the range "
    "of that estimate.",
)


def write(out: Path) -> Path:
    """Write results.json, the figures and report.html of a run, finished or not; returns the page's path.

    Each file is written beside its place and renamed, so that a reader never sees half of one.

    Raises:
        InputError: not a run of this study, no finished cell, or files that can't be read.
    """
    out = Path(out)
    data = load(out)
    summary = summarise(data)
    verdicts = judge(data)
    pictures = figures.write_figures(out / "figures", data, summary)
    write_text(out / "results.json", json.dumps(results(data, summary, verdicts), indent=1, allow_nan=False))
    page = out / "report.html"
    write_text(page, _render(data, summary, verdicts, pictures))
    return page


def judge(data: StudyData) -> list[Verdict]:
    """The verdicts of this study's own claims."""
    with as_file(_HERE.joinpath("claims.yaml")) as path:
        ledger = claims.load_claims(path)
    return claims.judge(ledger, lookup(data), facts(data))


def results(data: StudyData, summary: Summary, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The content of results.json."""
    return {
        **data.study,
        "settings": data.settings.model_dump(mode="json"),
        **summary.to_dict(),
        "findings": [asdict(f) for f in findings.findings(summary, verdicts)],
        "recommendation": recommendation(summary),
        "claims": [v.to_json() for v in verdicts],
    }


def _render(
    data: StudyData, summary: Summary, verdicts: Sequence[Verdict], pictures: dict[str, dict[str, Path]]
) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {
        "interval": _interval_html,
        "percent": _percent_html,
        "number": formatting.number,
        "log2": _log2,
    }
    template = environment.from_string(_HERE.joinpath("report.html.j2").read_text(encoding="utf-8"))
    counts = Counter(v.status for v in verdicts if v.main)
    return template.render(
        data=data,
        summary=summary,
        baseline=labels.look(BASELINE).name,
        findings=findings.findings(summary, verdicts),
        recommendation=recommendation(summary),
        ranks=ranking(summary),
        ledger=_ledger(verdicts),
        counts={s.value: counts[s] for s in Status},
        tiles=_tiles(summary, counts),
        sections=[_section(summary, source, pictures[source]) for source in summary.sources],
        look=labels.look,
        name=labels.source_name,
        families=labels.FAMILIES,
        settings=yaml.safe_dump(
            data.settings.model_dump(mode="json"), sort_keys=False, default_flow_style=None
        ),
    )


def _log2(n: int) -> str:
    return f"{math.log2(n):.4g}"


def _tiles(summary: Summary, counts: Counter[Status]) -> list[tuple[str, str]]:
    """The numbers to see first."""
    tested = sum(n for s, n in counts.items() if s is not Status.NOT_TESTABLE)
    tiles = (
        [(f"{counts[Status.REFUTED]} of {tested}", "tested claims of the documents refuted")]
        if tested
        else []
    )
    for source in summary.sources:
        estimated = summary.estimated(source)
        name = "final_gaussian_reference_db" if estimated else "final_gap_db"
        gaps = [r.metrics[name].mean for r in summary.select(source) if name in r.metrics]
        if gaps:
            value = formatting.typeset(f"{min(gaps):+.2f} dB" if estimated else f"{min(gaps):.2f} dB")
            what = "to the Gaussian of equal covariance" if estimated else "above the Shannon bound"
            tiles.append((value, f"{labels.source_name(source)}: best end {what}"))
    return tiles


def _section(summary: Summary, source: str, pictures: dict[str, Path]) -> dict[str, Any]:
    limits = summary.limits[source]
    estimated = summary.estimated(source)
    names = [k for k in LIMIT_TEXT if k in limits and (estimated or k != "gaussian_reference")]
    shown = {k: (*LIMIT_TEXT[k], limits[k]) for k in names}
    if estimated:
        low, high = (limits[f"shannon_{side}"].mean for side in ("low", "high"))
        shown["shannon"] = (*ESTIMATED_TEXT, replace(limits["shannon"], low=low, high=high))
    tuned = [o for o in summary.optimizers(source) if o != "adam"]
    return {
        "source": source,
        "title": labels.source_name(source),
        "text": labels.SOURCES.get(source, ("", ""))[1],
        "estimated": estimated,
        "limits": list(shown.values()),
        "rows": summary.select(source),
        "tuned": [(labels.OPTIMIZERS.get(o, o), summary.select(source, o)) for o in tuned],
        "best": _best(summary.select(source)),
        "pictures": {name: _embed(path) for name, path in pictures.items()},
    }


def _best(rows: Sequence[Row]) -> str:
    """The arm with the smallest error after training."""
    return min(rows, key=lambda r: r.metrics["final_fresh_distortion"].mean).arm if rows else ""


def _ledger(verdicts: Sequence[Verdict]) -> list[tuple[str, list[list[Verdict]]]]:
    """Verdicts by mission row, then by claim, in the file's order."""
    by_claim = [list(group) for _, group in groupby(verdicts, key=lambda v: v.claim.id)]
    # One line is enough where no case can be tested, and all for the same reason.
    by_claim = [
        g[:1] if len({(v.status, v.reason) for v in g}) == 1 and not g[0].interval else g for g in by_claim
    ]
    return [(row, list(group)) for row, group in groupby(by_claim, key=lambda group: group[0].claim.row)]


def _embed(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _interval_html(interval: Interval | None, digits: int | None = None, fixed: bool = False) -> Markup:
    """The centre, with the interval in small print under it; `fixed`: none where all seeds agree."""

    def show(x: float) -> str:
        return formatting.number(x) if digits is None or abs(x) == float("inf") else f"{x:.{digits}f}"

    if interval is None or interval.n == 0:
        return Markup("–")
    if interval.kind == "median" and interval.mean == float("inf"):
        return Markup("never<small>{} of {} seeds</small>").format(interval.never, interval.n)
    if not interval.known or (fixed and math.isclose(interval.low, interval.high, rel_tol=1e-9)):
        return Markup("{}").format(show(interval.mean))
    return Markup("{}<small>[{}, {}]</small>").format(
        show(interval.mean), show(interval.low), show(interval.high)
    )


def _percent_html(interval: Interval | None) -> Markup:
    """A signed percentage, coloured when its interval excludes zero."""
    if interval is None or interval.n == 0:
        return Markup("–")
    side = "worse" if interval.above(0) else "better" if interval.below(0) else ""
    digits = 1 if abs(interval.mean) < 100 else 0
    parts = (
        f"{interval.mean:+.{digits}f}\u00a0%",
        f"[{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]",
    )
    centre, bounds = (part.replace("-", "−") for part in parts)
    return Markup('<span class="{}">{}<small>{}</small></span>').format(
        side, centre, bounds if interval.known else ""
    )
