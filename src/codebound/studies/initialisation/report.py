"""The report: results.json, figures/*.png and one self-contained report.html in the run folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from codebound.files import write_text
from codebound.reporting import claims, formatting, page
from codebound.reporting.claims import Status, Verdict
from codebound.studies.initialisation import figures, findings, labels
from codebound.studies.initialisation.recommendation import CODE, ranking, recommendation
from codebound.studies.initialisation.rundata import StudyData, facts, load, lookup
from codebound.studies.initialisation.summary import BASELINE, Row, Summary, summarise

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
    place = out / "report.html"
    write_text(place, _render(data, summary, verdicts, pictures))
    return place


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
    return page.render(
        "studies/initialisation/report.html.j2",
        data=data,
        summary=summary,
        baseline=labels.look(BASELINE).name,
        findings=findings.findings(summary, verdicts),
        recommendation=recommendation(summary),
        code=CODE,
        ranks=ranking(summary),
        ledger=page.ledger(verdicts),
        counts=page.count(verdicts),
        tiles=_tiles(summary, page.count(verdicts)),
        sections=[_section(summary, source, pictures[source]) for source in summary.sources],
        look=labels.look,
        name=labels.source_name,
        families=labels.FAMILIES,
        settings=page.settings_text(data.settings),
    )


def _tiles(summary: Summary, counts: dict[str, int]) -> list[tuple[str, str]]:
    """The numbers to see first."""
    tested = sum(n for status, n in counts.items() if status != Status.NOT_TESTABLE)
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
        "few": formatting.few_vectors_text(summary.held_out[source], summary.codebook_size),
        "rows": summary.select(source),
        "tuned": [(labels.OPTIMIZERS.get(o, o), summary.select(source, o)) for o in tuned],
        "best": _best(summary.select(source)),
        "pictures": {name: page.embed(path) for name, path in pictures.items()},
    }


def _best(rows: Sequence[Row]) -> str:
    """The arm with the smallest error after training."""
    return min(rows, key=lambda r: r.metrics["final_fresh_distortion"].mean).arm if rows else ""
