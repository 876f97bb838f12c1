"""The declaration of the study: its cells, and what they say."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from codebound.reporting.claims import Claim
from codebound.studies.estimators import ENTRY, content, records
from codebound.studies.estimators.arms import arms
from codebound.studies.estimators.linear import run_linear
from codebound.studies.estimators.networks import NETWORK_ESTIMATORS, run_networks
from codebound.studies.estimators.records import VERIFIED_ON
from codebound.studies.estimators.settings import Settings
from codebound.studies.estimators.timing import run_timing
from codebound.studies.estimators.verification import WAYS, run_verification
from codebound.studies.framework import declare as fw

EXPERIMENTS: dict[str, Callable[[Settings, str, int], dict[str, Any]]] = {
    "linear": run_linear,
    "verify": run_verification,
    "mlp": run_networks,
    "timing": run_timing,
}


class Estimators(fw.Study[Settings]):
    """Estimators of the gradient beside PCA + Lloyd, with a linear encoder and a small network."""

    entry, settings, metrics = ENTRY, Settings, records.METRICS
    unit = "cells (experiment × source × seed)"
    claims_file = "claims.yaml"

    def prepare(self, settings: Settings) -> Mapping[str, str]:
        plan = [arms(settings, main) for main in (True, False)]
        definition = repr([plan, NETWORK_ESTIMATORS, [way[1] for way in WAYS.values()]])
        return {"arms": hashlib.sha256(definition.encode()).hexdigest()[:12]}

    def cells(self, settings: Settings) -> list[fw.Cell]:
        cells = []
        for seed in range(settings.first_seed, settings.first_seed + settings.seeds):
            cells += [_cell("linear", source, seed) for source in settings.sources]
            cells.append(_cell("verify", VERIFIED_ON, seed))
            cells += [_cell("mlp", source, seed) for source in settings.mlp_sources]
        if settings.timing_rounds:
            cells.append(_cell("timing", VERIFIED_ON, settings.first_seed))
        return cells

    def measure(self, settings: Settings, cell: fw.Cell) -> dict[str, Any]:
        return EXPERIMENTS[cell["experiment"]](settings, cell["source"], cell["seed"])

    def records(self, run: fw.StudyRun[Settings]) -> Iterable[fw.Record]:
        bounds = {}
        for finished in run.where(experiment="linear"):
            limits = finished["limits"].get(str(run.settings.codebook_size), {})
            bounds[finished.cell["source"], finished.cell["seed"]] = limits.get("shannon")
            yield from records.linear(finished, run.settings)
        for finished in run.where(experiment="mlp"):
            place = finished.cell["source"], finished.cell["seed"]
            yield from records.networks(finished, run.settings, bounds.get(place))
        for finished in run.where(experiment="verify"):
            yield from records.verification(finished)
        for finished in run.where(experiment="timing"):
            yield from records.timing(finished, run.settings)

    def facts(self, run: fw.StudyRun[Settings]) -> Mapping[str, float | int | str]:
        s, table = run.settings, run.table
        sizes = ", ".join(map(str, sorted((s.codebook_size, *s.codebook_sizes))))
        at = {"source": "gaussian", "codebook_size": s.codebook_size}
        names = {"reference": "reference_pca", "shannon": "shannon", "spread": "restart_spread_percent"}
        measured = {name: table.interval(metric, **at) for name, metric in names.items()}
        figures = {name: interval.mean for name, interval in measured.items() if interval.n}
        return {**super().facts(run), "sizes": sizes, **figures}

    def claims(self, run: fw.StudyRun[Settings]) -> Sequence[Claim]:
        # Unless a claim names them, it is about the comparison's own K and β.
        usual = {"codebook_size": run.settings.codebook_size, "beta": run.settings.commitment}
        return [claim.model_copy(update={"cell": {**usual, **claim.cell}}) for claim in super().claims(run)]

    def tell(self, run: fw.StudyRun[Settings]) -> fw.Content:
        return content.tell(run)


STUDY = Estimators()


def _cell(experiment: str, source: str, seed: int) -> fw.Cell:
    """Without a finished linear cell there is nothing to report; the timing runs alone at the end."""
    return fw.Cell(
        f"{experiment}-{source}-{seed}",
        {"experiment": experiment, "source": source, "seed": seed},
        alone=experiment == "timing",
        aside=experiment != "linear",
    )
