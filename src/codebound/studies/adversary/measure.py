"""A cell of the study: one tokenizer, and its decoder trained on in every arm, judged on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from codebound import config
from codebound.data.augment import Augmentation
from codebound.data.image_sets import ImageSet
from codebound.data.picture_request import PictureRequest
from codebound.engine.recipe import Recipe
from codebound.evaluate.samples import FeatureSpace, effnet_space, pixel_space
from codebound.metrics import distributions
from codebound.nets.discriminator import PatchDiscriminator
from codebound.runs.pictures import grid_picture, save_png
from codebound.studies.adversary.settings import Settings
from codebound.studies.framework.declare import Cell, CellResult
from codebound.studies.framework.pictures import opened, psnr, trained_tokenizer
from codebound.studies.framework.training import train_through
from codebound.tasks.adversarial import AdversarialOptimization, AdversarialTask
from codebound.tasks.decoder import DecoderTask
from codebound.tasks.tokenizer import TokenizerOptimization, TokenizerTask
from codebound.tokenizers.image import ImageTokenizer
from codebound.tokenizers.opening import reproduced

SHOWN = 8  # pictures in a row of a cell's picture


def measure(settings: Settings, cell: Cell) -> CellResult:
    """Train a tokenizer, freeze its codes, train its decoder on in every arm."""
    images, seed = pictures(settings), cell["seed"]
    tokenizer = trained_tokenizer(settings, images, settings.codebook_size, settings.base_steps, seed)
    judge = judge_of(settings, images)

    # Each arm from the same decoder, on the same batches.
    rows, arms = [images.held_out[:SHOWN]], []
    for weight in settings.weights:
        own = deepcopy(tokenizer)
        task = task_of(own, images, settings, weight, seed)
        curve, skipped, seconds = _trained(task, settings, seed, partial(judge, own))
        arms.append({"weight": weight, "curve": curve, "skipped": skipped, "seconds": seconds})
        rows.append(reproduced(own, images.held_out[:SHOWN]))
    sheet = grid_picture(torch.cat(rows) / 255, SHOWN)
    return CellResult(
        {"arms": arms, "floor": floor(settings, images)}, {picture_of(cell): partial(save_png, picture=sheet)}
    )


def _trained(
    task: TokenizerTask, settings: Settings, seed: int, judge: Callable[[], dict[str, Any]]
) -> tuple[list[dict[str, Any]], int, float]:
    """Train an arm: its curve, the steps that were skipped, and the processor's seconds without those of judging."""
    curve: list[dict[str, Any]] = []
    judging = 0.0

    def look(step: int) -> None:
        nonlocal judging
        began = time.process_time()
        curve.append({"step": step, **judge()})
        judging += time.process_time() - began

    points = {round(settings.steps * i / settings.points) for i in range(settings.points + 1)}
    recipe = Recipe(batch_size=settings.batch_size, steps=settings.steps, seed=seed)
    began = time.process_time()
    skipped = train_through(task, recipe, points=points, judge=look)
    return curve, skipped, time.process_time() - began - judging


def picture_of(cell: Cell) -> str:
    """Where a cell leaves its picture: held-out pictures, and what each arm gives back of them."""
    return f"pictures/{cell.name}.png"


def pictures(settings: Settings) -> ImageSet:
    """The pictures of all cells, opened once in each process; of the held-out ones half judge the other half."""
    request = PictureRequest(
        settings.crop, settings.channels, 2 * settings.pictures, settings.memory, settings.workers
    )
    return opened(settings.data, request)


def task_of(
    tokenizer: ImageTokenizer, images: ImageSet, settings: Settings, weight: float, seed: int
) -> TokenizerTask:
    """The decoder alone as a task, pictures augmented as for the tokenizer: by squared error, or also against a
    discriminator of this weight.
    """
    tokenizer.train()
    warmup = max(1, settings.steps // 20)
    augmentation = config.part(Augmentation, settings).model_dump()
    if not weight:
        own = TokenizerOptimization(lr=settings.decoder_lr, warmup=warmup, **augmentation)
        return DecoderTask(tokenizer, images, own)
    torch.manual_seed(seed)
    discriminator = PatchDiscriminator(
        images.channels, width=settings.discriminator_width, layers=settings.discriminator_layers
    )
    own = AdversarialOptimization(
        lr=settings.decoder_lr,
        warmup=warmup,
        discriminator_lr=settings.discriminator_lr,
        adversarial=weight,
        begin=settings.begin,
        ramp=settings.ramp,
        freeze=True,
        **augmentation,
    )
    return AdversarialTask(tokenizer, discriminator, images, own, settings.steps, begun=True)


def judge_of(settings: Settings, images: ImageSet) -> Callable[[ImageTokenizer], dict[str, Any]]:
    """What a tokenizer's reproductions of one half of the held-out pictures are beside the other half."""
    judging, pictured = images.held_out.split(settings.pictures)
    real = {name: space.features(judging) for name, space in _spaces(settings, images).items()}

    def judge(tokenizer: ImageTokenizer) -> dict[str, Any]:
        again = reproduced(tokenizer, pictured)
        spaces = {
            name: _distances(space.features(again), real[name])
            for name, space in _spaces(settings, images).items()
        }
        return {"psnr": psnr(again, pictured), "spaces": spaces}

    return judge


def floor(settings: Settings, images: ImageSet) -> dict[str, dict[str, float]]:
    """The distances of the one half itself from the other."""
    judging, pictured = images.held_out.split(settings.pictures)
    return {
        name: _distances(space.features(pictured), space.features(judging))
        for name, space in _spaces(settings, images).items()
    }


def _spaces(settings: Settings, images: ImageSet) -> Mapping[str, FeatureSpace]:
    """The feature spaces that there are; no arm is trained with any of them."""
    made = {"pixels": partial(pixel_space, images.held_out[: settings.pictures]), "effnet": _effnet}
    return {name: made[name]() for name in there(settings)}


def there(settings: Settings) -> list[str]:
    """The names of the feature spaces that this machine has."""
    return [name for name in settings.features if name != "effnet" or find_spec("efficientnet_lite_pytorch")]


@lru_cache(maxsize=1)
def _effnet() -> FeatureSpace:
    return effnet_space()


def _distances(features: Tensor, real: Tensor) -> dict[str, float]:
    return {
        "kernel": 1000 * distributions.kernel_distance(features, real),
        "frechet": distributions.frechet(features, real),
    }
