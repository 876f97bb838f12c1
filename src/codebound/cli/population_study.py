"""The command of the study population, until it is declared in the framework."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from codebound import config
from codebound.cli.terminal import AsJson, Backend, Jobs, Sets, run_study, show_run
from codebound.errors import InputError
from codebound.studies.population import report as population_report
from codebound.studies.population import settings as population_settings
from codebound.studies.population import study as population_study
from codebound.studies.population import summary as population_summary


def command(
    quick: Annotated[bool, typer.Option("--quick", help="An eighth of the runs: wide intervals.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Also one setting at a time around two bases.")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Run folder: default runs/population; with --quick or --full runs/population-quick, -full.",
        ),
    ] = None,
    sets: Sets = None,
    jobs: Jobs = -1,
    backend: Backend = "loky",
    as_json: AsJson = False,
) -> None:
    """How many codewords die, when, and do they return? Simulation beside theory, for SGD and EMA.

    Interrupt it when you like: the same command goes on where it stopped.

    [bold]Examples[/]

      codebound study population --quick

      codebound study population --set "scenarios=[{name: mine, update: ema, decay: .99, codebook_size: 64, batch_size: 64, init: normal, std: 2, source: gaussian, dim: 2}]" --out runs/mine
    """  # noqa: E501
    chosen = settings(quick, full, sets)
    folder = folder or Path("runs/population" + ("-quick" if quick else "-full" if full else ""))
    run_study(population_study.run, "cells (scenarios)", folder, chosen, jobs, backend)
    show(folder, as_json)


def settings(quick: bool, full: bool, sets: list[str] | None) -> population_settings.Settings:
    """Of the study."""
    if quick and full:
        raise InputError("give --quick or --full, not both")
    values: dict[str, Any] = population_study.QUICK if quick else population_study.FULL if full else {}
    return config.with_overrides(config.build(population_settings.Settings, values), sets or [])


def show(folder: Path, as_json: bool, again: bool = False) -> None:
    """Refresh the report and print its tables."""
    page = population_report.write(folder) if again else population_report.refresh(folder)
    show_run(page, lambda: population_report.tables(population_summary.load(folder)), as_json)
