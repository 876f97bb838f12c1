"""The commands around a run of any kind: train, eval, report, runs.

What they call is imported inside them: torchmetrics and lightning-fabric take seconds, which `--help` need not.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from codebound import progress
from codebound.cli.batch import Outputs
from codebound.cli.terminal import (
    AsJson,
    Force,
    err,
    out,
    plain,
    say_where,
)
from codebound.errors import InputError

if TYPE_CHECKING:
    from codebound.engine.loop import ProgressEvent
    from codebound.engine.recipe import LoopSettings, Recipe
    from codebound.runs.kinds import RunKind

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


def train(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KIND] [RUN] [CONFIG.yaml]",
            help="What is trained: tokenizer (default), or prior of the tokenizer of RUN; settings, as a run's "
            "config.yaml holds them.",
        ),
    ] = None,
    quantizer: Annotated[
        str | None,
        typer.Option(
            help="vq-ema, vq-ema-norevival, ba, gradient, rotation, simvq, fsq, lfq, bsq, rvq, pq, trellis, "
            "trellis-dither."
        ),
    ] = None,
    codebook_size: Annotated[int | None, typer.Option(help="K (default 512).")] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            "--kind", help="Of a prior: autoregressive (default), masked, or llama, for transformers."
        ),
    ] = None,
    levels: Annotated[int | None, typer.Option(help="Of vqvae2: 2 (default) or 3 resolutions.")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the pictures (default 30); 8,192 crops count as one.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Updates, instead of epochs.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="photos (default), fashion-mnist[:PATH], cifar10:PATH, folder:PATH, classes:PATH, hf:NAME, "
            "webdataset:PATTERN; of sound speech, sonic-pi, folder:PATH, hf:NAME."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The run's name (default: quantizer and size).")] = None,
    folder: Annotated[Path | None, typer.Option("--out", help="Run folder (default runs/NAME).")] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; see the run's config.yaml."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the run in the folder stopped, exactly.")
    ] = False,
    device: Device = "auto",
    devices: Annotated[int, typer.Option(help="Processes, each with a device; they share a batch.")] = 1,
    precision: Annotated[str | None, typer.Option(help="32, or bf16 (on a CPU only with AMX).")] = None,
    wandb: Annotated[bool, typer.Option("--wandb", help="Log to Weights & Biases, too.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log to TensorBoard, too.")] = False,
) -> None:
    r"""Train a model; without arguments the default image tokenizer, on the embedded photographs.

    The run folder holds the settings, the log, checkpoints, the model, its figures on held-out pictures and a report.
    Interrupt it when you like: the same command with --resume goes on, to the same weights bit for bit.

    [bold]Examples[/]

      codebound train

      codebound train --quantizer ba --codebook-size 512 --epochs 30 --name ba_test

      codebound train --data folder:holiday --set crop=64 --set stride=8 --name holiday

      codebound train prior runs/holiday --name holiday-prior

      codebound train vqvae2 --levels 3 --name levels

      codebound train audio runs/audio-speech --steps 2000

      codebound train prior runs/audio-speech --name babble

      codebound train --resume --name ba_test
    """
    from codebound.runs import run

    options = {
        "quantizer": quantizer, "codebook_size": codebook_size, "epochs": epochs, "steps": steps, "data": data,
        "precision": precision, "prior": prior, "levels": levels,
    }  # fmt: skip
    options = {key: value for key, value in options.items() if value is not None}
    place = folder or (Path("runs") / name if name else None)
    kind, file, subject = _what(what or [], place if resume else None)
    options |= subject
    settings = _settings(kind, file, options, sets or [])
    folder = place or Path("runs") / kind.default_name(settings)
    trackers = tuple(t for t, chosen in (("wandb", wandb), ("tensorboard", tensorboard)) if chosen)
    with _written(folder), _Bar(kind.shown) as bar, progress.to(bar.begin), _warnings_in_one_line():
        run.train(folder, settings, run.RunOptions(device, devices, resume, trackers), bar.show, kind.name)
        if not _is_first():
            return
        page = kind.report([folder], None)
    _show_runs(kind, [folder])
    say_where(page)


def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    data: Annotated[str | None, typer.Option(help="Other pictures than the run's own: as in train.")] = None,
    perceptual: Annotated[
        bool, typer.Option("--perceptual", help="EfficientNet's feature distance, too; needs an extra.")
    ] = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """The figures of a run's model on held-out pictures, computed anew.

    [bold]Examples[/]

      codebound eval runs/ba_test

      codebound eval runs/ba_test --data folder:holiday --json
    """
    from codebound.runs.kinds import EvaluationOptions
    from codebound.runs.run import kind_of

    kind = kind_of(folder)
    with _warnings_in_one_line():
        figures = kind.evaluate(folder, EvaluationOptions(data, device, perceptual))
    if as_json:
        plain(json.dumps(figures, indent=2))
        return
    out.print(_table(kind, {folder.name: figures}))


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    page: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The page (default: report.html in the run, or runs.html beside several)."
        ),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write the report of a run, or of several side by side, and print their figures.

    [bold]Examples[/]

      codebound report runs/ba_test

      codebound report runs/ema_512 runs/ba_512 --out comparison.html
    """
    if page is not None:
        Outputs((), force).check(page)
    kind = _common_kind(folders)
    written = kind.report(folders, page)
    if as_json:
        plain(json.dumps(_final_figures(folders), indent=2))
        return
    _show_runs(kind, folders)
    say_where(written)


def runs(
    folder: Annotated[Path, typer.Argument(help="Where to look.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """The runs under a folder: kind, how far they are, and their score.

    [bold]Example[/]

      codebound runs
    """
    from codebound.runs.run import run_states

    states = list(run_states(folder))
    if as_json:
        plain(json.dumps([{**state._asdict(), "folder": str(state.folder)} for state in states], indent=2))
        return
    table = Table("run", "kind", "state", "score", title=escape(str(folder)))
    for state in states:
        table.add_row(*(escape(str(value)) for value in state))
    out.print(table)


def _what(what: list[str], resumed: Path | None) -> tuple[RunKind[Any], Path | None, dict[str, Any]]:
    """The kind of run, its settings file, and the run that it builds on as a setting; from the arguments, or from the
    run that goes on.

    Raises:
        InputError: more arguments than a kind takes, or a kind that is not the file's.
    """
    from codebound.runs.kinds import DEFAULT, kind_names, kind_of_settings, run_kind

    # A name is a kind, a name that ends so a settings file, any other the folder that some kinds build on.
    names = [text for text in what if text in kind_names()]
    files = [text for text in what if text.endswith((".yaml", ".yml"))]
    folders = [text for text in what if text not in (*names, *files)]
    if len(names) > 1 or len(files) > 1 or len(folders) > 1:
        raise InputError(
            f"train takes a kind ({', '.join(kind_names())}), a run and a settings file; got {' '.join(what)}"
        )

    # Settings say their kind; those of a run that goes on lie in its folder. A prior of sound is asked for as a prior.
    file = Path(files[0]) if files else None
    if file is None and resumed is not None and (resumed / "config.yaml").exists():
        file = resumed / "config.yaml"
    of_file = None if file is None else kind_of_settings(file)
    asked = None if of_file not in kind_names() else run_kind(of_file).asked
    if names and of_file is not None and names[0] not in (of_file, asked):
        raise InputError(f"{file} holds settings of kind {of_file!r}, not {names[0]!r}")
    kind = run_kind(of_file or (names[0] if names else DEFAULT))
    if folders:
        kind = kind.for_subject(folders[0])

    # A kind that builds on no run takes no folder.
    if folders and kind.subject is None:
        raise InputError(
            f"{folders[0]!r} is neither a kind ({', '.join(kind_names())}) nor a settings file (.yaml)"
        )
    return kind, file, {kind.subject: folders[0]} if folders and kind.subject else {}


def _settings(
    kind: RunKind[Any], file: Path | None, options: dict[str, Any], sets: list[str]
) -> LoopSettings:
    """From the file, then the options, then --set.

    Raises:
        InputError: an option of another kind, or --epochs and --steps, which say the same thing.
    """
    from codebound import config

    # An option is refused by its own name, which is not always that of the setting.
    for key, value in options.items():
        if key not in kind.settings.model_fields:
            option = "--kind" if key == "prior" else f"--{key.replace('_', '-')}"
            raise InputError(f"{option} {value}: a run of kind {kind.name!r} has no such setting")

    # Either says how long to train: the one that is given counts, not the other one in the file.
    if {"epochs", "steps"} <= options.keys():
        raise InputError(f"give --epochs {options['epochs']} or --steps {options['steps']}, not both")
    if "epochs" in options:
        options = {**options, "steps": None}
    base = kind.settings() if file is None else config.from_yaml(kind.settings, file)
    return config.with_overrides(
        config.build(kind.settings, {**base.model_dump(exclude_unset=True), **options}), sets
    )


def _common_kind(folders: list[Path]) -> RunKind[Any]:
    """The kind that all of these runs have.

    Raises:
        InputError: no folder, not the folder of a run, or runs of several kinds.
    """
    from codebound.runs.run import kind_of

    if not folders:
        raise InputError("give the folder of at least one run")
    kinds = {folder: kind_of(folder) for folder in folders}
    if len({kind.name for kind in kinds.values()}) > 1:
        named = ", ".join(f"{folder} is a {kind.name}" for folder, kind in kinds.items())
        raise InputError(f"runs of one kind can stand side by side: {named}")
    return kinds[folders[0]]


def _final_figures(folders: list[Path]) -> dict[str, Any]:
    from codebound.runs.run import final_figures

    # Runs of one name, in different folders, are told apart by their paths.
    names = [folder.resolve().name for folder in folders]
    named = {
        name if names.count(name) == 1 else str(folder): folder
        for name, folder in zip(names, folders, strict=True)
    }
    return {name: final_figures(f) for name, f in named.items()}


def _show_runs(kind: RunKind[Any], folders: list[Path]) -> None:
    out.print(_table(kind, _final_figures(folders)))


def _table(kind: RunKind[Any], figures: Mapping[str, Mapping[str, Any]]) -> Table:
    """Figures of runs as columns, each row with what it can be at best."""
    head, *rows = kind.table(figures)
    table = Table(*head, title=f"Runs of kind {kind.name}")
    for row in rows:
        table.add_row(*row)
    return table


class _Bar:
    """A progress bar with the figures that matter, from the first evaluation on; a line an evaluation where no one
    looks at a terminal."""

    def __init__(self, shown: Sequence[tuple[str, str]]) -> None:
        self._shown = shown
        self._bar: Progress | None = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, event: progress.Progress) -> None:
        """What is done before the first step, where it takes seconds: k-means of a large codebook."""
        if err.is_terminal and _is_first():
            err.print(f"{event.what}: {event.done:,} of {event.of:,}", end="\r", highlight=False)

    def show(self, event: ProgressEvent, recipe: Recipe) -> None:
        if not err.is_terminal:
            if event.evaluated:
                err.print(
                    f"step {event.step:,} of {recipe.steps:,}: {self._figures(event)}",
                    highlight=False,
                    soft_wrap=True,
                )
            return
        if self._bar is None:
            columns = (
                BarColumn(12),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, TextColumn("left"), console=err)
            self._bar.start()
            self._bar.add_task("", total=recipe.steps, completed=event.step, figures="")
        self._bar.update(self._bar.task_ids[0], completed=event.step, figures=self._figures(event))

    def _figures(self, event: ProgressEvent) -> str:
        speed = f"{event.items_per_s:,.0f} {event.unit}/s" if event.items_per_s else "starting"
        figures = [
            form.format(value) for name, form in self._shown if (value := event.values.get(name)) is not None
        ]
        return ", ".join([speed, *figures])


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Say in one line what stopped a run, and that it can go on."""
    try:
        yield
    except KeyboardInterrupt:
        if _is_first():
            err.print(
                f"Interrupted. Go on with: codebound train --resume --out {escape(str(folder))}",
                soft_wrap=True,
            )
        raise
    except OSError as error:
        raise InputError(
            f"--out {folder}: {error.strerror or error}; the last checkpoint is whole, --resume goes on from it"
        ) from None


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Our own warnings without file and line; the first process says them for all."""
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if category is not UserWarning:
            before(message, category, *rest, **more)
        elif _is_first():
            err.print(f"[yellow]Warning:[/] {escape(str(message))}", highlight=False, soft_wrap=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


def _is_first() -> bool:
    """Whether this is the process that writes."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"
