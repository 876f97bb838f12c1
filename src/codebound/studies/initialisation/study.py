"""The declaration of the study: a cell for each source and seed, with all arms and optimizers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from codebound import config
from codebound.reporting.claims import Claim
from codebound.studies.framework import declare as fw
from codebound.studies.initialisation import ENTRY, cell, findings, labels, sources, summary
from codebound.studies.initialisation.arms import ARMS
from codebound.studies.initialisation.recommendation import recommend
from codebound.studies.initialisation.sections import dimensions, sections
from codebound.studies.initialisation.settings import Settings
from codebound.studies.initialisation.summary import METRICS, Summary, summarise

PROPOSAL = (
    "The proposal: the unpublished text that this project began with; docs/claims.md lists its numbers."
)


class Initialisation(fw.Study[Settings]):
    """Twelve ways to begin a codebook, before training and after it, beside the limits of their sources."""

    entry, settings, metrics = ENTRY, Settings, METRICS
    unit = "cells (source × seed)"
    claims_file, every_case = "claims.yaml", False

    def configure(
        self, presets: Iterable[str], given: Mapping[str, Any], overrides: Iterable[str] = ()
    ) -> Settings:
        """As for every study; the user's data are taken at their own dimension unless another one is given."""
        overrides = list(overrides)
        settings = super().configure(presets, given, overrides)
        chosen = any(item.partition("=")[0].strip() == "dim" for item in overrides)
        if settings.data is None or chosen:
            return settings
        return config.build(Settings, settings.model_dump() | {"dim": sources.columns(settings)})

    def prepare(self, settings: Settings) -> Mapping[str, str]:
        arms = repr([ARMS[name] for name in settings.arms])
        digests = {"arms": hashlib.sha256(arms.encode()).hexdigest()[:12]}
        if settings.data is None:
            return digests
        sources.check_data(settings)
        return digests | {"data": sources.data_digest(settings)}

    def cells(self, settings: Settings) -> list[fw.Cell]:
        seeds = range(settings.first_seed, settings.first_seed + settings.seeds)
        return [
            fw.Cell(f"{source}-seed-{seed}", {"source": source, "seed": seed})
            for seed in seeds
            for source in settings.sources
        ]

    def measure(self, settings: Settings, cell_: fw.Cell) -> fw.CellResult:
        return cell.measure(settings, cell_["source"], cell_["seed"])

    def records(self, run: fw.StudyRun[Settings]) -> Iterable[fw.Record]:
        return summary.records(run)

    def facts(self, run: fw.StudyRun[Settings]) -> Mapping[str, float | int | str]:
        """The settings, and the limits of the isotropic source, which the claims quote."""
        limits = next((finished["limits"] for finished in run.where(source="isotropic")), {})
        return {**super().facts(run), **{k: v for k, v in limits.items() if v is not None}}

    def claims(self, run: fw.StudyRun[Settings]) -> Sequence[Claim]:
        """All; of a run on the user's data those about a source that it has."""
        claims = super().claims(run)
        if run.settings.data is None:
            return claims
        return [c for c in claims if any(_source(c, n) in run.settings.sources for n in range(len(c.cases)))]

    def tell(self, run: fw.StudyRun[Settings]) -> fw.Content:
        table = summarise(run)
        advice = recommend(table)
        dims = dimensions(table)
        whose = f"Your data ({labels.source_name('data', run.settings)}, {dims} dimensions). " if dims else ""
        return fw.Content(
            "Is a codebook initialisation good?",
            answer=whose + advice.use,
            sentences=_sentences(run, table),
            sections=sections(run, table),
            findings=findings.findings(table),
            method=_method(table),
            results={**table.to_json(), "recommendation": advice.to_json()},
        )


STUDY = Initialisation()


def _source(claim: Claim, case: int) -> Any:
    return {**claim.cell, **claim.cases[case].cell}.get("source")


def _sentences(run: fw.StudyRun[Settings], table: Summary) -> list[str]:
    """At most five: theory against k-means, the distance from the limit, the optimizer, the claims."""
    first = table.sources[0]
    distance = findings.distance(table, first)
    ledger = findings.ledger(run.verdicts)
    sentences = [
        findings.headline(table),
        f"{labels.source_name(first, run.settings)}: {distance}." if distance else "",
        findings.optimizers(table),
        f"{ledger} {PROPOSAL}".strip(),
    ]
    return [fw.typeset(sentence) for sentence in sentences if sentence]


def _method(table: Summary) -> list[str]:
    settings = table.settings
    points = [
        f"{settings.codebook_size} codewords in {settings.dim} dimensions behind a fixed PCA; {settings.steps:,} steps "
        f"of {settings.batch_size} vectors, Adam at {settings.lr} (tuned: {settings.tuned_lr}, falling as a cosine), "
        f"EMA {settings.ema_decay}.",
        f"A seed redraws source, samples (at most {settings.train_samples:,} for training; a start sees "
        f"{settings.init_batch:,}), start and order; all starts share it, so differences are taken seed by seed.",
        f"Error: squared distance to the codeword on up to {settings.final_samples:,} fresh vectors. Dead: chosen by "
        "less than 1 in 10,000. Intervals: Student's t at 95 % over seeds. Curves: means with their band; some starts "
        "are above the plot.",
        "Of each claim the case that decides is shown; results.json has all, results.csv every measure.",
    ]
    if "photos" in table.sources:
        points.append("Photographs: seeds draw other patches of the same photographs.")
    if "data" in table.sources:
        points.append(
            "Your data: seeds split the same rows, and intervals are widened for that (Nadeau and Bengio, 2003)."
        )
    return points
