"""A finished run as the one small file of it that a repository keeps."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import Any

from codebound.errors import InputError
from codebound.reporting.formatting import count_text
from codebound.reporting.kept import KeptRun, kept_claims, kept_rows
from codebound.studies.framework.results import FinishedCell, StudyRun

LEFT_OUT = ("--out", "--jobs")


def keep(run: StudyRun[Any]) -> KeptRun:
    """What the run says; its figures are those of the long table, over the seeds.

    Raises:
        InputError: the run is not finished, or its `study.json` lacks where its numbers come from.
    """
    if run.missing:
        missing = count_text(len(run.missing), "cell")
        raise InputError(f"{run.folder} is not finished: {missing} missing; its command goes on")
    return KeptRun(
        study=run.study.entry.name,
        question=run.study.entry.question,
        command=_command(_recorded(run, "command")),
        version=_recorded(run, "versions", "codebound"),
        machine=_recorded(run, "machine"),
        date=max(map(_day, run.cells.values())),
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


def _recorded(run: StudyRun[Any], *path: str) -> str:
    """A text of `study.json`.

    Raises:
        InputError: it is not there.
    """
    value: Any = run.record
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, str):
        raise InputError(f"{run.folder}/study.json has no text for {'.'.join(path)!r}")
    return value


def _command(recorded: str) -> str:
    """A command without where the run was written and in how many processes: neither changes a number."""
    try:
        words = iter(shlex.split(recorded))
    except ValueError:  # records of before were not quoted
        words = iter(recorded.split())
    kept = []
    for word in words:
        if word in LEFT_OUT:
            next(words, None)
        elif word.partition("=")[0] not in LEFT_OUT:
            kept.append(word)
    return shlex.join(kept)


def _day(finished: FinishedCell) -> str:
    """YYYY-MM-DD on which a cell was finished; of a cell that does not say it, the day of its file."""
    said = finished.get("finished_at")
    try:
        return datetime.fromisoformat(said).date().isoformat()
    except (TypeError, ValueError):
        return datetime.fromtimestamp(finished.file.stat().st_mtime, UTC).date().isoformat()
