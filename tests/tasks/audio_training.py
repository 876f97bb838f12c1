"""A small audio tokenizer in training against a discriminator, to be killed and resumed."""

from pathlib import Path

import torch

from codebound.data.sound_pack import PACK
from codebound.data.sound_sets import open_sounds
from codebound.engine import loop
from codebound.engine.checkpoints import Checkpoints
from codebound.engine.devices import launch
from codebound.engine.journal import Journal
from codebound.engine.recipe import Recipe
from codebound.engine.trainer import Trainer
from codebound.nets.sound_discriminator import JoinedDiscriminator, PeriodDiscriminator, SpectralDiscriminator
from codebound.runs.audio import Settings, untrained
from codebound.tasks.audio_adversarial import AudioAdversarialTask
from codebound.tokenizers.audio_fitting import FrameCodeSettings

RECIPE = Recipe(steps=20, batch_size=2, log_every=1, evaluate_every=10, checkpoint_every=4, average=0.9)
SIZES = {"hop": 160, "dim": 16, "stages": 4, "codebook_size": 32}
NETWORKS = {
    "spectral": {"width": 16, "hidden": 16, "blocks": 1},
    "seanet": {"strides": (4, 5, 8), "channels": 4},
}
SETTINGS = {
    "adversarial": 0.05,
    "features": 0.1,
    "begin": 0.3,
    "warmup": 2,
    "seconds": 0.5,
    "fit_frames": 400,
}


def run(folder: Path, network: str = "spectral") -> None:
    """Train to the end, from the last checkpoint if there is one."""
    settings = Settings(steps=RECIPE.steps, network=network, **NETWORKS[network], **SIZES, **SETTINGS)
    torch.manual_seed(0)
    spectral = SpectralDiscriminator((256, 512), width=4, layers=2)
    judges = JoinedDiscriminator([spectral, PeriodDiscriminator((2, 5), width=4, layers=2)])
    tokenizer = untrained(settings)
    code, sounds = FrameCodeSettings(iterations=3, **SIZES), open_sounds(f"folder:{PACK}", 16_000)
    task = AudioAdversarialTask(tokenizer, judges, sounds, settings, code, RECIPE.steps)
    trainer = Trainer(launch("cpu", 1), task, RECIPE)
    trainer.initialise()
    loop.fit(trainer, Checkpoints(folder / "checkpoints", 3), Journal(folder), loop.Hooks())
