"""A small prior in training, to be killed, resumed and divided over processes."""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from codebound import VectorQuantizer
from codebound.data.image_sets import FixedPictures, LabelledPictures
from codebound.engine import loop
from codebound.engine.checkpoints import Checkpoints
from codebound.engine.devices import launch
from codebound.engine.journal import Journal
from codebound.engine.recipe import Recipe
from codebound.engine.trainer import Trainer
from codebound.tasks.codes import PictureCodes
from codebound.tasks.prior import PriorOptimization, PriorTask
from codebound.tokenizers import ImageTokenizer

RECIPE = Recipe(steps=20, batch_size=8, log_every=1, evaluate_every=10, checkpoint_every=3)
CLASSES = ("dark", "bright", "left")


@cache
def pictures() -> FixedPictures:
    """Three classes that differ in brightness and side."""
    random = np.random.default_rng(0)
    labels = np.arange(96) % 3
    values = random.uniform(20, 90, (96, 1, 8, 8)) + 120 * (labels == 1)[:, None, None, None]
    values[labels == 2, :, :, :4] += 150
    parts = [
        LabelledPictures(torch.from_numpy(values[some].astype(np.uint8)), torch.from_numpy(labels[some]))
        for some in (slice(0, 72), slice(72, 96))
    ]
    return FixedPictures("three", "pictures of three classes", *parts, 24, class_names=CLASSES)


@cache
def tokenizer() -> ImageTokenizer:
    torch.manual_seed(0)
    model = ImageTokenizer(VectorQuantizer(4, 16), channels=1, width=8, depth=1, stride=2)
    model.quantizer.init_(model.latents(pictures().images))
    return model.eval()


def begin(kind: type, recipe: Recipe = RECIPE, devices: int = 1, **options) -> Trainer:
    codes = PictureCodes(tokenizer(), pictures())
    torch.manual_seed(0)
    prior = kind(codes.layout, classes=codes.classes, width=16, depth=1, heads=2, **options)
    optimization = PriorOptimization(lr=1e-2, warmup=3)
    return Trainer(launch("cpu", devices), PriorTask(prior, codes, optimization), recipe)


def run(folder: Path, kind: type, recipe: Recipe = RECIPE, devices: int = 1, **options) -> Trainer:
    """Train to the end."""
    trainer = begin(kind, recipe, devices, **options)
    loop.fit(trainer, Checkpoints(folder / "checkpoints", 3), Journal(folder), loop.Hooks())
    return trainer
