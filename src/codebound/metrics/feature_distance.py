"""Distance of pictures as the layers of a fixed network see them: one definition for all networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from codebound.errors import InputError


class FeatureDistance(nn.Module, ABC):
    """Mean over pictures of Σ_l mean over places of |f_l(x)/|f_l(x)| − f_l(y)/|f_l(y)||², features f_l at some depths.

    Like LPIPS (Zhang et al. 2018) without its trained weights on layers, so its values are its own.
    """

    least_side: ClassVar[int]  # pixels, of which the last layer still sees a place

    @abstractmethod
    def layers(self, pictures: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """What the network's layers see of pictures in [0, 1], grey or in colours: `[b, channels, rows, columns]`."""

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Distances of pictures in [0, 1]; grey ones are repeated in three channels.

        Raises:
            InputError: no pictures of one or three channels, of different shapes, or with a side under the least.
        """
        return self.between(x, y)

    def between(self, x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The same with a gradient, to train by: never judge by a network that was trained by.

        Raises:
            InputError: as `forward`.
        """
        for pictures in (x, y):
            check_pictures(pictures, self.least_side)
        if x.shape != y.shape:
            raise InputError(f"pictures must have one shape; got {list(x.shape)} and {list(y.shape)}")
        pairs = zip(self.features(x), self.features(y), strict=True)
        return sum(((a - b).square().sum(1).mean((1, 2)) for a, b in pairs), x.new_zeros(len(x)))

    def features(self, pictures: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """`layers`, each place's of unit length along the channels."""
        return [nn.functional.normalize(found, dim=1) for found in self.layers(pictures)]


def check_pictures(pictures: Tensor, least_side: int) -> None:
    """Refuse what a network of three colours can't look at.

    Raises:
        InputError: not `[b, c, h, w]` of one or three channels, or a side under `least_side` pixels.
    """
    shape = list(pictures.shape)
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise InputError(f"pictures must have shape [b, 1, h, w] or [b, 3, h, w]; got {shape}")
    if min(shape[2:]) < least_side:
        raise InputError(f"pictures must have sides of at least {least_side}; got {shape}")
