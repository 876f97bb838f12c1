"""The prior of a run's tokenizer: fitted on its training pictures, judged on those held out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8

from codebound.codec import tiles
from codebound.codec.model import Model
from codebound.codec.rates import ladder
from codebound.codec.token_pictures import choose_indices
from codebound.codec.tradeoff import TRADE, Codebooks, Tradeoff, choose, codebooks
from codebound.data.image_sets import ImageSet
from codebound.data.image_sources import open_images
from codebound.data.recolour import recolour
from codebound.files import write_text
from codebound.priors.fitting import FitSettings, cross_entropy, fit_prior
from codebound.priors.grid_prior import GridPrior
from codebound.runs import settings as settings_module
from codebound.runs.run import kind_of, load_settings
from codebound.runs.tokenizer import load_model
from codebound.tokenizers import ImageTokenizer
from codebound.tokenizers.pretrained import CARD

FEWEST = 16  # tokens along the longer side of a photograph's grid: smaller ones are all border
PICTURES = 4096  # of a set of small pictures, at most
SYMMETRIES = 8  # of a photograph
MEASURED = 64  # pictures that say what a level brings and costs
_NONE = 1e-9  # what stands for no error and no bits, of which a logarithm and a quotient are taken


def fit(folder: Path, settings: FitSettings, progress: Callable[[int, int], None]) -> list[dict[str, Any]]:
    """Fit the prior into the run's `model` folder and say in its card what it does for held-out pictures.

    Where an encoder can weigh errors against bits (`codec.tradeoff`), the prior is fitted twice: to the nearest
    codewords, then to those that files of all qualities would have with the first prior.

    Returns:
        Per level, bits per index: nominal, order-0 entropy, zlib, xz, and the four modes of a file.

    Raises:
        InputError: as `runs.tokenizer.load_model`; the run's pictures are no longer there.
    """
    # The run's model, and the pictures that it was trained on.
    kind = kind_of(folder)
    tokenizer, run_settings = load_model(folder), load_settings(folder, kind.settings)
    images = open_images(run_settings.data, settings_module.picture_request(run_settings))
    sizes = tuple(tokenizer.quantizer.codebook_sizes)
    books = codebooks(tokenizer.quantizer)
    rounds = 1 if books is None else 2
    pictures = partial(_pictures, tokenizer, images, run_settings.recolour)

    def fitted(grids: Iterator[Int64[np.ndarray, "h w q"]], before: int) -> GridPrior:
        """The prior of a round, with so many rounds before it."""
        return fit_prior(
            list(grids),
            sizes,
            settings,
            progress=lambda done, of: progress(before * of + done, rounds * of),
        )

    # First round: the nearest codewords of every picture.
    prior = fitted((tiles.encode(tokenizer, picture) for picture in pictures()), 0)

    # Second round, where an encoder can choose: what it would choose, weighing errors with the first prior.
    tradeoff = None
    if books is not None:
        sample = itertools.islice(pictures(), 0, MEASURED * SYMMETRIES, SYMMETRIES)
        tradeoff = measure((tiles.latents(tokenizer, picture) for picture in sample), tokenizer, prior)
        prior = fitted(_chosen(tokenizer, pictures(), books, prior, tradeoff), 1)
        tradeoff.save(folder / "model")

    # Keep it beside the model, and say in the card what it saves on pictures that neither has seen.
    prior.save(folder / "model")
    model = Model(tokenizer, prior, tradeoff)
    rows = ladder(model, _held_out(model, images))
    _describe(folder / "model" / CARD, settings, images, rows)
    return rows


def measure(
    latents: Iterable[Float[np.ndarray, "_ _ D"]], tokenizer: ImageTokenizer, prior: GridPrior
) -> Tradeoff:
    """What each level's nearest codewords bring and cost."""
    # The error that is left after each level, and the indices of each picture.
    books = codebooks(tokenizer.quantizer)
    assert books is not None
    errors, grids = np.zeros(len(books)), []
    for picture_latents in latents:
        grids.append(tokenizer.quantizer.encode(torch.from_numpy(picture_latents)).numpy())
        residual = picture_latents.astype(np.float64)
        for level, book in enumerate(books):
            residual -= book[grids[-1][..., level]]
            errors[level] += np.square(residual).sum()

    # Both per token; a logarithm and a quotient are taken of them, so none may be zero.
    tokens = sum(grid.shape[0] * grid.shape[1] for grid in grids)
    distortions, bits = np.maximum(errors / tokens, _NONE), np.maximum(cross_entropy(prior, grids), _NONE)
    return Tradeoff(tuple(distortions.tolist()), tuple(bits.tolist()))


def _chosen(
    tokenizer: ImageTokenizer,
    pictures: Iterable[UInt8[np.ndarray, "h w c"]],
    books: Codebooks,
    prior: GridPrior,
    tradeoff: Tradeoff,
) -> Iterator[Int64[np.ndarray, "h w q"]]:
    """Index grids as files of one quality after the other have them; levels that a quality leaves out as they are
    where they come last."""
    levels = range(len(books))
    for number, picture in enumerate(pictures):
        quality = quality_of(number, len(books))
        slopes = [tradeoff.weights(max(quality, level + 1))[level] for level in levels]
        yield choose(tiles.latents(tokenizer, picture), books, prior, [TRADE * slope for slope in slopes])


def quality_of(number: int, qualities: int) -> int:
    """From 1: every symmetry of a photograph meets every quality, whatever the number of qualities."""
    return 1 + (number % SYMMETRIES + number // SYMMETRIES) % qualities


def _pictures(
    tokenizer: ImageTokenizer, images: ImageSet, recoloured: float
) -> Iterator[UInt8[np.ndarray, "h w c"]]:
    """The training pictures, photographs also mirrored and turned: the prior sees eight times as many.

    Of a tokenizer that was trained on other colours, too, as many pictures as then are in others.
    """
    for number, picture in enumerate(images.pictures()):
        if number == PICTURES:
            return

        # Whatever is drawn for a picture depends on its number alone.
        rng = np.random.default_rng(number)
        large = max(picture.shape[:2]) >= FEWEST * tokenizer.stride

        # Small pictures count only where the set has nothing larger.
        if large or max(images.size) < FEWEST * tokenizer.stride:
            for turned in _symmetries(picture) if large else (picture,):
                yield recolour(turned, rng) if rng.random() < recoloured else turned


def _symmetries(picture: UInt8[np.ndarray, "h w c"]) -> Iterator[UInt8[np.ndarray, "_ _ c"]]:
    """The picture and its mirror image, each in four orientations."""
    for mirrored in (picture, picture[:, ::-1]):
        for quarters in range(4):
            yield np.ascontiguousarray(np.rot90(mirrored, quarters))


def _held_out(model: Model, images: ImageSet) -> list[Int64[np.ndarray, "h w q"]]:
    """Index grids of pictures that neither tokenizer nor prior has seen, as `codebound compress` chooses them."""
    pictures = images.whole or tuple(images.held_out[:64])
    levels = model.qualities[-1]
    return [choose_indices(picture.permute(1, 2, 0).numpy(), model, levels) for picture in pictures]


def _describe(path: Path, settings: FitSettings, images: ImageSet, rows: list[dict[str, Any]]) -> None:
    """A section of the model card; an earlier one is replaced."""
    card = path.read_text(encoding="utf-8").partition("\n## Prior\n")[0]
    head = " | ".join(rows[0])
    lines = [" | ".join(str(value) for value in row.values()) for row in rows]
    section = f"""
## Prior

Fitted by `codebound fit-prior` ({settings.steps:,} steps per level, {settings.hidden} hidden units) on {images.note},
mirrored and turned. Bits per index of held-out pictures, chosen as `codebound compress` does by default at the highest
quality (the figures above are of the nearest codewords), beside what else they could be coded with:

| {head} |
|{"---|" * len(rows[0])}
""" + "".join(f"| {line} |\n" for line in lines)
    write_text(path, card + section)
