"""A cell of the study: one training by the engine, judged over its steps and at its end."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import torch

from codebound.data.image_sets import ImageSet
from codebound.engine.devices import launch
from codebound.engine.trainer import Trainer
from codebound.evaluate.tokenizers import QUICK_SAMPLES, SAMPLES, held_out_figures
from codebound.metrics import CodeUsage
from codebound.runs import settings as runs
from codebound.studies.framework.declare import Cell
from codebound.studies.framework.pictures import opened
from codebound.studies.utilisation import arms
from codebound.studies.utilisation.settings import Settings
from codebound.tasks.tokenizer import TokenizerTask


def train(settings: Settings, cell: Cell) -> dict[str, Any]:
    """Train one tokenizer; its held-out figures over the steps and at the end."""
    images, own = pictures(settings), settings.training(cell["codebook_size"], cell["seed"])
    recipe = runs.recipe(own, images)

    # The seed draws the weights, the same for all of its arms.
    torch.manual_seed(cell["seed"])
    request = runs.quantizer_request(own, recipe.steps, images)
    tokenizer = runs.around(arms.build(cell["arm"], cell["start"], request), own, images)
    task = TokenizerTask(tokenizer, images, own)

    # A training curve has `evaluations` points after its first one; the last of them is the final judgement.
    points = {round(recipe.steps * (i + 1) / settings.evaluations) for i in range(settings.evaluations)}
    with closing(Trainer(launch("cpu"), task, recipe)) as trainer:
        trainer.initialise()
        curve, revived = [_judge(trainer, task, quick=True)], 0.0
        for step in range(1, recipe.steps + 1):
            revived += trainer.step().values.get("revived", 0.0)
            if step in points and step < recipe.steps:
                curve.append(_judge(trainer, task, quick=True))
        final = _judge(trainer, task, quick=False) | {"usage_training": _usage_in_training(trainer, task)}
    return {"curve": [*curve, final], "final": final, "revived": revived, "skipped": trainer.progress.skipped}


def pictures(settings: Settings) -> ImageSet:
    """The crops of all cells, opened once in each process."""
    return opened(settings.data, runs.picture_request(settings.training(codebook_size=2, seed=0)))


def _judge(trainer: Trainer, task: TokenizerTask, quick: bool) -> dict[str, Any]:
    """Figures of the averaged weights; a point of the curve from the first crops only."""
    held_out = task.images.held_out
    crops, samples = (held_out[: runs.DEFAULT_HELD_OUT], QUICK_SAMPLES) if quick else (held_out, SAMPLES)
    with trainer.averaged():
        return {"step": trainer.progress.step, **held_out_figures(task.tokenizer, crops, samples)}


@torch.no_grad()
def _usage_in_training(trainer: Trainer, task: TokenizerTask) -> float:
    """Usage on as many further crops of the training photographs: where it is higher, other scenes are why."""
    recipe, images = trainer.recipe, task.images
    usage = CodeUsage(task.tokenizer.quantizer.codebook_sizes, sync_on_compute=False)
    with trainer.averaged():
        for i in range(-(-len(images.held_out) // recipe.batch_size)):
            batch = images.batch(recipe.seed, recipe.steps + i, recipe.batch_size)
            usage.update(task.tokenizer.encode(batch))
    return float(usage.compute()["usage"].mean())
