"""The run of an image tokenizer: from its settings to a model with figures, pictures and a report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from codebound.data.image_sets import ImageSet
from codebound.data.image_sources import open_images
from codebound.data.picture_request import PictureRequest
from codebound.engine.devices import launch
from codebound.errors import InputError
from codebound.evaluate import tokenizers as evaluation
from codebound.files import write_text
from codebound.reporting.formatting import number
from codebound.runs import figures, labels, report
from codebound.runs import settings as settings_module
from codebound.runs.kinds import EvaluationOptions, Preparation, RunKind
from codebound.runs.run import check_finished, load_settings
from codebound.runs.settings import Settings
from codebound.tasks.tokenizer import TokenizerTask
from codebound.tokenizers import ImageTokenizer


class TokenizerRun(RunKind[Settings]):
    """`codebound train` without a kind."""

    name = "tokenizer"
    settings = Settings
    shown = (("psnr", "PSNR {:.2f} dB"), ("usage", "usage {:.0%}"), ("gap_db", "gap {:.1f} dB"))

    def default_name(self, settings: Settings) -> str:
        """Quantizer, codebook size, and the data where they are not the default ones."""
        quantizer = settings.quantizer
        kind = quantizer if isinstance(quantizer, str) else str(quantizer.get("kind", "own"))
        data = settings.data.partition(":")[0]
        return "-".join([kind, str(settings.codebook_size), *([data] if data != "photos" else [])])

    def pictures(self, settings: Settings) -> PictureRequest:
        """What its settings ask of pictures."""
        return settings_module.picture_request(settings)

    def prepare(self, settings: Settings) -> Preparation:
        """Pictures, an untrained tokenizer, and the task of training it on them."""
        # The data come first: they decide the number of steps, and refuse what does not fit.
        images = open_images(settings.data, settings_module.picture_request(settings))
        recipe = settings_module.recipe(settings, images)

        # Weights depend on the seed alone.
        torch.manual_seed(settings.seed)
        tokenizer = settings_module.tokenizer(settings, images, recipe.steps)
        return Preparation(TokenizerTask(tokenizer, images, settings), recipe, {"data": images.digest})

    def finish(self, folder: Path, task: TokenizerTask, skipped: int, step: int) -> dict[str, Any]:
        """Judge the trained tokenizer and write model, code counts and sample pictures; returns the figures."""
        # Judge by pictures that training never saw.
        model, images = task.tokenizer, task.images
        result = {
            "step": step,
            "skipped_steps": skipped,
            "data": images.note,
            "codebook_sizes": list(model.quantizer.codebook_sizes),
            **evaluation.final_figures(model, images),
        }

        # The model with these figures in its card, how often each code is used, and some pictures.
        model.save_pretrained(folder / "model", card=_card(images, result))
        counts = evaluation.code_counts(model, images.held_out)
        write_text(folder / "code_counts.json", json.dumps(counts) + "\n")
        figures.samples(model, images, folder / "samples.png")
        return result

    def evaluate(self, folder: Path, options: EvaluationOptions) -> dict[str, Any]:
        """The final figures of a finished run anew, also on other pictures.

        Raises:
            InputError: pictures of other channels than the tokenizer's.
        """
        # The run's own pictures or those the user names, in the tokenizer's colours.
        model, settings = load_model(folder), load_settings(folder, self.settings)
        request = settings_module.picture_request(settings)._replace(channels=model.channels)
        images = open_images(options.data or settings.data, request)
        if images.channels != model.channels:
            raise InputError(
                f"data={options.data}: pictures of {images.channels} channels; the run's tokenizer has {model.channels}"
            )

        # The same figures as at the end of training.
        model = model.to(launch(options.device).device)
        sizes = {"codebook_sizes": list(model.quantizer.codebook_sizes)}
        return {"data": images.note, **sizes, **evaluation.final_figures(model, images, options.perceptual)}

    def report(self, folders: Sequence[Path], page: Path | None) -> Path:
        """One page for all of these runs."""
        return report.write(folders, page)

    def table(self, figures: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
        """A row for each figure that a run has, beside the limit that it can't pass."""
        return labels.table(figures)

    def score(self, figures: Mapping[str, Any]) -> str:
        """PSNR on held-out pictures, in dB."""
        psnr = labels.look_up(figures, ("held_out", "psnr"))
        return f"{labels.written(psnr, '{:.2f}')} dB"


KIND = TokenizerRun()


def load_model(folder: Path) -> ImageTokenizer:
    """The tokenizer of a finished run.

    Raises:
        InputError: not a run's folder, or a run that is not finished.
    """
    check_finished(folder)
    return ImageTokenizer.from_pretrained(folder / "model")


def _card(images: ImageSet, result: Mapping[str, Any]) -> str:
    """The text of a model card: how the model was trained, and a table of its figures."""
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
