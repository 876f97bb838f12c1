"""The command of the study init, until it is declared in the framework."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from codebound import config
from codebound.cli.terminal import AsJson, Backend, Jobs, Sets, run_study, show_run
from codebound.errors import InputError
from codebound.reporting.tables import claims_table
from codebound.studies.initialisation import report, study
from codebound.studies.initialisation.rundata import load
from codebound.studies.initialisation.settings import Settings
from codebound.studies.initialisation.summary import summarise
from codebound.studies.initialisation.tables import source_tables


def command(
    quick: Annotated[bool, typer.Option("--quick", help="3 seeds instead of 8: a few minutes.")] = False,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds (default 8).")] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Run folder (default runs/init; with --quick runs/init-quick)."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Your own vectors in place of the photographs: .npy, .npz, .csv, .parquet or a folder of images."
        ),
    ] = None,
    sets: Sets = None,
    jobs: Jobs = -1,
    backend: Backend = "loky",
    as_json: AsJson = False,
) -> None:
    r"""Is a codebook initialisation good? Twelve of them, judged before and after training, next to their limits.

    Sources × arms × seeds. Interrupt it when you like: the same command goes on where it stopped.

    [bold]Examples[/]

      codebound study init --quick

      codebound study init --quick --data latents.npy --out runs/mine

      codebound study init --set steps=1000 --set "sources=\[isotropic]" --set "arms=\[kmeans, best]"
    """
    chosen = _settings(quick, seeds, data, sets)
    folder = folder or Path("runs/init-quick" if quick else "runs/init")
    run_study(study.run, "cells (source × seed)", folder, chosen, jobs, backend)
    show(folder, as_json)


def settings(quick: bool, full: bool, sets: list[str] | None) -> Settings:
    """For show-config."""
    if full:
        raise InputError("the study init has no --full; it has --quick, and takes --set …")
    return _settings(quick, None, None, sets)


def _settings(quick: bool, seeds: int | None, data: str | None, sets: list[str] | None) -> Settings:
    values: dict[str, Any] = dict(study.QUICK) if quick else {}
    if seeds is not None:
        values["seeds"] = seeds
    if data is not None:
        values |= {"data": data, "sources": ("isotropic", "anisotropic", "raw", "data")}
    return config.with_overrides(config.build(Settings, values), sets or [])


def show(folder: Path, as_json: bool, again: bool = False) -> None:
    """Write the report and print its tables."""

    def tables() -> list[Table]:
        data = load(folder)
        return [*source_tables(summarise(data)), claims_table(report.judge(data))]

    show_run(report.write(folder), tables, as_json)
