"""The command of the study estimators, until it is declared in the framework."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from codebound import config
from codebound.cli.terminal import AsJson, Backend, Jobs, Sets, run_study, show_run
from codebound.errors import InputError
from codebound.reporting.tables import claims_table
from codebound.studies.estimators import report as estimators_report
from codebound.studies.estimators import rundata as estimators_rundata
from codebound.studies.estimators import settings as estimators_settings
from codebound.studies.estimators import study as estimators_study
from codebound.studies.estimators import summary as estimators_summary
from codebound.studies.estimators import tables as estimators_tables


def command(
    quick: Annotated[
        bool, typer.Option("--quick", help="2 seeds, 2 sources, 2 more codebook sizes.")
    ] = False,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="20 seeds, and the open questions: MLP, noise, high dimension, photographs."
        ),
    ] = False,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds (default 5).")] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Run folder: default runs/estimators; with --quick or --full runs/estimators-quick, -full.",
        ),
    ] = None,
    sets: Sets = None,
    jobs: Jobs = -1,
    backend: Backend = "loky",
    as_json: AsJson = False,
) -> None:
    """Which gradient estimator, in the linear case? Straight-through, rotation, projection beside PCA + Lloyd.

    Every error next to D(R). Interrupt it when you like: the same command goes on where it stopped.

    [bold]Examples[/]

      codebound study estimators --quick

      codebound study estimators --full --jobs 2

      codebound study estimators --set steps=600 --set long_steps=1000 --set "codebook_sizes=[8]" --out runs/mine
    """
    chosen = _settings(quick, full, seeds, sets)
    folder = folder or Path("runs/estimators" + ("-quick" if quick else "-full" if full else ""))
    run_study(estimators_study.run, "cells (experiment × source × seed)", folder, chosen, jobs, backend)
    show(folder, as_json)


def settings(quick: bool, full: bool, sets: list[str] | None) -> estimators_settings.Settings:
    """For show-config."""
    return _settings(quick, full, None, sets)


def _settings(
    quick: bool, full: bool, seeds: int | None, sets: list[str] | None
) -> estimators_settings.Settings:
    if quick and full:
        raise InputError("give --quick or --full, not both")
    values: dict[str, Any] = dict(
        estimators_settings.QUICK if quick else estimators_settings.FULL if full else {}
    )
    if seeds is not None:
        values["seeds"] = seeds
    return config.with_overrides(config.build(estimators_settings.Settings, values), sets or [])


def show(folder: Path, as_json: bool, again: bool = False) -> None:
    """Refresh the report and print its tables."""

    def tables() -> list[Table]:
        data = estimators_rundata.load(folder)
        ranking = estimators_tables.ranking_tables(estimators_summary.summarise(data))
        return [*ranking, claims_table(estimators_report.judge(data))]

    page = estimators_report.write(folder) if again else estimators_report.refresh(folder)
    show_run(page, tables, as_json)
