"""A small classifier of pictures: what the suite judges samples by, where a set has classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from codebound.errors import InputError
from codebound.tokenizers import pretrained

AT_ONCE = 256  # pictures
EXAMPLE = """from codebound.evaluate.classifier import {kind}
classifier = {kind}.from_pretrained("path/to/this/folder")
probabilities = classifier.probabilities(images)        # uint8, or floats in [0, 1], [b, c, h, w]
features = classifier.features(images)"""


class PictureClassifier(nn.Module):
    """Three halvings by convolutions with group normalisation, the mean over places, one linear layer.

    ```
    x [b c h w] ──▶ [3×3, norm, SiLU, 3×3 of step 2, norm, SiLU] × 3 ──▶ mean over places: features ──▶ logits
    ```

    Features are standardised by what training saw last (`centre_`), so that no dimension weighs more by its scale.

    Args:
        channels: 1 (grey) or 3 (colour).
        classes: their names.
        width: channels after the first halving; each next one has twice as many.

    Raises:
        InputError: an argument out of its range.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int, classes: Sequence[str], width: int = 32) -> None:
        super().__init__()
        if channels not in (1, 3) or len(classes) < 2 or width < 8 or width % 8:
            raise InputError(
                "a classifier takes channels 1 or 3, at least 2 classes and a width that is a multiple of 8; got "
                f"{channels}, {len(classes)} and {width}"
            )
        self.channels, self.classes, self.width = channels, tuple(classes), width
        layers: list[nn.Module] = []
        for into, out in ((channels, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(into, out, 3, padding=1), nn.GroupNorm(8, out), nn.SiLU()]
            layers += [nn.Conv2d(out, out, 3, stride=2, padding=1), nn.GroupNorm(8, out), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(4 * width, len(classes))
        self.register_buffer("mean", torch.zeros(4 * width))
        self.register_buffer("spread", torch.ones(4 * width))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Logits; x in [−1, 1]."""
        return self.head(self.body(x).mean((2, 3)))

    def to_network(self, images: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Pictures as the network sees them: uint8 or floats in [0, 1] to [−1, 1].

        Raises:
            InputError: another shape or number of channels.
        """
        if images.ndim != 4 or images.shape[1] != self.channels:
            raise InputError(f"images must have shape [b, {self.channels}, h, w]; got {list(images.shape)}")
        scale = 127.5 if images.dtype == torch.uint8 else 0.5
        return images.to(self.head.weight) / scale - 1

    @torch.no_grad()
    def features(self, images: Shaped[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """The means over places, standardised."""
        parts = [self.body(self.to_network(part)).mean((2, 3)) for part in images.split(AT_ONCE)]
        return (torch.cat(parts) - self.mean) / self.spread

    @torch.no_grad()
    def probabilities(self, images: Shaped[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Of each class."""
        return torch.cat([self(self.to_network(part)).softmax(1) for part in images.split(AT_ONCE)])

    @torch.no_grad()
    def centre_(self, images: Shaped[Tensor, "n c h w"]) -> None:
        """Standardise features by these pictures."""
        self.mean.zero_()
        self.spread.fill_(1)
        found = self.features(images)
        self.mean.copy_(found.mean(0))
        self.spread.copy_(found.std(0).clamp_min(1e-6))

    def config(self) -> dict[str, Any]:
        """A JSON-able description."""
        return {"channels": self.channels, "classes": list(self.classes), "width": self.width}

    def save_pretrained(self, folder: str | Path, *, card: str = "") -> None:
        """Write description, weights, card and manifest.

        Raises:
            InputError: a folder that can't be written.
        """
        pretrained.save(Path(folder), "PictureClassifier", self.config(), self.state_dict(), card, EXAMPLE)

    @classmethod
    def from_pretrained(cls, source: str | Path, *, revision: str | None = None) -> PictureClassifier:
        """The classifier of a folder or of the Hugging Face hub, in eval.

        Raises:
            InputError, DamagedModel: as `pretrained.load`.
        """
        config, state = pretrained.load(source, "PictureClassifier", revision)
        classifier = cls(**pretrained.described(_Config, config).model_dump())
        pretrained.take_over(classifier, state, str(source))
        return classifier.eval()


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    channels: int
    classes: tuple[str, ...]
    width: int
