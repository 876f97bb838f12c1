"""Pictures of a batch as they might have been: mirrored, shifted, turned, in other colours."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from codebound import config
from codebound.data.recolour import recoloured


class Augmentation(config.Settings):
    """What a training may do to each picture of a batch; nothing by default.

    Attributes:
        flip: probability that a picture is mirrored, left for right.
        shift: pixels, at most, that it is moved by along each axis; its border is continued.
        turn: degrees, at most, that it is turned by to either side.
        recolour: probability that it is shown in other colours (`data.recolour`).
    """

    flip: float = Field(default=0.0, ge=0, le=1)
    shift: int = Field(default=0, ge=0)
    turn: float = Field(default=0.0, ge=0, le=180)
    recolour: float = Field(default=0.0, ge=0, le=1)

    @property
    def moves(self) -> bool:
        """Whether pixels change their places."""
        return bool(self.flip or self.shift or self.turn)


def augmented(
    images: UInt8[Tensor, "n c h w"], how: Augmentation, seed: int, step: int
) -> UInt8[Tensor, "n c h w"]:
    """The pictures of a step, augmented; equal arguments give equal pictures."""
    if how.moves:
        # The crops of the step are drawn from the stream before the first jump, colours from that after it.
        random = np.random.Generator(np.random.Philox(key=[seed, step]).jumped(2))
        images = _moved(images, _maps(how, random, len(images), (images.shape[2], images.shape[3])))
    return recoloured(images, how.recolour, seed, step)


def _maps(
    how: Augmentation, random: np.random.Generator, count: int, size: tuple[int, int]
) -> Float[Tensor, "n 2 3"]:
    """For each picture: where a place of the new one was in the old one, both axes from −1 to 1 (`affine_grid`)."""
    height, width = size
    mirrored = np.where(random.random(count) < how.flip, -1.0, 1.0)
    moved = random.integers(-how.shift, how.shift + 1, (2, count)) * [[2 / width], [2 / height]]
    angle = np.deg2rad(random.uniform(-how.turn, how.turn, count))

    # Turned in pixels, which are not square where a picture is not; then mirrored, then moved.
    cos, sin = np.cos(angle), np.sin(angle)
    maps = np.empty((count, 2, 3))
    maps[:, 0] = np.stack([mirrored * cos, -sin * height / width, moved[0]], axis=1)
    maps[:, 1] = np.stack([mirrored * sin * width / height, cos, moved[1]], axis=1)
    return torch.from_numpy(maps)


def _moved(images: UInt8[Tensor, "n c h w"], maps: Float[Tensor, "n 2 3"]) -> UInt8[Tensor, "n c h w"]:
    """Pictures read at other places, between pixels by the four around, beyond the border at the border."""
    grid = affine_grid(maps.float().to(images.device), list(images.shape), align_corners=False)
    found = grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found.round().clamp(0, 255).to(torch.uint8)
