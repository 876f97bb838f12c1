"""The prior of a run's tokenizer: fitted on its training pictures, judged on those held out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from codebound.codec import tiles
from codebound.codec.model import Model
from codebound.codec.rates import ladder
from codebound.data.image_sets import ImageSet
from codebound.data.image_sources import open_images
from codebound.files import write_text
from codebound.priors.fitting import FitSettings, fit_prior
from codebound.studies.runs import run
from codebound.studies.runs import settings as settings_module
from codebound.tokenizers import ImageTokenizer
from codebound.tokenizers.pretrained import CARD

FEWEST = 16  # tokens along the longer side of a photograph's grid: smaller ones are all border
PICTURES = 4096  # of a set of small pictures, at most


def fit(folder: Path, settings: FitSettings, progress: Callable[[int, int], None]) -> list[dict[str, Any]]:
    """Fit the prior into the run's `model` folder and say in its card what it does for held-out pictures.

    Returns:
        Per level, bits per index: nominal, order-0 entropy, zlib, xz, and the four modes of a file.

    Raises:
        InputError: as `run.load_model`; the run's pictures are no longer there.
    """
    tokenizer, found = run.load_model(folder), run.load_settings(folder)
    images = open_images(found.data, settings_module.wanted(found))
    sizes = tuple(tokenizer.quantizer.codebook_sizes)
    prior = fit_prior(list(_grids(tokenizer, images)), sizes, settings, progress=progress)
    prior.save(folder / "model")
    rows = ladder(Model(tokenizer, prior), _held_out(tokenizer, images))
    _describe(folder / "model" / CARD, settings, images, rows)
    return rows


def _grids(tokenizer: ImageTokenizer, images: ImageSet) -> Iterator[Int64[np.ndarray, "h w q"]]:
    """Index grids of the training pictures, each also mirrored and turned: the prior sees eight times as many."""
    for number, picture in enumerate(images.pictures()):
        if number == PICTURES:
            return
        large = max(picture.shape[:2]) >= FEWEST * tokenizer.stride
        if large:
            yield from (tiles.encode(tokenizer, turned) for turned in _symmetries(picture))
        elif max(images.size) < FEWEST * tokenizer.stride:  # a set of small pictures has nothing larger
            yield tiles.encode(tokenizer, picture)


def _symmetries(picture: UInt8[np.ndarray, "h w c"]) -> Iterator[UInt8[np.ndarray, "_ _ c"]]:
    for mirrored in (picture, picture[:, ::-1]):
        for quarters in range(4):
            yield np.ascontiguousarray(np.rot90(mirrored, quarters))


def _held_out(tokenizer: ImageTokenizer, images: ImageSet) -> list[Int64[np.ndarray, "h w q"]]:
    pictures = images.whole or tuple(images.held_out[:64])
    return [tiles.encode(tokenizer, picture.permute(1, 2, 0).numpy()) for picture in pictures]


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
