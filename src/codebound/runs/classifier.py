"""The run of a classifier: what `codebound eval samples` judges by, where a set has classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from codebound import config
from codebound.data.image_sources import open_images
from codebound.data.picture_request import PictureRequest
from codebound.engine.devices import launch
from codebound.engine.recipe import LoopSettings, Recipe
from codebound.errors import InputError
from codebound.evaluate.classifier import PictureClassifier
from codebound.files import write_text
from codebound.reporting import page
from codebound.runs import labels, report_parts
from codebound.runs.kinds import EvaluationOptions, Preparation, RunKind
from codebound.runs.run import check_finished, load_settings
from codebound.tasks.classifier import ClassifierOptimization, ClassifierTask

ROWS: tuple[labels.Row, ...] = ((("held_out", "accuracy"), "accuracy", "{:.1%}", "100 %"),)


class Settings(LoopSettings, ClassifierOptimization):
    """All that decides a run's numbers, but for the pictures and the machine."""

    kind: Literal["classifier"] = "classifier"
    data: str = "fashion-mnist"
    crop: int = Field(default=32, ge=1)
    channels: Literal[1, 3] = 3
    held_out: int = Field(default=2000, ge=1)
    width: int = Field(default=32, ge=8)
    steps: int = Field(default=1500, ge=1)
    evaluate_every: int | None = Field(default=None, ge=1)  # by default a tenth of the run


class ClassifierRun(RunKind[Settings]):
    """`codebound train classifier`."""

    name = "classifier"
    settings = Settings
    shown = (("accuracy", "accuracy {:.1%}"),)

    def default_name(self, settings: Settings) -> str:
        """The kind of data."""
        return f"classifier-{settings.data.partition(':')[0]}"

    def prepare(self, settings: Settings) -> Preparation:
        """Pictures with classes, an untrained classifier, and the task of training it on them.

        Raises:
            InputError: a set without classes, or with one.
        """
        images = open_images(settings.data, _request(settings))
        if len(images.class_names) < 2:
            raise InputError(
                f"data={settings.data}: {len(images.class_names)} classes; a classifier needs at least 2"
            )
        torch.manual_seed(settings.seed)
        classifier = PictureClassifier(images.channels, images.class_names, settings.width)
        every = settings.evaluate_every or max(1, settings.steps // 10)
        recipe = config.part(Recipe, settings, evaluate_every=every)
        return Preparation(ClassifierTask(classifier, images, settings), recipe, {"data": images.digest})

    def finish(self, folder: Path, task: ClassifierTask, skipped: int, step: int) -> dict[str, Any]:
        """Standardise its features, judge it and write it; returns the figures."""
        task.standardise(load_settings(folder, Settings).seed)
        figures = {"pictures": len(task.images.held_out), **task.evaluate()}
        accuracy = figures["accuracy"] or 0.0
        card = (
            f"Trained by `codebound train classifier` for {step:,} steps on {task.images.note}; accuracy "
            f"{accuracy:.1%} on {figures['pictures']:,} held-out pictures."
        )
        task.classifier.save_pretrained(folder / "model", card=card)
        return {"step": step, "skipped_steps": skipped, "data": task.images.note, "held_out": figures}

    def evaluate(self, folder: Path, options: EvaluationOptions) -> dict[str, Any]:
        """The final figures of a finished run anew, also on other pictures of the same classes."""
        settings, classifier = load_settings(folder, Settings), load_classifier(folder)
        images = open_images(options.data or settings.data, _request(settings))
        if images.class_names != classifier.classes:
            raise InputError(
                f"data={options.data}: classes {images.class_names}; the run has {classifier.classes}"
            )
        task = ClassifierTask(classifier.to(launch(options.device).device), images, settings)
        return {"data": images.note, "held_out": {"pictures": len(images.held_out), **task.evaluate()}}

    def report(self, folders: Sequence[Path], page_path: Path | None) -> Path:
        """One page for all of these runs."""
        runs, page_path = report_parts.summaries(folders), report_parts.page_of(folders, page_path)
        rows = labels.rows([run["final"] for run in runs], ROWS)
        curves = report_parts.curves(runs, ("accuracy", "Held out, with averaged weights", "accuracy"))
        write_text(
            page_path, page.render("runs/classifier_report.html.j2", runs=runs, rows=rows, curves=curves)
        )
        return page_path

    def table(self, figures: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
        """A row for each figure."""
        return labels.table(figures, ROWS)

    def score(self, figures: Mapping[str, Any]) -> str:
        """Accuracy on held-out pictures."""
        return labels.written(labels.look_up(figures, ("held_out", "accuracy")), "{:.1%}")


KIND = ClassifierRun()


def load_classifier(folder: Path) -> PictureClassifier:
    """The classifier of a finished run.

    Raises:
        InputError: not a run's folder, or a run that is not finished.
    """
    check_finished(folder)
    return PictureClassifier.from_pretrained(folder / "model")


def _request(settings: Settings) -> PictureRequest:
    return PictureRequest(settings.crop, settings.channels, settings.held_out)
