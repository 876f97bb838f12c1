"""The report: results.json, figures/*.png and one self-contained report.html in the run folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from codebound.files import write_text
from codebound.reporting import claims, page
from codebound.reporting.claims import Status, Verdict
from codebound.reporting.formatting import typeset
from codebound.studies.estimators import figures, findings, labels
from codebound.studies.estimators.arms import BASELINE
from codebound.studies.estimators.rundata import StudyData, facts, load, lookup
from codebound.studies.estimators.summary import SourceSummary, seeds_text, summarise

_HERE = files("codebound.studies.estimators")

LIMIT_TEXT = {
    "shannon": ("Shannon bound", "No code of this rate, however long its blocks, has a smaller error."),
    "restricted": (
        "Shannon, m dimensions and the tail",
        "The same for codes that keep PCA's first m dimensions and drop the others.",
    ),
    "reference_pca": (
        "Optimal-quantizer reference",
        "Lloyd on many fresh samples in PCA's latents, measured on others: what a codebook behind PCA can reach. An "
        "achieved value, not a bound.",
    ),
    "reference_free": (
        "… without the limit of m dimensions",
        "The same for codewords in all the dimensions of the source's rank. An achieved value, not a bound.",
    ),
    "gaussian_reference": (
        "Gaussian reference",
        "The bound of the Gaussian with the same covariance. Other sources can do better: a reference, not a bound.",
    ),
}
LOWER_BOUND = (
    "Shannon lower bound",
    "No code of this rate has a smaller error: from the source's entropy, the best over its leading coordinates. Not "
    "tight where clusters are many or far apart.",
)
ESTIMATED = (
    "Shannon lower bound, estimated",
    "No code of this rate has a smaller error. From an entropy estimate on the leading 8 coordinates; in brackets its "
    "range. For these few photographs only.",
)


def write(out: Path) -> Path:
    """Write results.json, the figures and report.html of a run, finished or not; returns the page's path.

    Raises:
        InputError: not a run of this study, no finished cell, or files that can't be read.
    """
    out = Path(out)
    data = load(out)
    summaries = summarise(data)
    verdicts = judge(data)
    pictures = figures.write_figures(out / "figures", data, summaries)
    found = results(data, summaries, verdicts)
    write_text(out / "results.json", json.dumps(found, indent=1, allow_nan=False))
    place = out / "report.html"
    write_text(place, _render(data, summaries, verdicts, pictures))
    return place


def refresh(out: Path) -> Path:
    """The page as `write` makes it; at once where neither the run nor this code has changed since.

    Raises:
        InputError: as `write`.
    """
    out = Path(out)
    place, stamp = out / "report.html", out / "report.sha256"
    made_from = _digest(out)
    if place.exists() and stamp.exists() and stamp.read_text(encoding="utf-8").strip() == made_from:
        return place
    write(out)
    write_text(stamp, made_from + "\n")
    return place


def _digest(out: Path) -> str:
    """Of everything that a report is made from: the run's files, and this study's code with what all studies share."""
    here = Path(__file__).parent
    code = sorted(path for path in (*here.iterdir(), *here.parent.iterdir()) if path.is_file())
    parts = [out / "study.json", out / "config.yaml", *sorted((out / "cells").glob("*.json")), *code]
    digest = hashlib.sha256()
    for path in parts:
        digest.update(path.name.encode())
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()


def judge(data: StudyData) -> list[Verdict]:
    """The verdicts of this study's own claims."""
    with as_file(_HERE.joinpath("claims.yaml")) as path:
        ledger = claims.load_claims(path)
    return claims.judge(ledger, lookup(data), facts(data))


def results(
    data: StudyData, summaries: Sequence[SourceSummary], verdicts: Sequence[Verdict]
) -> dict[str, Any]:
    """The content of results.json."""
    return {
        **data.study,
        "settings": data.settings.model_dump(mode="json"),
        "complete": not data.missing,
        "missing_cells": data.missing,
        "sources": [s.to_json() for s in summaries],
        "timing": data.timing,
        "findings": [asdict(f) for f in findings.findings(data, summaries, verdicts)],
        "recommendation": findings.recommendation(data, summaries),
        "claims": [v.to_json() for v in verdicts],
    }


def _render(
    data: StudyData,
    summaries: Sequence[SourceSummary],
    verdicts: Sequence[Verdict],
    pictures: dict[str, dict[str, Path]],
) -> str:
    counts = page.count(verdicts)
    embedded = {
        group: {name: page.embed(path) for name, path in by.items()} for group, by in pictures.items()
    }
    return page.render(
        "studies/estimators/report.html.j2",
        data=data,
        findings=findings.findings(data, summaries, verdicts),
        recommendation=findings.recommendation(data, summaries),
        ledger=page.ledger(verdicts),
        counts=counts,
        tiles=_tiles(data, summaries, counts),
        sections=[_section(data, s, embedded.get(s.source, {})) for s in summaries],
        pictures=embedded["all"],
        protocols=labels.PROTOCOLS,
        estimators=labels.ESTIMATORS,
        seeds=seeds_text(summaries),
        settings=page.settings_text(data.settings),
    )


def _tiles(
    data: StudyData, summaries: Sequence[SourceSummary], counts: dict[str, int]
) -> list[tuple[str, str]]:
    """The numbers to see first: of arms that were named in advance."""
    tested = sum(n for status, n in counts.items() if status != Status.NOT_TESTABLE)
    tiles = [(f"{counts[Status.REFUTED]} of {tested}", "tested claims of the documents refuted")]
    first = summaries[0]
    name = labels.source_name(first.source)
    base = first.row(BASELINE, "lloyd")
    if base is not None:
        gap = base.metrics["gap_db"]
        tiles.append(
            (typeset(f"{gap.mean:.2f} dB"), f"{name}: PCA + Lloyd (best restart) above the Shannon bound")
        )
    if "reference_pca_db" in first.limits:
        value = first.limits["reference_pca_db"].mean
        tiles.append((typeset(f"{value:.2f} dB"), f"{name}: the optimal-quantizer reference above it"))
    tiles.append((typeset(f"{first.spread.mean:.1f} %"), f"{name}: spread of the Lloyd restarts"))
    rotation, plain = (
        first.row(n, "tuned", data.settings.commitment) for n in ("rotation", "straight_through")
    )
    if rotation is not None and plain is not None and rotation.versus and plain.versus:
        difference = rotation.versus.mean - plain.versus.mean
        tiles.append(
            (typeset(f"{difference:+.2f} %"), f"{name}: rotation against straight-through, tuned rates")
        )
    return tiles


def _section(data: StudyData, summary: SourceSummary, pictures: dict[str, str]) -> dict[str, Any]:
    text = dict(LIMIT_TEXT)
    limits = dict(summary.limits)
    if "shannon_low" in limits:
        text["shannon"] = ESTIMATED
        low, high = limits["shannon_low"].mean, limits["shannon_high"].mean
        limits["shannon"] = replace(limits["shannon"], low=low, high=high)
    elif "restricted" not in limits:
        text["shannon"] = LOWER_BOUND
    else:
        del text["gaussian_reference"]
    return {
        "source": summary.source,
        "title": labels.source_name(summary.source),
        "text": labels.source_text(summary.source, data.settings),
        "summary": summary,
        "limits": [(*text[k], limits[k], limits.get(f"{k}_db")) for k in text if k in limits],
        "best": min(r.metrics["mse"].mean for r in summary.rows),
        "pictures": pictures,
    }
