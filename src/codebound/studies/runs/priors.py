"""The prior of a run's tokenizer: fitted on its training pictures, judged on those held out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from codebound.codec import tiles
from codebound.codec.model import Model
from codebound.codec.pictures import TRADE, choose_indices
from codebound.codec.rates import ladder
from codebound.codec.tradeoff import Codebooks, Tradeoff, choose, codebooks, measure
from codebound.data.image_sets import ImageSet
from codebound.data.image_sources import open_images
from codebound.files import write_text
from codebound.priors.fitting import FitSettings, fit_prior
from codebound.priors.grid_prior import GridPrior
from codebound.studies.runs import run
from codebound.studies.runs import settings as settings_module
from codebound.tokenizers import ImageTokenizer
from codebound.tokenizers.pretrained import CARD

FEWEST = 16  # tokens along the longer side of a photograph's grid: smaller ones are all border
PICTURES = 4096  # of a set of small pictures, at most
SYMMETRIES = 8  # of a photograph
MEASURED = 64  # pictures that say what a level brings and costs


def fit(folder: Path, settings: FitSettings, progress: Callable[[int, int], None]) -> list[dict[str, Any]]:
    """Fit the prior into the run's `model` folder and say in its card what it does for held-out pictures.

    Where an encoder can weigh errors against bits (`codec.tradeoff`), the prior is fitted twice: to the nearest
    codewords, then to those that are chosen with the first prior, as if each picture were written at one quality.

    Returns:
        Per level, bits per index: nominal, order-0 entropy, zlib, xz, and the four modes of a file.

    Raises:
        InputError: as `run.load_model`; the run's pictures are no longer there.
    """
    tokenizer, found = run.load_model(folder), run.load_settings(folder)
    images = open_images(found.data, settings_module.wanted(found))
    sizes = tuple(tokenizer.quantizer.codebook_sizes)
    books = codebooks(tokenizer.quantizer)
    rounds = 1 if books is None else 2

    def fitted(grids: Iterator[Int64[np.ndarray, "h w q"]], before: int) -> GridPrior:
        """The prior of a round, with so many rounds before it."""
        return fit_prior(
            list(grids),
            sizes,
            settings,
            progress=lambda done, of: progress(before * of + done, rounds * of),
        )

    prior = fitted((tiles.encode(tokenizer, picture) for picture in _pictures(tokenizer, images)), 0)
    tradeoff = None
    if books is not None:
        sample = itertools.islice(_pictures(tokenizer, images), 0, MEASURED * SYMMETRIES, SYMMETRIES)
        tradeoff = measure((tiles.latents(tokenizer, picture) for picture in sample), books, prior)
        prior = fitted(_chosen(tokenizer, images, books, prior, tradeoff), 1)
        tradeoff.save(folder / "model")
    prior.save(folder / "model")
    model = Model(tokenizer, prior, tradeoff)
    rows = ladder(model, _held_out(model, images))
    _describe(folder / "model" / CARD, settings, images, rows)
    return rows


def _chosen(
    tokenizer: ImageTokenizer, images: ImageSet, books: Codebooks, prior: GridPrior, tradeoff: Tradeoff
) -> Iterator[Int64[np.ndarray, "h w q"]]:
    """Index grids as files have them, one quality after the other."""
    for number, picture in enumerate(_pictures(tokenizer, images)):
        weights = [TRADE * weight for weight in tradeoff.weights(1 + number % len(books))]
        yield choose(tiles.latents(tokenizer, picture), books, prior, weights)


def _pictures(tokenizer: ImageTokenizer, images: ImageSet) -> Iterator[UInt8[np.ndarray, "h w c"]]:
    """The training pictures, photographs also mirrored and turned: the prior sees eight times as many."""
    for number, picture in enumerate(images.pictures()):
        if number == PICTURES:
            return
        large = max(picture.shape[:2]) >= FEWEST * tokenizer.stride
        if large:
            yield from _symmetries(picture)
        elif max(images.size) < FEWEST * tokenizer.stride:  # a set of small pictures has nothing larger
            yield picture


def _symmetries(picture: UInt8[np.ndarray, "h w c"]) -> Iterator[UInt8[np.ndarray, "_ _ c"]]:
    for mirrored in (picture, picture[:, ::-1]):
        for quarters in range(4):
            yield np.ascontiguousarray(np.rot90(mirrored, quarters))


def _held_out(model: Model, images: ImageSet) -> list[Int64[np.ndarray, "h w q"]]:
    pictures = images.whole or tuple(images.held_out[:64])
    levels = model.qualities[-1]
    return [choose_indices(picture.permute(1, 2, 0).numpy(), model, levels) for picture in pictures]


def _describe(path: Path, settings: FitSettings, images: ImageSet, rows: list[dict[str, Any]]) -> None:
    """A section of the model card; an earlier one is replaced."""
    kept = path.read_text(encoding="utf-8").partition("\n## Prior\n")[0]
    head = " | ".join(rows[0])
    lines = [" | ".join(str(value) for value in row.values()) for row in rows]
    section = f"""
## Prior

Fitted by `codebound fit-prior` ({settings.steps:,} steps per level, {settings.hidden} hidden units) on {images.note},
mirrored and turned. Bits per index of held-out pictures, beside what else they could be coded with:

| {head} |
|{"---|" * len(rows[0])}
""" + "".join(f"| {line} |\n" for line in lines)
    write_text(path, kept + section)
