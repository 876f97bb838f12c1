"""What the study compares: levels, and how often training does without the finest codes."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from codebound.data.image_sets import ImageSet
from codebound.errors import InputError
from codebound.quantize import Quantizer
from codebound.recipes import named
from codebound.recipes.named import QuantizerRequest
from codebound.studies.hierarchy.settings import Settings
from codebound.tasks.hierarchy import HierarchyTask
from codebound.tasks.tokenizer import TokenizerTask
from codebound.tokenizers.hierarchy import HierarchicalTokenizer
from codebound.tokenizers.image import ImageTokenizer


class Arm(NamedTuple):
    """A way to spend the bits, and its look in figures."""

    label: str
    colour: str
    levels: int
    dropped: float = 0.0  # part of the pictures in a batch that are decoded without the finest codes
    main: bool = True  # trained at every number of bits, not at the largest alone


ARMS: dict[str, Arm] = {
    "one": Arm("one level", "#0b63a5", 1),
    "two": Arm("two levels", "#c2410c", 2, 0.1),
    "three": Arm("three levels", "#117733", 3, 0.1),
    "two-0": Arm("two levels, fine codes always there", "#e39a6b", 2, 0.0, main=False),
    "two-50": Arm("two levels, fine codes there half the time", "#8a6100", 2, 0.5, main=False),
}
SINGLE, COARSE = "one", 512  # the arm that the others are compared with; K of all levels but the finest


def codebook_sizes(levels: int, tokens: int, bits: float) -> tuple[int, ...]:
    """K of each level, the coarsest first, so that a picture of so many fine tokens takes about so many bits.

    Raises:
        InputError: the coarse levels leave less than a bit for each fine token, or more than 16.
    """
    coarse = sum(tokens // 4**finer for finer in range(1, levels)) * math.log2(COARSE)
    finest = (bits - coarse) / tokens
    if not 1 <= finest <= 16:
        raise InputError(
            f"bits={bits:g}: {levels} levels leave {finest:.2f} bits for each of {tokens} fine tokens; "
            "1 … 16 is accepted"
        )
    return (COARSE,) * (levels - 1) + (round(2**finest),)


def task_of(arm: Arm, settings: Settings, images: ImageSet, bits: float, seed: int) -> TokenizerTask:
    """The untrained tokenizer of an arm as a task; a single level has twice the depth, as it has one network."""
    # How many tokens each level has, and its codebook.
    multiple = settings.stride * 2 ** (arm.levels - 1)
    rows, columns = (-(-side // multiple) * 2 ** (arm.levels - 1) for side in images.size)
    sizes = codebook_sizes(arm.levels, rows * columns, bits)
    torch.manual_seed(seed)
    quantizers = [
        _quantizer(size, rows * columns // 4 ** (len(sizes) - 1 - level), settings, seed)
        for level, size in enumerate(sizes)
    ]

    # One level is the image tokenizer, several are VQ-VAE-2.
    channels, width, stride = images.channels, settings.width, settings.stride
    if arm.levels == 1:
        single = ImageTokenizer(
            quantizers[0], channels=channels, width=width, depth=2 * settings.depth, stride=stride
        )
        return TokenizerTask(single, images, settings)
    several = HierarchicalTokenizer(
        quantizers, channels=channels, width=width, depth=settings.depth, stride=stride, dropped=arm.dropped
    )
    return HierarchyTask(several, images, settings)


def _quantizer(size: int, tokens: int, settings: Settings, seed: int) -> Quantizer:
    """A codebook that follows its latents' means, dead codewords revived."""
    request = QuantizerRequest(
        codebook_size=size,
        dim=settings.dim,
        depth=1,
        commitment=settings.commitment,
        steps=settings.steps,
        tokens=settings.steps * settings.batch_size * tokens,
        seed=seed,
    )
    return named.quantizer("vq-ema", request)
