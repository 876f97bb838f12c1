"""Distance of pictures as VGG sees them (Simonyan & Zisserman 2015), from weights that the user has.

The package brings no weights and fetches none: it takes a state dict as torchvision has it (`vgg16-397923af.pth`,
`vgg19-dcbb9e9d.pth`), needs no torchvision, and unpickles nothing but tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from codebound.errors import InputError
from codebound.metrics.feature_distance import FeatureDistance
from codebound.metrics.weights import read_state

# Convolutions between one pooling and the next.
BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}

# Of the pictures that the weights were trained on: mean and deviation of red, green and blue.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VggDistance(FeatureDistance):
    """`FeatureDistance` with the features before each pooling of VGG, and the last ones: ReLU 1_2, 2_2, 3_3 or 3_4, ….

    Args:
        weights: a file (`.safetensors`, or `.pth`, of which nothing but tensors is unpickled), or the state dict
            itself: `features.0.weight`, `features.0.bias`, `features.2.weight`, … of vgg16 or vgg19 without batch
            normalisation. Narrower networks of the same depth are accepted, the classifier's weights passed over.

    Raises:
        InputError: no such file, or none of these networks.
    """

    least_side = 16
    mean: Tensor
    deviation: Tensor

    def __init__(self, weights: str | Path | Mapping[str, Tensor]) -> None:
        super().__init__()
        if isinstance(weights, Mapping):
            source, state = "weights", weights
        else:
            source, state = str(weights), read_state(Path(weights), "VGG's weights")
        self.variant = _variant(source, state)
        self.blocks = nn.ModuleList(_blocks(source, state, BLOCKS[self.variant]))
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("deviation", torch.tensor(DEVIATION)[:, None, None])
        self.eval().requires_grad_(False)

    def layers(self, pictures: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """After the last ReLU of each block."""
        z, found = (pictures.expand(-1, 3, -1, -1) - self.mean) / self.deviation, []
        for block in self.blocks:
            z = block(z)
            found.append(z)
        return found


def _variant(source: str, state: Mapping[Any, Any]) -> str:
    """Which network a state dict is of, by the places of its convolutions."""
    there = {name for name in state if str(name).startswith("features.")}
    for variant, counts in BLOCKS.items():
        if there == {f"features.{at}.{part}" for at in _places(counts) for part in ("weight", "bias")}:
            return variant
    raise InputError(
        f"{source} holds {len(there)} arrays named features.*, not those of vgg16 (26) or vgg19 (32) without batch "
        "normalisation, as torchvision names them"
    )


def _places(counts: tuple[int, ...]) -> list[int]:
    """The number of each convolution among convolutions, ReLUs and poolings."""
    places, at = [], 0
    for count in counts:
        places += range(at, at + 2 * count, 2)
        at += 2 * count + 1
    return places


def _blocks(source: str, state: Mapping[Any, Any], counts: tuple[int, ...]) -> list[nn.Sequential]:
    """The blocks with their weights, a pooling before each but the first.

    Raises:
        InputError: no tensors of numbers, or kernels that are no 3×3 convolutions one after the other, from three
            colours on.
    """
    kernels = [
        (
            _parameter(source, state, f"features.{at}.weight", 4),
            _parameter(source, state, f"features.{at}.bias", 1),
        )
        for at in _places(counts)
    ]

    # Each convolution takes what the one before it gives.
    widths = [3, *(len(bias) for _, bias in kernels)]
    for at, (weight, _), (before, after) in zip(_places(counts), kernels, pairwise(widths), strict=True):
        if tuple(weight.shape) != (after, before, 3, 3):
            raise InputError(
                f"{source}: features.{at}.weight has shape {tuple(weight.shape)}; {(after, before, 3, 3)} is accepted"
            )

    # In float32, whatever they were kept in.
    blocks, pairs = [], iter(kernels)
    for number, count in enumerate(counts):
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if number else []
        for _ in range(count):
            weight, bias = next(pairs)
            convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
            convolution.load_state_dict({"weight": weight.float(), "bias": bias.float()})
            layers += [convolution, nn.ReLU()]
        blocks.append(nn.Sequential(*layers))
    return blocks


def _parameter(source: str, state: Mapping[Any, Any], name: str, axes: int) -> Tensor:
    """One tensor of a state dict.

    Raises:
        InputError: something else, or a tensor of other axes, of no number, or of whole or complex ones.
    """
    value = state[name]
    if not isinstance(value, Tensor):
        raise InputError(f"{source}: {name} is a {type(value).__name__}; a tensor is accepted")
    if value.ndim != axes or not value.numel() or not value.is_floating_point():
        raise InputError(
            f"{source}: {name} has shape {tuple(value.shape)} and type {value.dtype}; floating-point numbers of "
            f"{axes} axes are accepted"
        )
    return value
