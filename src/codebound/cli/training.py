"""The commands around a run of the image tokenizer: train, eval, report.

What they call is imported inside them: torchmetrics and lightning-fabric take seconds, which `--help` need not.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from codebound import config
from codebound.cli.terminal import (
    AsJson,
    err,
    out,
    plain,
    say_where,
)
from codebound.errors import InputError

if TYPE_CHECKING:
    from codebound.engine.loop import Seen
    from codebound.engine.recipe import Recipe
    from codebound.runs.settings import Settings

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


def train(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG.yaml]", help="Settings, as a run's config.yaml holds them."),
    ] = None,
    quantizer: Annotated[
        str | None,
        typer.Option(
            help="vq-ema, vq-ema-norevival, ba, gradient, rotation, simvq, fsq, lfq, bsq, rvq or pq."
        ),
    ] = None,
    codebook_size: Annotated[int | None, typer.Option(help="K (default 512).")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the pictures (default 30); 8,192 crops count as one.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Updates, instead of epochs.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="photos (default), fashion-mnist[:PATH], cifar10:PATH, folder:PATH, hf:NAME, webdataset:PATTERN."
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
    r"""Train an image tokenizer; without arguments the default one, on the embedded photographs.

    The run folder holds the settings, the log, checkpoints, the model, its figures on held-out pictures and a report.
    Interrupt it when you like: the same command with --resume goes on, to the same weights bit for bit.

    [bold]Examples[/]

      codebound train

      codebound train --quantizer ba --codebook-size 512 --epochs 30 --name ba_test

      codebound train --data folder:holiday --set crop=64 --set stride=8 --name holiday

      codebound train --resume --name ba_test
    """
    from codebound.runs import report as reports
    from codebound.runs import run

    given = {
        "quantizer": quantizer, "codebook_size": codebook_size, "epochs": epochs, "steps": steps, "data": data,
        "precision": precision,
    }  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    settings = _settings(file, given, sets or [], name, folder, resume)
    folder = folder or Path("runs") / (name or _name(settings))
    trackers = tuple(t for t, wanted in (("wandb", wandb), ("tensorboard", tensorboard)) if wanted)
    with _written(folder), _Bar() as bar, _warnings_in_one_line():
        run.train(folder, settings, run.Where(device, devices, resume, trackers), bar.show)
        if not _is_first():
            return
        page = reports.write([folder])
    _show([folder])
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
    from codebound.runs import run

    with _warnings_in_one_line():
        found = run.evaluate(folder, data, device, perceptual)
    if as_json:
        plain(json.dumps(found, indent=2))
        return
    out.print(_table({folder.name: found}))


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    page: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The page (default: report.html in the run, or runs.html beside several)."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of a run, or of several side by side, and print their figures.

    [bold]Examples[/]

      codebound report runs/ba_test

      codebound report runs/ema_512 runs/ba_512 --out comparison.html
    """
    from codebound.runs import report as reports

    written = reports.write(folders, page)
    if as_json:
        plain(json.dumps({run.name: run.final for run in reports.load(folders)}, indent=2))
        return
    _show(folders)
    say_where(written)


def _settings(
    file: Path | None,
    given: dict[str, Any],
    sets: list[str],
    name: str | None,
    folder: Path | None,
    resume: bool,
) -> Settings:
    """From the file, then the options, then --set; of a run that goes on, from its own config.yaml."""
    from codebound.runs.settings import Settings

    if file is None and resume:
        where = folder or (Path("runs") / name if name else None)
        if where is not None and (where / "config.yaml").exists():
            file = where / "config.yaml"
    base = Settings() if file is None else config.from_yaml(Settings, file)
    return config.with_overrides(config.build(Settings, {**base.model_dump(), **given}), sets)


def _name(settings: Settings) -> str:
    kind = (
        settings.quantizer if isinstance(settings.quantizer, str) else settings.quantizer.get("kind", "own")
    )
    data = settings.data.partition(":")[0]
    return "-".join([str(kind), str(settings.codebook_size), *([data] if data != "photos" else [])])


def _show(folders: list[Path]) -> None:
    from codebound.runs import report as reports

    out.print(_table({run.name: run.final for run in reports.load(folders)}))


def _table(runs: Mapping[str, Mapping[str, Any]]) -> Table:
    """Figures of runs as columns, each row with what it can be at best."""
    from codebound.runs.labels import rows

    table = Table("held out", *runs, "limit", title="Image tokenizers")
    for label, cells, limit in rows(list(runs.values())):
        table.add_row(label, *cells, limit)
    return table


class _Bar:
    """A progress bar with the figures that matter, drawn from the first evaluation on."""

    def __init__(self) -> None:
        self._bar: Progress | None = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, seen: Seen, recipe: Recipe) -> None:
        if self._bar is None:
            columns = (
                BarColumn(12),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, TextColumn("left"), console=err)
            self._bar.start()
            self._bar.add_task("", total=recipe.steps, completed=seen.step, figures="")
        self._bar.update(self._bar.task_ids[0], completed=seen.step, figures=_figures(seen))


def _figures(seen: Seen) -> str:
    def text(name: str, form: str) -> str:
        value = seen.values.get(name)
        return "–" if value is None else form.format(value)

    speed = f"{seen.images_per_s:,.0f} images/s" if seen.images_per_s else "starting"
    psnr, usage = text("psnr", "{:.2f}"), text("usage", "{:.0%}")
    return f"{speed}, PSNR {psnr} dB, usage {usage}, gap {text('gap_db', '{:.1f}')} dB"


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
