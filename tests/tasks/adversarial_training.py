"""A small tokenizer in training against a discriminator, to be killed, resumed and divided over processes."""

from pathlib import Path

import prior_training as pictures
import torch

from codebound import VectorQuantizer
from codebound.engine import loop
from codebound.engine.checkpoints import Checkpoints
from codebound.engine.devices import launch
from codebound.engine.journal import Journal
from codebound.engine.recipe import Recipe
from codebound.engine.trainer import Trainer
from codebound.nets.discriminator import PatchDiscriminator
from codebound.tasks.adversarial import AdversarialOptimization, AdversarialTask
from codebound.tokenizers import ImageTokenizer

RECIPE = Recipe(steps=20, batch_size=8, log_every=1, evaluate_every=20, checkpoint_every=4)


def begin(
    recipe: Recipe = RECIPE, begun: ImageTokenizer | None = None, devices: int = 1, **settings
) -> Trainer:
    torch.manual_seed(0)
    tokenizer = begun or ImageTokenizer(VectorQuantizer(4, 16), channels=1, width=8, depth=1, stride=2)
    discriminator = PatchDiscriminator(1, width=8, layers=2)
    values = {"init_tokens": 128, "begin": 0.5, "ramp": 0.2, "warmup": 2, **settings}
    options = AdversarialOptimization(**values)
    task = AdversarialTask(
        tokenizer, discriminator, pictures.pictures(), options, recipe.steps, begun is not None
    )
    trainer = Trainer(launch("cpu", devices), task, recipe)
    trainer.initialise()
    return trainer


def run(folder: Path, recipe: Recipe = RECIPE, devices: int = 1, **settings) -> Trainer:
    """Train to the end."""
    trainer = begin(recipe, devices=devices, **settings)
    loop.fit(trainer, Checkpoints(folder / "checkpoints", 3), Journal(folder), loop.Hooks())
    return trainer
