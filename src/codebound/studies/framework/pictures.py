"""What cells of studies of pictures share: the opened set, a tokenizer with one codebook, PSNR."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import UInt8
from torch import Tensor

from codebound import config
from codebound.data.augment import Augmentation
from codebound.data.image_sets import ImageSet
from codebound.data.image_sources import open_images
from codebound.data.picture_request import PictureRequest
from codebound.engine.recipe import Recipe
from codebound.recipes import named
from codebound.runs import settings as runs
from codebound.studies.framework.networks import StudyNetworks
from codebound.studies.framework.training import train_through
from codebound.tasks.tokenizer import TokenizerTask
from codebound.tokenizers.image import ImageTokenizer


@lru_cache(maxsize=1)
def opened(data: str, request: PictureRequest) -> ImageSet:
    """The pictures of all cells, opened once in each process.

    Raises:
        InputError: as `open_images`.
    """
    return open_images(data, request)


def trained_tokenizer(
    settings: StudyNetworks, images: ImageSet, codebook_size: int, steps: int, seed: int
) -> ImageTokenizer:
    """A tokenizer with a codebook by EMA, trained by squared error; the seed draws its weights and the batches."""
    own = config.part(runs.Settings, settings, codebook_size=codebook_size, stages=1, steps=steps, seed=seed)
    torch.manual_seed(seed)
    quantizer = named.quantizer("vq-ema", runs.quantizer_request(own, steps, images))
    tokenizer = runs.around(quantizer, own, images)
    recipe = Recipe(batch_size=own.batch_size, steps=steps, seed=seed)
    train_through(TokenizerTask(tokenizer, images, settings), recipe)
    return tokenizer


def psnr(again: UInt8[Tensor, "n c h w"], pictures: UInt8[Tensor, "n c h w"]) -> float:
    """PSNR of 8-bit pictures in dB, of the mean squared error over all of them."""
    error = float((again.double() - pictures.double()).square().mean())
    return 10 * math.log10(255**2 / error)


def refuse_augmentation(settings: Augmentation) -> None:
    """For studies whose priors learn from pictures as they are: what would reach their tokenizers alone is refused.

    Raises:
        ValueError: pydantic makes an `InputError` of it that names the settings.
    """
    for name in Augmentation.model_fields:
        if value := getattr(settings, name):
            raise ValueError(
                f"{name}={value}: this study augments no pictures, as it would not reach the priors; 0 is accepted"
            )
