"""A run of `codebound train`, of any kind: its folder, from settings to the final figures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lightning_fabric import Fabric

from codebound import config
from codebound.engine.checkpoints import Checkpoints
from codebound.engine.devices import check_precision, launch
from codebound.engine.journal import Journal
from codebound.engine.loop import Hooks, ProgressEvent, fit
from codebound.engine.recipe import LoopSettings, Recipe
from codebound.engine.trackers import Trackers
from codebound.engine.trainer import Trainer
from codebound.errors import InputError
from codebound.files import write_text
from codebound.reporting.formatting import count_text
from codebound.runs.folder import PLAN, RunFolder, read_study
from codebound.runs.kinds import DEFAULT, RunKind, kind_of_settings, run_kind

STUDY = "train"
FINAL = "final_metrics.json"
SPARE = 32 * 2**20  # bytes for log, pictures and report

S = TypeVar("S", bound=config.Settings)


class RunOptions(NamedTuple):
    """What decides no number: the machine and who watches."""

    device: str = "auto"
    devices: int = 1
    resume: bool = False
    trackers: tuple[str, ...] = ()


def train(
    folder: Path,
    settings: LoopSettings,
    options: RunOptions = RunOptions(),  # noqa: B008  a tuple
    progress: Callable[[ProgressEvent, Recipe], None] = lambda event, recipe: None,
    kind: str = DEFAULT,
) -> None:
    """Train, judge and save; on several devices every process calls this, and the first one writes.

    Raises:
        InputError: settings that don't fit together or the data, a folder in use, too little disk space.
        DivergenceError, TrainingInterrupt: as `engine.loop.fit`.
    """
    fabric = launch(options.device, options.devices)
    check_precision(settings.precision, fabric.device)

    # Settings as they hold, data, model and optimizers; only then is anything written.
    chosen = run_kind(kind)
    settings = chosen.resolved(settings)
    task, recipe, identity = chosen.prepare(settings)
    trainer = Trainer(fabric, task, recipe)
    _on_first(fabric, lambda: _open(folder, settings, identity, trainer, options.resume))

    # The training itself.
    trackers = Trackers(options.trackers if fabric.is_global_zero else (), folder, settings.model_dump())
    hooks = Hooks(lambda event: progress(event, recipe), trackers.log)
    try:
        fit(trainer, Checkpoints(folder / "checkpoints", settings.keep), Journal(folder), hooks)
    finally:
        trackers.close()

    # What is kept of it has the averaged weights.
    if fabric.is_global_zero:
        with trainer.averaged():
            _finish(folder, chosen, trainer)
    fabric.barrier()


def kind_of(folder: Path) -> RunKind[Any]:
    """The kind of a run in a folder.

    Raises:
        InputError: not a run's folder.
    """
    check_run(folder)
    return run_kind(kind_of_settings(folder / "config.yaml"))


def load_settings(folder: Path, settings: type[S]) -> S:
    """The resolved settings of a run."""
    check_run(folder)
    return config.from_yaml(settings, folder / "config.yaml")


def check_run(folder: Path) -> dict[str, Any]:
    """`study.json` of a training run.

    Raises:
        InputError: no such folder, or that of another study.
    """
    study = read_study(folder)
    if study["study"] != STUDY:
        raise InputError(f"{folder} holds a run of study {study['study']!r}, not one of codebound train")
    return study


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run or a study, and not a model alone."""
    return (folder / "study.json").is_file()


def check_finished(folder: Path) -> None:
    """Refuse a run that is not finished.

    Raises:
        InputError: so, or not a run's folder.
    """
    check_run(folder)
    if not (folder / FINAL).exists():
        raise InputError(f"run {folder} is not finished; go on with: codebound train --resume --out {folder}")


def final_figures(folder: Path) -> dict[str, Any]:
    """`final_metrics.json` of a finished run.

    Raises:
        InputError: not finished, or the file can't be read.
    """
    check_finished(folder)
    try:
        figures = json.loads((folder / FINAL).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / FINAL} can't be read: {error}") from None
    if not isinstance(figures, dict):
        raise InputError(f"{folder / FINAL} holds a {type(figures).__name__}; figures by name are accepted")
    return figures


class RunState(NamedTuple):
    """What `codebound runs` says of a folder."""

    folder: Path
    kind: str
    state: str
    score: str


def run_states(root: Path) -> Iterator[RunState]:
    """Every run of a training or a study under a folder, by name.

    Raises:
        InputError: there is no such folder.
    """
    if not root.is_dir():
        raise InputError(f"there is no folder {root}; runs are written to runs/ unless --out says otherwise")
    for path in sorted(root.rglob("study.json")):
        yield _state(path.parent)


def _state(folder: Path) -> RunState:
    """What a folder says of itself; one that can't be read is listed with the reason."""
    try:
        # A study counts its finished cells.
        study = read_study(folder)["study"]
        if study != STUDY:
            return RunState(folder, study, _progress(folder), "")

        # A training is finished with its final figures, else it stands where its log ends.
        kind = kind_of(folder)
        if (folder / FINAL).exists():
            figures = final_figures(folder)
            return RunState(folder, kind.name, f"finished, {figures['step']:,} steps", kind.score(figures))
        rows = Journal(folder).rows()
        return RunState(folder, kind.name, f"step {rows[-1]['step']:,}" if rows else "not begun", "")
    except (InputError, OSError, ValueError, KeyError, TypeError) as error:
        return RunState(folder, "?", f"can't be read: {error}", "")


def _progress(folder: Path) -> str:
    """How far a study or a tokenised set is: by its plan, or its shards."""
    cells = len(list((folder / "cells").glob("*.json")))
    plan = folder / PLAN
    if not plan.exists():
        shards = len(list(folder.rglob("*.parquet")))
        return count_text(shards, "shard") if shards and not cells else count_text(cells, "cell")
    planned = len(json.loads(plan.read_text(encoding="utf-8")))
    return f"finished, {count_text(cells, 'cell')}" if cells >= planned else f"{cells} of {planned} cells"


def _finish(folder: Path, kind: RunKind[Any], trainer: Trainer[Any]) -> None:
    """Model, pictures and figures; the figures come last, since they say that the run is finished."""
    progress = trainer.progress
    result = kind.finish(folder, trainer.task, progress.skipped, progress.step)
    Journal(folder).write_csv()
    write_text(folder / FINAL, json.dumps(result, indent=2) + "\n")


def _open(folder: Path, settings: LoopSettings, identity: Any, trainer: Trainer[Any], resume: bool) -> None:
    """Make the run's folder, or take up an earlier run; refuse what would be lost or would not fit on the disk."""
    begun = (folder / "config.yaml").exists()
    if begun and not resume:
        check_run(folder)
        raise InputError(
            f"--out {folder} holds a run already; --resume goes on with it, or give another --name"
        )
    if resume and not begun:
        raise InputError(f"--resume: {folder} holds no run to go on with")
    _check_disk(folder, settings, trainer)
    RunFolder.open(folder, STUDY, settings, identity)


def _check_disk(folder: Path, settings: LoopSettings, trainer: Trainer[Any]) -> None:
    """Before anything is written: weights, their average and two moments in each checkpoint, and the model."""
    # What the weights take, and how many copies there will be at a time.
    states = [module.state_dict().values() for module in trainer.task.modules.values()]
    weights = sum(t.numel() * t.element_size() for tensors in states for t in tensors)
    needed = (settings.keep + 2) * 4 * weights + SPARE

    # The folder may not exist yet: ask the nearest one above it that does.
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise InputError(
            f"--out {folder}: {free >> 20} MiB are free on the disk, the run needs about {needed >> 20} MiB"
        )


def _on_first(fabric: Fabric, work: Callable[[], None]) -> None:
    """Do what one process must do, and let all of them see its refusal."""
    refusal: str | None = None
    if fabric.is_global_zero:
        try:
            work()
        except InputError as error:
            refusal = str(error)
    refusal = fabric.broadcast(refusal)
    if refusal is not None:
        raise InputError(refusal)
