"""`codebound study`: a command for each study of the registry, and what can be done with all of them.

What a study needs is imported when it is run: the entries of the registry are enough for every help text.
"""

from __future__ import annotations

import inspect
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from codebound.cli.batch import Outputs
from codebound.cli.terminal import AsJson, Backend, Force, Jobs, Sets, group, out, plain, run_study, say_where
from codebound.errors import InputError
from codebound.studies import registry
from codebound.studies.framework.entry import Entry

if TYPE_CHECKING:
    from codebound.config import Settings
    from codebound.reporting.kept import KeptRun

app = group("Questions answered by experiments: cells, seeds, claims, verdicts, a report.")


def command(entry: Entry) -> Callable[..., None]:
    """The command of a study: an option for each of its presets, its own options, and those that all have."""
    presets = {name.replace("-", "_"): (name, preset) for name, preset in entry.presets.items()}
    options = {option.name.replace("-", "_"): option for option in entry.options}

    def run(**given: Any) -> None:
        chosen = [name for name in entry.presets if given[name.replace("-", "_")]]
        own = {option.name: given[name] for name, option in options.items()}
        study = registry.declaration(entry)
        settings = study.configure(chosen, own, given["sets"] or [])
        folder = given["folder"] or Path("runs") / "-".join([entry.name, *chosen])
        _run(study, settings, folder, given["jobs"], given["backend"])
        show(folder, given["as_json"])

    parameters = [
        _parameter(key, bool, False, preset.help, f"--{name}") for key, (name, preset) in presets.items()
    ]
    parameters += [
        _parameter(name, option.kind | None, None, option.help, f"--{option.name}")
        for name, option in options.items()
    ]
    default = f"runs/{entry.name}" + "".join(
        f"; with --{name} runs/{entry.name}-{name}" for name in entry.presets
    )
    parameters += [
        _parameter("folder", Path | None, None, f"Run folder (default {default}).", "--out"),
        _shared("sets", Sets, None),
        _shared("jobs", Jobs, entry.jobs),
        _shared("backend", Backend, "loky"),
        _shared("as_json", AsJson, False),
    ]
    run.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__ = (
        f"{entry.question}\n\n    {entry.help or ''}\n\n"
        "    Interrupt it when you like: the same command goes on where it stopped.\n"
    )
    return run


def show(folder: Path, as_json: bool, again: bool = False) -> None:
    """Print what a run says, its page written anew where it or the code has changed, or always if `again`."""
    from codebound.runs.folder import read_study
    from codebound.studies.framework import report, results

    study = registry.declaration(registry.entry_of(read_study(folder)["study"]))
    loaded = results.load(study, folder)
    page = report.write(loaded) if again else report.refresh(loaded)
    if as_json:
        plain((folder / "results.json").read_text(encoding="utf-8").rstrip())
        return
    for table in report.terminal(loaded):
        out.print(table)
    if missing := len(loaded.missing):
        every = missing + len(loaded.cells)
        out.print(f"This run is not finished: {missing} of {every} cells are missing; its command goes on.")
    for sentence in (loaded.content.answer, *loaded.content.sentences):
        out.print(escape(sentence), highlight=False)
    say_where(page)


@app.command("report")
def report_again(
    folder: Annotated[Path, typer.Argument(help="The folder of a run, finished or not.")],
    as_json: AsJson = False,
) -> None:
    """Write the report of a run anew and print its table.

    [bold]Example[/]

      codebound study report runs/init
    """
    from codebound.runs.folder import read_study

    name = read_study(folder)["study"]
    if name == "train":
        from codebound.cli import training

        training.report([folder], None, as_json=as_json)
    else:
        show(folder, as_json, again=True)


@app.command("keep")
def keep_run(
    folder: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    file: Annotated[Path | None, typer.Option("--out", help="Write it here; printed otherwise.")] = None,
    force: Force = False,
) -> None:
    """What a finished run says, as one small JSON file: settings, findings, figures, claims with their verdicts.

    [bold]Example[/]

      codebound study keep runs/transfer --out docs/results/runs/transfer.json
    """
    give = _giver(file, force)
    give(_kept_of(folder).text())


@app.command("claims")
def list_claims(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of runs, files that `keep` wrote, or folders of such files.")
    ],
    page: Annotated[Path | None, typer.Option("--out", help="Write it here; printed otherwise.")] = None,
    force: Force = False,
) -> None:
    """What is claimed, by whom, what these runs measured, and the verdict, as one page of Markdown.

    [bold]Example[/]

      codebound study claims runs/init runs/estimators --out claims.md
    """
    from codebound.reporting import kept

    # Studies in the order of the registry, then those that it has not: of another version, or somebody's own.
    give, found = _giver(page, force), []
    order = {name: place for place, name in enumerate(registry.STUDIES)}
    for path in runs:
        is_run = not path.exists() or (path / "study.json").exists()
        some = [_kept_of(path)] if is_run else kept.read(path)
        some.sort(key=lambda run: (order.get(run.study, len(order)), run.study))
        some = [run for run in some if run.claims]
        if not some:
            raise InputError(f"{path} has no claims to judge: its study has none about these data")
        found += some
    written_by = shlex.join(
        ["codebound", "study", "claims", *map(str, runs), *(["--out", str(page)] if page else [])]
    )
    give(kept.markdown(found, written_by))


@app.command("list")
def list_studies(as_json: AsJson = False) -> None:
    """The studies there are, each with its question."""
    rows = [{"study": entry.name, "question": entry.question} for entry in registry.STUDIES.values()]
    if as_json:
        plain(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table(*rows[0], title="Studies")
    for row in rows:
        table.add_row(*row.values())
    out.print(table)


@app.command("show-config")
def show_config(
    name: Annotated[str, typer.Argument(help=f"The study: {', '.join(registry.STUDIES)}.")],
    quick: Annotated[bool, typer.Option("--quick", help="As the study's --quick has them.")] = False,
    full: Annotated[bool, typer.Option("--full", help="As its --full has them, where it has one.")] = False,
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
    from codebound import config

    entry = registry.entry_of(name)
    chosen = [preset for preset, given in (("quick", quick), ("full", full)) if given]
    settings = registry.declaration(entry).configure(chosen, {}, sets or [])
    as_dictionary = settings.model_dump(mode="json")
    plain(json.dumps(as_dictionary, indent=2) if as_json else config.to_yaml(settings).rstrip())


def _run(study: Any, settings: Settings, folder: Path, jobs: int, backend: str) -> None:
    from codebound.studies.framework.run import run

    def cells(place: Path, chosen: Settings, **how: Any) -> None:
        run(study, place, chosen, **how)

    run_study(cells, study.unit, folder, settings, jobs, backend)


def _kept_of(folder: Path) -> KeptRun:
    from codebound.runs.folder import read_study
    from codebound.studies.framework.keep import keep
    from codebound.studies.framework.results import load

    return keep(load(registry.declaration(registry.entry_of(read_study(folder)["study"])), folder))


def _giver(file: Path | None, force: bool) -> Callable[[str], None]:
    """What prints a text or writes it to a file; that it may be written is known before the work for it."""
    outputs = Outputs((), force)
    if file is None:
        return lambda text: plain(text.rstrip())
    outputs.check(file)
    return lambda text: outputs.write(file, text.encode())


def _parameter(name: str, kind: Any, default: Any, help_text: str, flag: str) -> inspect.Parameter:
    annotation = Annotated[kind, typer.Option(flag, help=help_text)]
    return _shared(name, annotation, default)


def _shared(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


for _entry in registry.STUDIES.values():
    app.command(_entry.name)(command(_entry))
