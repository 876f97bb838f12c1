"""The settings of a run of the image tokenizer."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field

from codebound import config
from codebound.data.image_sets import ImageSet
from codebound.data.picture_request import MEMORY, WORKERS, PictureRequest
from codebound.engine.recipe import LoopSettings, Recipe
from codebound.errors import InputError
from codebound.quantize import Quantizer
from codebound.recipes import named
from codebound.recipes.named import QuantizerRequest
from codebound.tasks.tokenizer import TokenizerOptimization
from codebound.tokenizers.image import ImageTokenizer

DEFAULT_HELD_OUT = 1024
TOKENS_PER_CODEWORD = 5  # held out, at least: usage of fewer would count codewords that had no chance


class NetworkShape(config.Settings):
    """Networks of a tokenizer of pictures, and what they ask of any quantizer between them."""

    dim: int = Field(default=16, ge=1)
    commitment: float = Field(default=0.25, ge=0)
    width: int = Field(default=64, ge=1)
    depth: int = Field(default=2, ge=0)
    stride: int = 4


class TokenizerNetworks(NetworkShape):
    """Networks of an image tokenizer, which may be linear."""

    linear: bool = False


class TokenizerModel(TokenizerNetworks):
    """Quantizer and networks of an image tokenizer."""

    quantizer: str | dict[str, Any] = "vq-ema"
    codebook_size: int = 512
    stages: int = Field(default=4, ge=1)  # of rvq, or parts of pq


class PictureData(config.Settings):
    """Which pictures, and how much of the machine their reading may take."""

    data: str = "photos"
    crop: int = Field(default=32, ge=1)
    channels: Literal[1, 3] = 3
    held_out: int | None = Field(default=None, ge=1)  # pictures; by default 1,024, more for a large codebook
    memory: int = Field(default=MEMORY, ge=0)  # bytes: a set of pictures that needs more is read as it goes
    workers: int = Field(default=WORKERS, ge=0)  # processes that read ahead from such a set


class Settings(LoopSettings, TokenizerOptimization, TokenizerModel, PictureData):
    """All that decides a run's numbers, but for the pictures themselves and the machine."""

    CHOOSES: ClassVar = frozenset({"workers"})  # changes no number, so a run may be taken up with others

    kind: Literal["tokenizer"] = "tokenizer"
    epochs: float = Field(default=30, gt=0)
    steps: int | None = Field(default=None, ge=1)  # instead of epochs
    evaluate_every: int | None = Field(default=None, ge=1)  # by default a twentieth of the run


def picture_request(settings: Settings) -> PictureRequest:
    """What the run asks of its pictures."""
    count = settings.held_out
    if count is None:
        per_picture = max(1, settings.crop // settings.stride) ** 2
        count = max(DEFAULT_HELD_OUT, math.ceil(TOKENS_PER_CODEWORD * settings.codebook_size / per_picture))
    return PictureRequest(settings.crop, settings.channels, count, settings.memory, settings.workers)


def recipe(settings: Settings, images: ImageSet) -> Recipe:
    """The loop's part of the settings, epochs counted in steps."""
    steps = settings.steps or max(1, round(settings.epochs * images.epoch / settings.batch_size))
    evaluate_every = settings.evaluate_every or max(1, steps // 20)
    return config.part(Recipe, settings, steps=steps, evaluate_every=evaluate_every)


def tokenizer(settings: Settings, images: ImageSet, steps: int) -> ImageTokenizer:
    """The model, its weights drawn by the caller's generator.

    Raises:
        InputError: sizes out of range, or more codewords than the training pictures have latents.
    """
    check_codebook(settings, images)
    return around(
        named.quantizer(settings.quantizer, quantizer_request(settings, steps, images)), settings, images
    )


def around(quantizer: Quantizer, settings: TokenizerNetworks, images: ImageSet) -> ImageTokenizer:
    """The networks of the settings, around a quantizer."""
    return ImageTokenizer(
        quantizer,
        channels=images.channels,
        width=settings.width,
        depth=settings.depth,
        stride=settings.stride,
        linear=settings.linear,
    )


def quantizer_request(settings: Settings, steps: int, images: ImageSet) -> QuantizerRequest:
    """What the settings say about the quantizer besides its name."""
    tokens = steps * settings.batch_size * math.prod(-(-side // settings.stride) for side in images.size)
    return QuantizerRequest(
        codebook_size=settings.codebook_size,
        dim=settings.dim,
        depth=settings.stages,
        commitment=settings.commitment,
        steps=steps,
        tokens=tokens,
        seed=settings.seed,
    )


def check_codebook(settings: Settings, images: ImageSet) -> None:
    """Refuse a codebook that no data could fill."""
    if settings.codebook_size < 2:
        raise InputError(
            f"codebook_size must be at least 2 (one codeword carries 0 bits); got {settings.codebook_size}"
        )
    latents = images.latents(settings.stride)
    if settings.codebook_size > latents:
        raise InputError(
            f"codebook_size={settings.codebook_size} is more than the {latents:,} latents that {images.name} has at "
            f"stride {settings.stride}; at most {latents} is accepted"
        )
