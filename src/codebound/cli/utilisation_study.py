"""The command of the study utilisation, until it is declared in the framework."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from codebound import config
from codebound.cli.terminal import AsJson, Backend, Jobs, Sets, run_study, show_run
from codebound.errors import InputError


def command(
    quick: Annotated[
        bool, typer.Option("--quick", help="2 seeds, small sizes, few steps: minutes, wide intervals.")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Run folder (default runs/utilisation; with --quick runs/utilisation-quick)."
        ),
    ] = None,
    sets: Sets = None,
    jobs: Jobs = -1,
    backend: Backend = "loky",
    as_json: AsJson = False,
) -> None:
    r"""Do all codewords get used, and what does it buy? EMA, Blahut–Arimoto, SimVQ, FSQ … at K = 256 to 65,536.

    Usage beside PSNR and rate, on crops of held-out photographs. Interrupt it when you like: the same command goes
    on where it stopped.

    [bold]Examples[/]

      codebound study utilisation --quick

      codebound study utilisation --set "arms=\[vq-ema, ba]" --set large_sizes=[] --set huge_sizes=[] --out runs/mine
    """
    from codebound.studies.utilisation import study

    chosen = settings(quick, False, sets)
    folder = folder or Path("runs/utilisation" + ("-quick" if quick else ""))
    run_study(study.run, "trainings", folder, chosen, jobs, backend)
    show(folder, as_json)


def settings(quick: bool, full: bool, sets: list[str] | None) -> config.Settings:
    """Of the utilisation study."""
    from codebound.studies.utilisation.settings import QUICK, Settings

    if full:
        raise InputError("the study utilisation has no --full; it has --quick, and takes --set …")
    values: dict[str, Any] = dict(QUICK) if quick else {}
    return config.with_overrides(config.build(Settings, values), sets or [])


def show(folder: Path, as_json: bool, again: bool = False) -> None:
    """Write a report of the utilisation study and print its tables."""
    from codebound.reporting.tables import claims_table
    from codebound.studies.utilisation import report, summary

    def tables() -> list[Table]:
        data = summary.load(folder)
        return [*report.tables(data, summary.summarise(data)), claims_table(report.judge(data))]

    show_run(report.write(folder), tables, as_json)
