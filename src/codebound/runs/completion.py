"""A picture of which a part is given, for a prior to complete."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor, nn

from codebound.data.images import read_image
from codebound.errors import InputError
from codebound.generators.prior import TokenPrior
from codebound.tokenizers.opening import PictureTokenizer


class Completion(NamedTuple):
    """A picture of which a part is given."""

    picture: Float[Tensor, "1 c h w"]
    kept: Bool[Tensor, "1 1 h w"]
    known: list[Tensor]  # its indices on each grid, −1 where one is to be drawn


def given_part(
    prior: TokenPrior, tokenizer: PictureTokenizer, size: tuple[int, int], path: Path, keep: str
) -> Completion:
    """What is given of a picture, as indices.

    Raises:
        InputError: a picture of another size than the prior's, no such mask, or one that keeps nothing or everything,
            or of another size.
    """
    # The picture, in the tokenizer's colours and of the size that the prior knows.
    picture = _read(path, tokenizer.channels)
    height, width = picture.shape[2:]
    if (height, width) != size:
        raise InputError(
            f"--from {path}: {height}x{width} pixels; the prior completes pictures of {size[0]}x{size[1]}"
        )

    # What stays: a half, or what is white in a mask.
    kept = torch.zeros(1, 1, height, width, dtype=torch.bool)
    if keep == "top":
        kept[:, :, : height // 2] = True
    elif keep == "left":
        kept[:, :, :, : width // 2] = True
    else:
        if not Path(keep).is_file():
            raise InputError(f"--keep {keep}: top, left, or the file of a mask is accepted")
        mask = _read(Path(keep), 1)
        if mask.shape[2:] != picture.shape[2:]:
            raise InputError(
                f"--keep {keep}: {mask.shape[2]}x{mask.shape[3]} pixels; the picture has {height}x{width}"
            )
        kept = mask >= 0.5
    if not bool(kept.any()) or bool(kept.all()):
        raise InputError(f"--keep {keep}: some of the picture must stay, and some not")

    # What is hidden must not be seen through the encoder; a token is given where all of its pixels are.
    mean = (picture * kept).sum((2, 3), keepdim=True) / kept.sum()
    indices = tokenizer.encode(torch.where(kept, picture, mean))
    parts = [indices] if isinstance(indices, Tensor) else list(indices)
    known = []
    for part, stride, grid in zip(parts, tokenizer.strides, prior.layout.grids, strict=True):
        hidden = _hidden_tokens(~kept, stride)
        bottom, right = (
            grid.height - hidden.shape[1],
            grid.width - hidden.shape[2],
        )  # padded to the coarsest token
        known.append(part.masked_fill(nn.functional.pad(hidden, (0, 0, 0, right, 0, bottom), value=True), -1))
    return Completion(picture, kept, known)


def whole_size(prior: TokenPrior, tokenizer: PictureTokenizer) -> tuple[int, int]:
    """Height and width of all that the prior's grids decode to."""
    grid = prior.layout.grids[-1]
    return grid.height * tokenizer.stride, grid.width * tokenizer.stride


def _hidden_tokens(hidden: Bool[Tensor, "1 1 h w"], stride: int) -> Bool[Tensor, "1 rows columns 1"]:
    """The tokens of a grid of which some pixel is hidden."""
    bottom, right = (-side % stride for side in hidden.shape[2:])
    whole = nn.functional.pad(hidden.float(), (0, right, 0, bottom), mode="replicate")
    return nn.functional.max_pool2d(whole, stride)[:, 0, :, :, None] > 0


def _read(path: Path, channels: int) -> Float[Tensor, "1 c h w"]:
    """A picture file in [0, 1]."""
    pixels = read_image(path, path.name).pixels
    if channels == 1:
        pixels = np.array(Image.fromarray(pixels).convert("L"))[..., None]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
