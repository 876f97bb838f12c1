"""A cell of the study: one tokenizer, some priors over its codes, and samples of each beside real pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from codebound.data.image_sets import ImageSet
from codebound.data.picture_request import PictureRequest
from codebound.engine.recipe import Recipe
from codebound.errors import InputError
from codebound.evaluate.classifier import PictureClassifier
from codebound.evaluate.samples import FeatureSpace, classifier_space, compare, pixel_space
from codebound.generators.kinds import PRIORS, Kind
from codebound.generators.neighbours import sample_grids
from codebound.priors.fitting import FitSettings, cross_entropy, fit_prior
from codebound.runs.pictures import grid_picture, save_png
from codebound.studies.framework.declare import Cell, CellResult
from codebound.studies.framework.pictures import opened, psnr, trained_tokenizer
from codebound.studies.framework.training import train_through
from codebound.studies.generation.settings import Settings
from codebound.tasks.classifier import ClassifierOptimization, ClassifierTask
from codebound.tasks.codes import PictureCodes
from codebound.tasks.prior import PriorOptimization, PriorTask, nominal_bits, order_zero_bits
from codebound.tokenizers.image import ImageTokenizer, to_uint8
from codebound.tokenizers.opening import reproduced

NEIGHBOURS = "neighbours"
SHOWN = 10  # samples of each prior in a cell's picture
AT_ONCE = 128  # pictures


class Sampled(NamedTuple):
    """A prior as the study sees it: what it costs, what training it took, and how it draws pictures' indices."""

    bits_per_token: float  # of held-out pictures with their classes: the class costs log₂ of their number
    seconds: float  # on the processor
    sample: Callable[[float], Int64[Tensor, "n h w q"]]  # with some guidance
    guided: bool


def measure(settings: Settings, cell: Cell) -> CellResult:
    """Train tokenizer and priors; judge all in two feature spaces."""
    images, seed = pictures(settings), cell["seed"]
    tokenizer = trained_tokenizer(settings, images, cell["codebook_size"], settings.steps, seed)
    codes = PictureCodes(tokenizer, images)
    held_out = images.held_out
    again = reproduced(tokenizer, held_out)
    content: dict[str, Any] = {
        "psnr": psnr(again, held_out),
        "order_zero_bits": order_zero_bits(codes),
        "nominal_bits": nominal_bits(codes),
        "judge_accuracy": ClassifierTask(judge(settings), images, ClassifierOptimization()).evaluate()[
            "accuracy"
        ],
        "priors": {},
    }

    # Each prior, its samples with each guidance, judged between the same floor and ceiling.
    rows = [held_out[:SHOWN], again[:SHOWN]]
    for kind in settings.priors:
        prior = (
            neighbours(settings, codes, seed)
            if kind == NEIGHBOURS
            else transformer(settings, codes, kind, seed)
        )
        found: dict[str, Any] = {
            "bits_per_token": prior.bits_per_token,
            "seconds": prior.seconds,
            "samples": {},
        }
        for guidance in settings.guidances if prior.guided else (1.0,):
            began = time.process_time()
            samples = to_uint8(_decoded(tokenizer, prior.sample(guidance), images.size))
            spent = (time.process_time() - began) / len(samples)
            found["samples"][f"{guidance:g}"] = {
                "ms": 1000 * spent,
                "spaces": judged(settings, tokenizer, samples, prior.guided),
            }
            if guidance == min(settings.guidances):
                rows.append(samples[:SHOWN])  # of the first classes, one each
        content["priors"][kind] = found
    sheet = grid_picture(torch.cat(rows) / 255, SHOWN)
    return CellResult(content, {picture_of(cell): partial(save_png, picture=sheet)})


def picture_of(cell: Cell) -> str:
    """Where a cell leaves its picture: held-out pictures, what comes back of them, a row of samples of each prior."""
    return f"pictures/{cell.name}.png"


def pictures(settings: Settings) -> ImageSet:
    """The pictures of all cells, opened once in each process.

    Raises:
        InputError: as `open_images`, or pictures without classes.
    """
    images = opened(settings.data, _request(settings))
    if len(images.class_names) < 2:
        raise InputError(f"data={settings.data}: this study needs pictures with at least two classes")
    return images


def judge(settings: Settings) -> PictureClassifier:
    """The classifier whose features judge; the same in all cells, and no generator ever sees it."""
    return _trained_judge(settings.data, _request(settings), settings.judge_steps, settings.batch_size)


def _request(settings: Settings) -> PictureRequest:
    count = max(settings.held_out, 2 * settings.samples)
    return PictureRequest(settings.crop, settings.channels, count, settings.memory, settings.workers)


@lru_cache(maxsize=1)
def _trained_judge(data: str, request: PictureRequest, steps: int, batch_size: int) -> PictureClassifier:
    images = opened(data, request)
    torch.manual_seed(0)
    classifier = PictureClassifier(images.channels, images.class_names)
    task = ClassifierTask(classifier, images, ClassifierOptimization())
    train_through(task, Recipe(batch_size=batch_size, steps=steps, seed=0))
    task.standardise(0)
    return classifier


def transformer(settings: Settings, codes: PictureCodes, kind: Kind, seed: int) -> Sampled:
    """A prior that knows classes."""
    began = time.process_time()
    torch.manual_seed(seed)
    prior = PRIORS[kind](
        codes.layout, classes=codes.classes, width=settings.prior_width, depth=settings.prior_depth
    )
    warmup = max(1, min(PriorOptimization().warmup, settings.prior_steps // 5))
    task = PriorTask(prior, codes, PriorOptimization(warmup=warmup))
    train_through(task, _recipe(settings, settings.prior_steps, seed))
    seconds = time.process_time() - began

    # With its class each picture costs log₂ of the number of classes more, whatever class that is.
    bits = (float(task.held_out_bits().mean()) + math.log2(len(codes.classes))) / codes.layout.length
    labels = [number % len(codes.classes) for number in range(settings.samples)]

    def sample(guidance: float) -> Tensor:
        found = prior.sample(
            settings.samples, labels=labels, guidance=guidance, temperature=settings.temperature, seed=seed
        )
        assert isinstance(found, Tensor)
        return found

    return Sampled(bits, seconds, sample, guided=True)


def neighbours(settings: Settings, codes: PictureCodes, seed: int) -> Sampled:
    """The integer prior of files, fitted to as many pictures as the others see, at most one epoch."""
    (grid,) = codes.layout.grids
    count = min(settings.prior_steps * settings.batch_size, codes.images.epoch)
    batches = (
        codes.images.batch(seed, step, settings.batch_size) for step in range(count // settings.batch_size)
    )
    began = time.process_time()
    seen = [codes.tokenizer.encode(batch) for batch in batches]
    fitting = FitSettings(steps=settings.neighbour_steps, hidden=settings.neighbour_hidden, seed=seed)
    prior = fit_prior([one.numpy() for part in seen for one in part], grid.codebook_sizes, fitting)  # pyright: ignore
    seconds = time.process_time() - began

    unseen = torch.cat([codes.tokenizer.encode(part) for part in codes.images.held_out.split(AT_ONCE)])  # pyright: ignore
    bits = float(cross_entropy(prior, list(unseen.numpy())).mean())
    place = (grid.height, grid.width)

    def sample(guidance: float) -> Tensor:
        return sample_grids(prior, settings.samples, place, temperature=settings.temperature, seed=seed)

    return Sampled(bits, seconds, sample, guided=False)


def judged(
    settings: Settings, tokenizer: ImageTokenizer, samples: UInt8[Tensor, "n c h w"], classes: bool
) -> list[dict[str, Any]]:
    """Distances of samples, ceiling and floor in each feature space, and whether samples are of their class."""
    held_out = pictures(settings).held_out
    names = len(pictures(settings).class_names)
    labels = torch.arange(len(samples)) % names if classes else None
    return [
        compare(
            samples, held_out, space, reconstruct=partial(reproduced, tokenizer), labels=labels, errors=False
        )
        for space in _spaces(settings)
    ]


def _spaces(settings: Settings) -> list[FeatureSpace]:
    return [classifier_space(judge(settings)), pixel_space(pictures(settings).held_out)]


def _decoded(tokenizer: ImageTokenizer, indices: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures in [0, 1], some at a time."""
    return torch.cat([tokenizer.decode(part, size=size) for part in indices.split(AT_ONCE)])


def _recipe(settings: Settings, steps: int, seed: int) -> Recipe:
    return Recipe(batch_size=settings.batch_size, steps=steps, seed=seed)
