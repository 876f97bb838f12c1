"""A cell of the study: one training, and its held-out pictures' codes as a file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Tensor

from codebound import config
from codebound.codec import compress_grids, compress_vectors, decompress_vectors, inspect_vectors
from codebound.data.image_sets import ImageSet
from codebound.quantize import Trellis
from codebound.recipes import named, papers
from codebound.runs import settings as runs
from codebound.studies.framework.declare import Cell
from codebound.studies.framework.pictures import opened
from codebound.studies.framework.training import train_through
from codebound.tasks.tokenizer import TokenizerOptimization, TokenizerTask
from codebound.tokenizers import ImageTokenizer
from codebound.tokenizers.image import to_uint8

BATCH = 128
FIT = 32  # batches whose latents a code of squares is fitted to
SIDE = 2  # tokens of a square, along a side


class Arm(NamedTuple):
    """A way to code latents, and at which sizes: codewords of one book, books of 256, or bits a token."""

    label: str
    stride: int
    dim: int
    sizes: tuple[int, ...]


ARMS: dict[str, Arm] = {
    "trellis": Arm("Trellis, straight-through", 8, 32, (10, 16, 24, 36)),
    "trellis-dither": Arm("Trellis, dither", 8, 32, (10, 16, 24, 36)),
    "vq-ema": Arm("one codebook, EMA", 4, 8, (64, 256, 1024)),
    "rvq": Arm("residual codebooks of 256", 8, 32, (2, 3, 4)),
    "fsq": Arm("FSQ", 4, 8, (64, 256, 1000)),
}


class Settings(TokenizerOptimization, config.Settings):
    """Equal networks but for the stride, equal steps, crops and held-out pictures for every arm."""

    CHOOSES = frozenset({"seeds"})

    seeds: int = Field(5, ge=1)
    data: str = "photos"
    crop: int = Field(32, ge=16)
    width: int = Field(32, ge=1)
    depth: int = Field(1, ge=0)
    steps: int = Field(400, ge=1)
    batch_size: int = Field(32, ge=1)
    held_out: int = Field(512, ge=16)

    def training(self, arm: str, size: int, seed: int) -> runs.Settings:
        """The settings of one training, as `codebound train` has them."""
        own = ARMS[arm]
        books = {"codebook_size": 256, "stages": size} if arm == "rvq" else {"codebook_size": max(size, 64)}
        return config.part(
            runs.Settings, self, stride=own.stride, dim=own.dim, linear=True, seed=seed, **books
        )


def train(settings: Settings, cell: Cell) -> dict[str, Any]:
    """Train one tokenizer; for each way to code its latents bits per pixel of a file, and PSNR."""
    arm, size = cell["arm"], cell["size"]
    own = settings.training(arm, size, cell["seed"])
    images = crops(settings)
    recipe = runs.recipe(own, images)

    # The seed draws the weights, the same for all arms of a stride.
    torch.manual_seed(cell["seed"])
    request = runs.quantizer_request(own, recipe.steps, images)
    if arm.startswith("trellis"):
        surrogate = "dither" if arm.endswith("dither") else "straight_through"
        quantizer = papers.ectcq(own.dim, float(size), surrogate=surrogate)
    else:
        quantizer = named.quantizer(arm, request)
    task = TokenizerTask(runs.around(quantizer, own, images), images, own)
    train_through(task, recipe)
    fit = [images.batch(own.seed, recipe.steps + i, own.batch_size) for i in range(FIT)]
    return {"points": _points(task.tokenizer, arm, size, torch.cat(fit), images.held_out)}


def crops(settings: Settings) -> ImageSet:
    """The crops of all cells, opened once in each process."""
    return opened(settings.data, runs.picture_request(settings.training("trellis", 10, 0)))


@torch.no_grad()
def _points(
    tokenizer: ImageTokenizer,
    arm: str,
    size: int,
    fit: UInt8[Tensor, "m c h w"],
    pictures: UInt8[Tensor, "n c h w"],
) -> Sequence[Mapping[str, Any]]:
    """Bits per pixel and PSNR of each way to code the latents of these pictures."""
    if not arm.startswith("trellis"):
        return [{"code": arm, **_of_indices(tokenizer, pictures)}]
    z, seen = (torch.cat([tokenizer.latents(some) for some in part.split(BATCH)]) for part in (pictures, fit))
    quantizer = tokenizer.quantizer
    assert isinstance(quantizer, Trellis)
    found = [{"code": arm, **_of_levels(tokenizer, quantizer, z, pictures, 1)}]
    if arm == "trellis":
        squares = Trellis(SIDE**2 * quantizer.dim, rate=float(SIDE**2 * size)).eval()
        squares.init_(_squares(seen, SIDE).flatten(0, 2))
        found.append({"code": "trellis-squares", **_of_levels(tokenizer, squares, z, pictures, SIDE)})
    return found


def _of_levels(
    tokenizer: ImageTokenizer, quantizer: Trellis, z: Tensor, pictures: UInt8[Tensor, "n c h w"], side: int
) -> dict[str, float]:
    """All latents as one `.cbv` file. Its header, which is the model, is counted by itself, as codebooks are."""
    data = compress_vectors(_squares(z, side), quantizer)
    header = inspect_vectors(data).header_bytes
    z_q = _whole(decompress_vectors(data), side)
    again = [
        to_uint8(((tokenizer.decoder(some.movedim(-1, 1).contiguous()) + 1) / 2).clamp(0, 1))
        for some in z_q.split(BATCH)
    ]
    return _figures(len(data) - header, header, None, torch.cat(again), pictures)


def _of_indices(tokenizer: ImageTokenizer, pictures: UInt8[Tensor, "n c h w"]) -> dict[str, float]:
    """All indices as one `.cbd` file of one tall grid, whose counts adapt to what stands beside each index."""
    indices = torch.cat([tokenizer.encode(some) for some in pictures.split(BATCH)])
    sizes = tokenizer.quantizer.codebook_sizes
    data = compress_grids([indices.flatten(0, 1).cpu().numpy()], sizes, verify=False)
    again = torch.cat([to_uint8(tokenizer.decode(some)) for some in indices.split(BATCH)])
    books = sum(book.table.numel() for book in tokenizer.quantizer.codebooks() if book is not None)
    nominal = indices[..., 0].numel() * sum(math.log2(size) for size in sizes)
    return _figures(len(data), 4 * books, nominal, again, pictures)


def _figures(
    size: int,
    model_bytes: int,
    nominal: float | None,
    again: UInt8[Tensor, "n c h w"],
    pictures: UInt8[Tensor, "n c h w"],
) -> dict[str, Any]:
    pixels = pictures.shape[0] * pictures.shape[2] * pictures.shape[3]
    error = (again.double() - pictures.double()).square().mean() / 255**2
    return {
        "bpp": 8 * size / pixels,
        "bpp_nominal": None if nominal is None else nominal / pixels,
        "psnr": -10 * math.log10(float(error)),
        "model_bytes": model_bytes,
    }


def _squares(z: Float[Tensor, "n h w d"], side: int) -> Float[Tensor, "n H W D"]:
    """The latents of each square of tokens as one vector."""
    n, h, w, d = z.shape
    parts = z.view(n, h // side, side, w // side, side, d).transpose(2, 3)
    return parts.reshape(n, h // side, w // side, side * side * d)


def _whole(z: Float[Tensor, "n H W D"], side: int) -> Float[Tensor, "n h w d"]:
    """And back."""
    n, h, w, d = z.shape
    parts = z.view(n, h, w, side, side, d // side**2).transpose(2, 3)
    return parts.reshape(n, h * side, w * side, d // side**2)
