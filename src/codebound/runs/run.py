"""A run: its folder, from settings to model, figures and report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric

from codebound import config
from codebound.data.image_sets import ImageSet
from codebound.data.image_sources import open_images
from codebound.engine.checkpoints import Checkpoints
from codebound.engine.devices import check_precision, launch
from codebound.engine.journal import Journal
from codebound.engine.loop import Hooks, Seen, fit
from codebound.engine.recipe import Recipe
from codebound.engine.trackers import Trackers
from codebound.engine.trainer import Trainer
from codebound.errors import InputError
from codebound.evaluate import tokenizers as evaluation
from codebound.files import write_text
from codebound.reporting.formatting import number
from codebound.runs import figures
from codebound.runs import settings as settings_module
from codebound.runs.folder import RunFolder, read_study
from codebound.runs.settings import Settings
from codebound.tokenizers import ImageTokenizer

STUDY = "train"
SPARE = 32 * 2**20  # bytes for log, pictures and report


class Where(NamedTuple):
    """What decides no number: the machine and who watches."""

    device: str = "auto"
    devices: int = 1
    resume: bool = False
    trackers: tuple[str, ...] = ()


def train(
    folder: Path,
    settings: Settings,
    where: Where = Where(),  # noqa: B008  a tuple
    progress: Callable[[Seen, Recipe], None] = lambda seen, recipe: None,
) -> None:
    """Train, judge and save; on several devices every process calls this, and the first one writes.

    Raises:
        InputError: settings that don't fit together or the data, a folder in use, too little disk space.
        Diverged, Interrupted: as `train.loop.fit`.
    """
    fabric = launch(where.device, where.devices)
    check_precision(settings.precision, fabric.device)
    images = open_images(settings.data, settings_module.picture_request(settings))
    recipe = settings_module.recipe(settings, images)
    torch.manual_seed(settings.seed)
    tokenizer = settings_module.tokenizer(settings, images, recipe.steps)
    trainer = Trainer(fabric, tokenizer, images, recipe)
    _first(fabric, lambda: _open(folder, settings, images, trainer, where.resume))
    trackers = Trackers(where.trackers if fabric.is_global_zero else (), folder, settings.model_dump())
    hooks = Hooks(
        lambda model: evaluation.held_out_figures(model, images.held_out, evaluation.QUICK_SAMPLES),
        lambda seen: progress(seen, recipe),
        trackers.log,
    )
    try:
        fit(trainer, Checkpoints(folder / "checkpoints", settings.keep), Journal(folder), hooks)
    finally:
        trackers.close()
    if fabric.is_global_zero:
        with trainer.averaged() as model:
            finish(folder, model, images, trainer)
    fabric.barrier()


def finish(folder: Path, model: ImageTokenizer, images: ImageSet, trainer: Trainer) -> None:
    """Model, final figures and pictures of a trained tokenizer."""
    found = evaluation.final_figures(model, images)
    progress = trainer.progress
    result = {
        "step": progress.step,
        "skipped_steps": progress.skipped,
        "data": images.note,
        "codebook_sizes": list(model.quantizer.codebook_sizes),
        **found,
    }
    model.save_pretrained(folder / "model", card=_card(images, result))
    write_text(folder / "code_counts.json", json.dumps(evaluation.code_counts(model, images.held_out)) + "\n")
    figures.samples(model, images, folder / "samples.png")
    Journal(folder).write_csv()
    write_text(folder / "final_metrics.json", json.dumps(result, indent=2) + "\n")


def load_model(folder: Path) -> ImageTokenizer:
    """The tokenizer of a finished run.

    Raises:
        InputError: not a run's folder, or a run that is not finished.
    """
    check_run(folder)
    if not (folder / "final_metrics.json").exists():
        raise InputError(f"run {folder} is not finished; go on with: codebound train --resume --out {folder}")
    return ImageTokenizer.from_pretrained(folder / "model")


def load_settings(folder: Path) -> Settings:
    """The resolved settings of a run."""
    check_run(folder)
    return config.from_yaml(Settings, folder / "config.yaml")


def check_run(folder: Path) -> dict[str, Any]:
    """`study.json` of a training run.

    Raises:
        InputError: no such folder, or that of another study.
    """
    study = read_study(folder)
    if study["study"] != STUDY:
        raise InputError(f"{folder} holds a run of study {study['study']!r}, not one of codebound train")
    return study


def evaluate(folder: Path, data: str | None, device: str, perceptual: bool = False) -> dict[str, Any]:
    """The final figures of a finished run on its own data, or on other data.

    Raises:
        InputError: as `load_model`; data of another number of channels.
    """
    model, settings = load_model(folder), load_settings(folder)
    request = settings_module.picture_request(settings)._replace(channels=model.channels)
    images = open_images(data or settings.data, request)
    if images.channels != model.channels:
        raise InputError(
            f"data={data}: pictures of {images.channels} channels; the run's tokenizer has {model.channels}"
        )
    fabric = launch(device)
    sizes = {"codebook_sizes": list(model.quantizer.codebook_sizes)}
    return {
        "data": images.note,
        **sizes,
        **evaluation.final_figures(model.to(fabric.device), images, perceptual),
    }


def _open(folder: Path, settings: Settings, images: ImageSet, trainer: Trainer, resume: bool) -> None:
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
    RunFolder.open(folder, STUDY, settings, {"data": images.digest})


def _check_disk(folder: Path, settings: Settings, trainer: Trainer) -> None:
    """Before anything is written: weights, their average and two moments in each checkpoint, and the model."""
    weights = trainer.tokenizer.state_dict().values()
    needed = (settings.keep + 2) * 4 * sum(t.numel() * t.element_size() for t in weights) + SPARE
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise InputError(
            f"--out {folder}: {free >> 20} MiB are free on the disk, the run needs about {needed >> 20} MiB"
        )


def _first(fabric: Fabric, work: Callable[[], None]) -> None:
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


def _card(images: ImageSet, result: dict[str, Any]) -> str:
    rows = [
        f"| {name} | {number(value)} |"
        for name, value in result["held_out"].items()
        if isinstance(value, float | int)
    ]
    return "\n".join(
        [
            f"Trained by `codebound train` for {result['step']:,} steps on {images.note}. On held-out pictures:",
            "",
            "| figure | value |",
            "|---|---|",
            *rows,
        ]
    )
