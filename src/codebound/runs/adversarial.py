"""The run of an image tokenizer against a discriminator, from scratch or from a finished run's."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from codebound import config
from codebound.data.image_sources import open_images
from codebound.errors import InputError
from codebound.nets.discriminator import PatchDiscriminator
from codebound.runs import settings as settings_module
from codebound.runs.kinds import Preparation
from codebound.runs.run import kind_of, load_settings
from codebound.runs.settings import Settings as TokenizerSettings
from codebound.runs.tokenizer import TokenizerRun, load_model
from codebound.tasks.adversarial import AdversarialOptimization, AdversarialTask
from codebound.tokenizers.opening import digest
from codebound.tokenizers.pretrained import sha256

OF_TOKENIZER = (
    "quantizer",
    "codebook_size",
    "stages",
    "dim",
    "commitment",
    "width",
    "depth",
    "stride",
    "linear",
)
OF_PICTURES = ("data", "crop", "channels", "held_out")
OF_OTHER_PICTURES = ("crop", "held_out")  # may be others where the pictures are


class Settings(AdversarialOptimization, TokenizerSettings):
    """All that decides a run's numbers, but for the pictures themselves and the machine.

    Attributes:
        run: a finished run of a tokenizer to go on from: its networks and pictures, and with `freeze` its codes; from
            scratch if not given.
        discriminator_width, discriminator_layers, spectral: as `PatchDiscriminator`.
    """

    kind: Literal["vqgan"] = "vqgan"  # pyright: ignore[reportIncompatibleVariableOverride]
    run: str | None = None
    discriminator_width: int = Field(default=32, ge=1)
    discriminator_layers: int = Field(default=3, ge=1, le=5)
    spectral: bool = True
    steps: int | None = Field(default=2000, ge=1)


class AdversarialRun(TokenizerRun):
    """`codebound train vqgan`."""

    name = "vqgan"
    settings = Settings  # pyright: ignore[reportAssignmentType]
    subject = "run"

    def default_name(self, settings: Settings) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The run that it goes on from, or the data where they are not the default ones."""
        if settings.run is not None:
            return f"{Path(settings.run).name}-vqgan"
        data = settings.data.partition(":")[0]
        return "vqgan" if data == "photos" else f"vqgan-{data}"

    def resolved(self, settings: Settings) -> Settings:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The settings with the networks and the pictures of the run that they go on from; `data` may be another set.

        Raises:
            InputError: no finished run of an image tokenizer, or a setting that contradicts it.
        """
        if settings.run is None:
            return settings
        folder = Path(settings.run)
        earlier = load_settings(folder, kind_of(folder).settings)
        if not isinstance(earlier, TokenizerSettings):
            raise InputError(
                f"run={settings.run} is a {kind_of(folder).name}; a run of an image tokenizer is accepted"
            )
        other = "data" in settings.model_fields_set and settings.data != earlier.data
        values = {name: getattr(earlier, name) for name in (*OF_TOKENIZER, *OF_PICTURES)}
        own = ("data", *(OF_OTHER_PICTURES if other else ()))
        return config.taken_over(settings, values, f"run={settings.run}", own)

    def prepare(self, settings: Settings) -> Preparation:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Pictures, a tokenizer, a discriminator, and the task of training them against each other.

        Raises:
            InputError: frozen codes of no run, or what a tokenizer's run refuses.
        """
        # Frozen codes must have been learned before.
        if settings.freeze and settings.run is None:
            raise InputError("freeze=True trains the decoder of a finished run: codebound train vqgan RUN")
        images = open_images(settings.data, settings_module.picture_request(settings))
        recipe = settings_module.recipe(settings, images)

        # Weights depend on the seed and the earlier run alone.
        torch.manual_seed(settings.seed)
        identity = {"data": images.digest}
        if settings.run is None:
            tokenizer = settings_module.tokenizer(settings, images, recipe.steps)
        else:
            tokenizer = load_model(Path(settings.run)).train()
            identity["tokenizer"] = digest(tokenizer)
        discriminator = PatchDiscriminator(
            images.channels,
            width=settings.discriminator_width,
            layers=settings.discriminator_layers,
            spectral=settings.spectral,
        )

        # Weights of a perceptual loss that the user gave decide numbers, too: a run goes on with the same ones.
        if settings.perceptual_weights is not None and settings.perceptual_weights.is_file():
            identity["perceptual_network"] = sha256(settings.perceptual_weights)
        task = AdversarialTask(
            tokenizer, discriminator, images, settings, recipe.steps, begun=settings.run is not None
        )
        return Preparation(task, recipe, identity)


KIND = AdversarialRun()
