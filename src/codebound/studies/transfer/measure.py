"""A cell of the study: one tokenizer, trained on one domain, on the pictures of all, before and after refits."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch

from codebound.data.image_sets import ImageSet
from codebound.engine.recipe import Recipe
from codebound.metrics.usage import used
from codebound.studies.framework.declare import Cell
from codebound.studies.framework.pictures import psnr, trained_tokenizer
from codebound.studies.framework.training import train_through
from codebound.studies.transfer.domains import opened
from codebound.studies.transfer.settings import Settings
from codebound.tasks.decoder import DecoderTask
from codebound.tasks.tokenizer import TokenizerTask
from codebound.tokenizers.image import ImageTokenizer
from codebound.tokenizers.opening import reproduced


def measure(settings: Settings, cell: Cell) -> dict[str, Any]:
    """Train on the cell's domain; then each domain as it is, and refitted to those it was not trained on."""
    source, seed = cell["source"], cell["seed"]
    tokenizer = trained(settings, pictures(settings, source), seed)
    targets: dict[str, dict[str, Any]] = {}
    for target in settings.domains:
        images = pictures(settings, target)
        targets[target] = {"as it is": figures(tokenizer, images)}
        if target != source:
            targets[target] |= refits(tokenizer, images, settings, seed)
    return {"targets": targets}


def pictures(settings: Settings, name: str) -> ImageSet:
    """The pictures of a domain."""
    return opened(name, settings.pictures, settings.held_out)


def trained(settings: Settings, images: ImageSet, seed: int) -> ImageTokenizer:
    """A tokenizer of these pictures; the seed alone draws its weights, the same for all domains."""
    return trained_tokenizer(settings, images, settings.codebook_size, settings.steps, seed)


def refits(tokenizer: ImageTokenizer, images: ImageSet, settings: Settings, seed: int) -> dict[str, Any]:
    """Figures after each refit, every one from the tokenizer as it was trained."""
    # Another codebook by k-means on the new latents; networks as they are.
    book = deepcopy(tokenizer)
    with torch.no_grad():
        sample = images.batch(seed, 0, settings.refit_pictures)
        book.quantizer.init_(book.latents(sample))

    # Another decoder on the old codes, and on those of the other codebook; or all networks trained on, from a codebook
    # that the training begins anew by k-means.
    decoder, both, everything = deepcopy(tokenizer), deepcopy(book), deepcopy(tokenizer)
    recipe = _recipe(settings, settings.refit_steps, seed)
    for one in (decoder, both):
        train_through(DecoderTask(one, images, settings), recipe)
    train_through(TokenizerTask(everything.train(), images, settings), recipe)
    found = {"codebook": book, "decoder": decoder, "codebook and decoder": both, "everything": everything}
    return {name: figures(refitted, images) for name, refitted in found.items()}


@torch.no_grad()
def figures(tokenizer: ImageTokenizer, images: ImageSet) -> dict[str, float]:
    """PSNR of the held-out pictures as 8-bit pictures, and the share of the codewords that their codes use."""
    held_out = images.held_out
    size = tokenizer.quantizer.codebook_sizes[0]
    counts = torch.cat([tokenizer.encode(part).flatten() for part in held_out.split(128)]).bincount(
        minlength=size
    )
    return {"psnr": psnr(reproduced(tokenizer, held_out), held_out), "usage": float(used(counts))}


def _recipe(settings: Settings, steps: int, seed: int) -> Recipe:
    return Recipe(batch_size=settings.batch_size, steps=steps, seed=seed)
