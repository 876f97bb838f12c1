"""Pictures in other colours: few photographs show few, and a codebook has no word for one it never saw."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

GAIN, OFFSET = 0.4, 48.0  # of the logarithm of a channel's contrast; of its mean, in steps of 8 bits


def recolour(pixels: UInt8[np.ndarray, "h w c"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w c"]:
    """The picture with its channels in a random order, each with another contrast and mean."""
    channels = pixels.shape[2]
    ordered = pixels[..., rng.permutation(channels)].astype(np.float32)
    mean = ordered.mean((0, 1))
    gain = np.exp(rng.uniform(-GAIN, GAIN, channels)).astype(np.float32)
    offset = rng.uniform(-OFFSET, OFFSET, channels).astype(np.float32)
    return np.rint(np.clip((ordered - mean) * gain + mean + offset, 0, 255)).astype(np.uint8)


def recoloured(
    images: UInt8[Tensor, "n c h w"], probability: float, seed: int, step: int
) -> UInt8[Tensor, "n c h w"]:
    """A batch with some of its pictures in other colours; equal arguments give equal pictures."""
    if probability == 0:
        return images
    # The crops of the step are drawn from the stream before the jump.
    rng = np.random.Generator(np.random.Philox(key=[seed, step]).jumped())
    chosen = rng.random(len(images)) < probability
    shown = [
        torch.from_numpy(recolour(image.permute(1, 2, 0).numpy(), rng)).permute(2, 0, 1) if other else image
        for image, other in zip(images, chosen, strict=True)
    ]
    return torch.stack(shown)
