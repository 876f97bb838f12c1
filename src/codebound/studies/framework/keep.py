"""A finished run as the one small file of it that a repository keeps."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from codebound.errors import InputError
from codebound.reporting.formatting import count_text
from codebound.reporting.kept import KeptRun, kept_claims, kept_rows
from codebound.studies.framework.results import StudyRun


def keep(run: StudyRun[Any]) -> KeptRun:
    """What the run says; its figures are those of the long table, over the seeds.

    Raises:
        InputError: the run is not finished.
    """
    if run.missing:
        missing = count_text(len(run.missing), "cell")
        raise InputError(f"{run.folder} is not finished: {missing} missing; its command goes on")
    last = max(finished.file.stat().st_mtime for finished in run.cells.values())
    return KeptRun(
        study=run.study.entry.name,
        question=run.study.entry.question,
        # Where a run was written, and in how many processes, changes no number.
        command=re.sub(r" --(out|jobs) \S+", "", run.record["command"]),
        version=run.record["versions"]["codebound"],
        machine=run.record["machine"],
        date=datetime.fromtimestamp(last, UTC).date().isoformat(),
        settings=run.settings.model_dump(mode="json"),
        answer=run.content.answer,
        sentences=tuple(run.content.sentences),
        claims=kept_claims(run.verdicts),
        metrics={
            metric.name: f"{metric.label}, {metric.unit}" if metric.unit else metric.label
            for metric in run.study.metrics
        },
        rows=kept_rows(run.table),
    )
