"""A cell of the study: one tokenizer, what it gives back, what its codes cost, and a prior's samples of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor

from codebound.codec.grids import compress_indices
from codebound.data.image_sets import ImageSet
from codebound.data.picture_request import PictureRequest
from codebound.engine.recipe import Recipe
from codebound.evaluate.hierarchies import hierarchy_figures
from codebound.evaluate.samples import FeatureSpace, compare, effnet_space, pixel_space
from codebound.generators import AutoregressivePrior
from codebound.metrics.usage import entropy_rate
from codebound.runs.pictures import grid_picture, save_png
from codebound.studies.framework.declare import Cell, CellResult
from codebound.studies.framework.pictures import opened
from codebound.studies.framework.training import train_through
from codebound.studies.hierarchy.arms import ARMS, task_of
from codebound.studies.hierarchy.settings import Settings
from codebound.tasks.codes import PictureCodes
from codebound.tasks.prior import PriorOptimization, PriorTask
from codebound.theory.gaussian import spectrum, water_filling
from codebound.tokenizers.hierarchy import HierarchicalTokenizer
from codebound.tokenizers.opening import PictureTokenizer, decoded, reproduced

SHOWN = 8  # pictures in a row of a cell's picture
ACROSS = 16  # pictures side by side in the grid that is written to a file: held-out ones are a multiple of it
SPECTRUM = 8192  # pictures behind the Gaussian reference


def measure(settings: Settings, cell: Cell) -> CellResult:
    """Train the cell's tokenizer and judge it; at the largest number of bits also a prior over its codes."""
    arm, seed, images = ARMS[cell["arm"]], cell["seed"], pictures(settings)
    task = task_of(arm, settings, images, cell["bits"], seed)
    recipe = Recipe(batch_size=settings.batch_size, steps=settings.steps, seed=seed)
    skipped = train_through(task, recipe)

    # What comes back of the held-out pictures, and what their codes cost.
    tokenizer: PictureTokenizer = task.tokenizer
    held_out = images.held_out
    again = reproduced(tokenizer, held_out)
    error = float((again.double() - held_out.double()).square().mean()) / 255**2
    content: dict[str, Any] = {
        "psnr": -10 * math.log10(error),
        "parameters": sum(p.numel() for p in tokenizer.parameters()),
        "skipped": skipped,
        **costs(tokenizer, held_out),
    }
    content["gaussian_psnr"] = _gaussian_psnr(settings, content["file_bits"])
    if isinstance(tokenizer, HierarchicalTokenizer):
        worth = hierarchy_figures(tokenizer, held_out)["levels"]
        content["levels"] = [
            own | {key: level[key] for key in ("worth_db", "alone_db", "usage")}
            for own, level in zip(content["levels"], worth, strict=True)
        ]
    if cell["bits"] != max(settings.bits):
        return CellResult(content)

    # A prior over the codes: what it asks for held-out pictures, and what its samples are like.
    prior = _prior(settings, tokenizer, images, seed)
    content["prior_bits"], by_level = prior_bits(prior)
    content["levels"] = [
        own | {"prior_bits": bits} for own, bits in zip(content["levels"], by_level, strict=True)
    ]
    indices = prior.prior.sample(settings.samples, seed=seed)
    samples = (decoded(tokenizer, indices, images.size) * 255).round().to(torch.uint8)
    content["spaces"] = [
        compare(samples, held_out, space, reconstruct=partial(reproduced, tokenizer), errors=False)
        for space in spaces(settings)
    ]
    rows = torch.cat([held_out[:SHOWN], again[:SHOWN], samples[: 2 * SHOWN]]) / 255
    sheet = grid_picture(rows, SHOWN)
    return CellResult(content, {picture_of(cell): partial(save_png, picture=sheet)})


def picture_of(cell: Cell) -> str:
    """Where a cell leaves its picture: held-out pictures, what comes back of them, two rows of samples."""
    return f"pictures/{cell.name}.png"


def pictures(settings: Settings) -> ImageSet:
    """The pictures of all cells, opened once in each process."""
    count = -(-max(settings.held_out, 2 * settings.samples) // ACROSS) * ACROSS
    request = PictureRequest(settings.crop, settings.channels, count, settings.memory, settings.workers)
    return opened(settings.data, request)


def spaces(settings: Settings) -> list[FeatureSpace]:
    """The feature spaces that there are."""
    made = {"pixels": partial(pixel_space, pictures(settings).held_out), "effnet": effnet_space}
    there = [name for name in settings.features if name != "effnet" or find_spec("efficientnet_lite_pytorch")]
    return [made[name]() for name in there]


def costs(tokenizer: PictureTokenizer, held_out: UInt8[Tensor, "n c h w"]) -> dict[str, Any]:
    """Bits a picture of the codes: log₂ K, the entropy of single indices, and a file of all pictures; by level."""
    levels = []
    grids, sizes = grids_of(tokenizer, held_out), _codebook_sizes(tokenizer)
    for grid, size in zip(grids, sizes, strict=True):
        tokens = grid.shape[1] * grid.shape[2]
        levels.append(
            {
                "grid": [grid.shape[1], grid.shape[2]],
                "codebook_size": size,
                "nominal_bits": tokens * math.log2(size),
                "entropy_bits": tokens * entropy_rate(grid.flatten().bincount(minlength=size)),
                "file_bits": 8 * len(compress_indices(side_by_side(grid), (size,))) / len(grid),
            }
        )
    totals = {
        name: sum(level[name] for level in levels) for name in ("nominal_bits", "entropy_bits", "file_bits")
    }
    return {**totals, "levels": levels}


def grids_of(
    tokenizer: PictureTokenizer, images: UInt8[Tensor, "n c h w"]
) -> Sequence[Int64[Tensor, "n _ _ q"]]:
    """The indices of each level, the coarsest first."""
    found = tokenizer.encode(images)
    return (found,) if isinstance(found, Tensor) else found


def side_by_side(grid: Int64[Tensor, "n h w q"]) -> Int64[np.ndarray, "a b q"]:
    """The grids of many pictures as one, so that a file's counts and its header serve all."""
    _, _, width, depth = grid.shape
    rows = grid.unflatten(0, (-1, ACROSS)).transpose(1, 2)
    return rows.reshape(-1, ACROSS * width, depth).numpy()


def prior_bits(task: PriorTask) -> tuple[float, list[float]]:
    """Bits a held-out picture under the prior, and of each level given those before it."""
    prior, (tokens, labels) = task.prior, task.codes.held_out
    assert isinstance(prior, AutoregressivePrior)
    totals = torch.zeros(len(prior.layout.slots), dtype=torch.float64)
    with torch.no_grad():
        for some, label in zip(tokens.split(128), labels.split(128), strict=True):
            nats = prior.costs(prior(some, label), some, prior.layout).double().sum(0)
            for number, slot in enumerate(prior.layout.slots):
                totals[number] += nats[list(slot.positions)].sum()
    bits = (totals / len(tokens) / math.log(2)).tolist()
    return sum(bits), bits


def _prior(settings: Settings, tokenizer: PictureTokenizer, images: ImageSet, seed: int) -> PriorTask:
    """An autoregressive prior over all levels in one sequence, the coarse ones first."""
    codes = PictureCodes(tokenizer, images)
    torch.manual_seed(seed)
    prior = AutoregressivePrior(
        codes.layout,
        classes=codes.classes,
        width=settings.prior_width,
        depth=settings.prior_depth,
        class_dropout=0.1 if codes.classes else 0.0,
    )
    warmup = max(1, min(PriorOptimization().warmup, settings.prior_steps // 5))
    task = PriorTask(prior, codes, PriorOptimization(warmup=warmup))
    train_through(task, Recipe(batch_size=settings.batch_size, steps=settings.prior_steps, seed=seed))
    return task


def _codebook_sizes(tokenizer: PictureTokenizer) -> list[int]:
    """K of each level; a level has one codebook here."""
    if isinstance(tokenizer, HierarchicalTokenizer):
        return [sizes[0] for sizes in tokenizer.codebook_sizes]
    return list(tokenizer.quantizer.codebook_sizes)


def _gaussian_psnr(settings: Settings, bits: float) -> float:
    """PSNR at these bits of the best code for Gaussian pictures of the same covariance: a reference, no bound."""
    values = _spectrum(settings.data, pictures(settings))
    error = water_filling(values, bits).distortion / len(values)
    return -10 * math.log10(error)


@lru_cache(maxsize=1)
def _spectrum(data: str, images: ImageSet) -> Float64[np.ndarray, " d"]:
    """Variances of training pictures along their principal axes, pixels in [0, 1]."""
    sample = images.batch(0, 0, SPECTRUM).flatten(1).double() / 255
    return spectrum(torch.cov(sample.T).numpy())
