"""The command `codebound`: its groups, the studies, the limits."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from codebound import __version__, config
from codebound.cli import files, tokenise, training
from codebound.cli.terminal import AsJson, Backend, Jobs, Sets, group, out, plain, run_study, show_run
from codebound.errors import InputError
from codebound.limits import compute as limits_study
from codebound.limits import tables as limits_tables
from codebound.reporting.tables import claims_table
from codebound.runs.folder import read_study
from codebound.studies.estimators import report as estimators_report
from codebound.studies.estimators import rundata as estimators_rundata
from codebound.studies.estimators import settings as estimators_settings
from codebound.studies.estimators import study as estimators_study
from codebound.studies.estimators import summary as estimators_summary
from codebound.studies.estimators import tables as estimators_tables
from codebound.studies.initialisation import report, study
from codebound.studies.initialisation.rundata import load
from codebound.studies.initialisation.settings import Settings
from codebound.studies.initialisation.summary import summarise
from codebound.studies.initialisation.tables import source_tables
from codebound.studies.population import report as population_report
from codebound.studies.population import settings as population_settings
from codebound.studies.population import study as population_study
from codebound.studies.population import summary as population_summary
from codebound.theory import gaussian

app = group("Vector quantization where every number stands next to its limit.")
study_app = group("Questions answered by experiments: arms, seeds, claims, verdicts, a report.")
limits_app = group("How well can any codebook do? Bounds for a Gaussian, or for your own vectors.")
app.add_typer(study_app, name="study")
app.add_typer(limits_app, name="limits")
app.command("train")(training.train)
app.command("eval")(training.evaluate)
app.command("report")(training.report)
app.command("runs")(training.runs)
study_app.command("utilisation")(training.study_utilisation)
app.command("compress")(files.compress)
app.command("decompress")(files.decompress)
app.command("info")(files.info)
app.command("verify")(files.verify)
app.command("fit-prior")(files.fit_prior)
app.command("tokenize")(tokenise.tokenize)
study_app.command("compression")(files.study_compression)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        out.print(__version__, highlight=False)
        raise typer.Exit


@study_app.command("init")
def study_init(
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
    settings = _settings(quick, seeds, data, sets)
    folder = folder or Path("runs/init-quick" if quick else "runs/init")
    run_study(study.run, "cells (source × seed)", folder, settings, jobs, backend)
    _show(folder, as_json)


@study_app.command("estimators")
def study_estimators(
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
    settings = _estimators_settings(quick, full, seeds, sets)
    folder = folder or Path("runs/estimators" + ("-quick" if quick else "-full" if full else ""))
    run_study(estimators_study.run, "cells (experiment × source × seed)", folder, settings, jobs, backend)
    _show_estimators(folder, as_json)


@study_app.command("population")
def study_population(
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
    settings = _population_settings(quick, full, sets)
    folder = folder or Path("runs/population" + ("-quick" if quick else "-full" if full else ""))
    run_study(population_study.run, "cells (scenarios)", folder, settings, jobs, backend)
    _show_population(folder, as_json)


@study_app.command("report")
def study_report(
    folder: Annotated[Path, typer.Argument(help="The folder of a run, finished or not.")],
    as_json: AsJson = False,
) -> None:
    """Write the report of a run anew and print its table.

    [bold]Example[/]

      codebound study report runs/init
    """
    match read_study(folder)["study"]:
        case "estimators":
            _show_estimators(folder, as_json, again=True)
        case "population":
            _show_population(folder, as_json, again=True)
        case "utilisation":
            training.show_utilisation(folder, as_json)
        case "compression":
            files.show_compression(folder, as_json)
        case "train":
            training.report([folder], None, as_json)
        case _:
            _show(folder, as_json)


@study_app.command("list")
def study_list(as_json: AsJson = False) -> None:
    """The studies there are."""
    rows = [
        {"study": "init", "question": "Is a codebook initialisation good?", "rows": "A1–A12"},
        {"study": "estimators", "question": "Which gradient estimator, in the linear case?", "rows": "C1–C8"},
        {"study": "population", "question": "How many codewords die, and do they return?", "rows": "A12"},
        {
            "study": "utilisation",
            "question": "Are all codewords used, and what does it buy?",
            "rows": "B2–B6",
        },
        {"study": "compression", "question": "How many bytes does a picture take?", "rows": "D10"},
    ]
    _print(rows, "Studies", as_json)


@study_app.command("show-config")
def study_show_config(
    name: Annotated[
        str, typer.Argument(help="The study: init, estimators, population, utilisation or compression.")
    ],
    quick: Annotated[bool, typer.Option("--quick", help="As the study's --quick has them.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="As the study's --full has them; not of init.")
    ] = False,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, to see it accepted."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The settings of a study, as YAML: what --set can change.

    [bold]Example[/]

      codebound study show-config init --set steps=100
    """
    if name not in ("init", "estimators", "population", "utilisation", "compression"):
        raise InputError(
            f"unknown study {name!r}; known: init, estimators, population, utilisation, compression"
        )
    if name in ("init", "utilisation", "compression") and full:
        raise InputError(f"--full is of the studies estimators and population; {name} takes --set …")
    if name == "compression":
        settings = files.compression_settings(quick, {}, sets)
    elif name == "population":
        settings = _population_settings(quick, full, sets)
    elif name == "estimators":
        settings = _estimators_settings(quick, full, None, sets)
    elif name == "utilisation":
        settings = training.utilisation_settings(quick, sets)
    else:
        settings = _settings(quick, None, None, sets)
    plain(
        json.dumps(settings.model_dump(mode="json"), indent=2)
        if as_json
        else config.to_yaml(settings).rstrip()
    )


@limits_app.command("gaussian")
def limits_gaussian(
    codebook_size: Annotated[int, typer.Option(help="n, the number of codewords.")],
    dim: Annotated[int | None, typer.Option(help="k, the number of dimensions.")] = None,
    spectrum: Annotated[
        str | None, typer.Option(help="Variances along the principal axes: 9,4,1,.25")
    ] = None,
    covariance: Annotated[Path | None, typer.Option(help="A covariance matrix: .npy, .csv or text.")] = None,
    as_json: AsJson = False,
) -> None:
    """Limits for a Gaussian: squared error summed over the vector, at log2(n) bits per vector.

    [bold]Examples[/]

      codebound limits gaussian --dim 8 --codebook-size 256

      codebound limits gaussian --spectrum 9,4,1,.25 --codebook-size 16
    """
    found = limits_study.gaussian_limits(_spectrum(dim, spectrum, covariance), codebook_size)
    if as_json:
        plain(json.dumps(asdict(found), indent=2))
        return
    out.print(limits_tables.gaussian(found))


@limits_app.command("data")
def limits_data(
    file: Annotated[str, typer.Argument(help=".npy, .npz, .csv, .parquet or a folder of images.")],
    codebook_size: Annotated[int, typer.Option(help="n, the number of codewords.")],
    seed: Annotated[int, typer.Option(help="Of the held-out split and of k-means.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Limits for your vectors, and where k-means stands on held-out rows.

    [bold]Example[/]

      codebound limits data latents.npy --codebook-size 256
    """
    found = limits_study.data_limits(file, codebook_size, seed)
    if as_json:
        plain(json.dumps(asdict(found), indent=2))
        return
    out.print(limits_tables.data(found))


def _settings(quick: bool, seeds: int | None, data: str | None, sets: list[str] | None) -> Settings:
    values: dict[str, Any] = dict(study.QUICK) if quick else {}
    if seeds is not None:
        values["seeds"] = seeds
    if data is not None:
        values |= {"data": data, "sources": ("isotropic", "anisotropic", "raw", "data")}
    return config.with_overrides(config.build(Settings, values), sets or [])


def _estimators_settings(
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


def _population_settings(quick: bool, full: bool, sets: list[str] | None) -> population_settings.Settings:
    if quick and full:
        raise InputError("give --quick or --full, not both")
    values: dict[str, Any] = population_study.QUICK if quick else population_study.FULL if full else {}
    return config.with_overrides(config.build(population_settings.Settings, values), sets or [])


def _show_population(folder: Path, as_json: bool, again: bool = False) -> None:
    page = population_report.write(folder) if again else population_report.refresh(folder)
    show_run(page, lambda: population_report.tables(population_summary.load(folder)), as_json)


def _show_estimators(folder: Path, as_json: bool, again: bool = False) -> None:
    def tables() -> list[Table]:
        data = estimators_rundata.load(folder)
        ranking = estimators_tables.ranking_tables(estimators_summary.summarise(data))
        return [*ranking, claims_table(estimators_report.judge(data))]

    page = estimators_report.write(folder) if again else estimators_report.refresh(folder)
    show_run(page, tables, as_json)


def _show(folder: Path, as_json: bool) -> None:
    def tables() -> list[Table]:
        data = load(folder)
        return [*source_tables(summarise(data)), claims_table(report.judge(data))]

    show_run(report.write(folder), tables, as_json)


def _spectrum(dim: int | None, spectrum: str | None, covariance: Path | None) -> np.ndarray:
    if spectrum is not None and covariance is not None:
        raise InputError("give --spectrum or --covariance, not both")
    if covariance is not None:
        found = gaussian.spectrum(limits_study.load_covariance(covariance))
    elif spectrum is not None:
        try:
            found = np.array([float(part) for part in spectrum.split(",")])
        except ValueError:
            raise InputError(f"--spectrum takes numbers with commas between them; got {spectrum!r}") from None
    elif dim is None:
        raise InputError("give --dim, --spectrum or --covariance")
    else:
        if dim < 1:
            raise InputError(f"--dim must be at least 1; got {dim}")
        found = np.ones(dim)
    if dim is not None and len(found) != dim:
        raise InputError(f"--dim {dim} does not fit the {len(found)} variances given")
    return found


def _print(rows: list[dict[str, Any]], title: str, as_json: bool) -> None:
    if as_json:
        plain(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    out.print(table)


def main() -> None:
    """Entry point of the `codebound` command."""
    app()


if __name__ == "__main__":
    sys.exit(main())
