"""The hierarchical tokenizer: grids of indices at several resolutions, the coarse ones first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64, Shaped
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from codebound.errors import InputError
from codebound.nets.conv import ConvDecoder, ConvEncoder, pad_to_multiple
from codebound.quantize import spec
from codebound.quantize.base import Quantized, Quantizer
from codebound.quantize.layout import channel_first, channel_first_decode
from codebound.tokenizers import pretrained
from codebound.tokenizers.image import CHANNELS, check_images, decoded_size, unit_to_network

LEVELS = (2, 3)


class HierarchicalReconstruction(NamedTuple):
    """A forward pass: what comes back, and what training lowers."""

    x_hat: Float[Tensor, "b c h w"]  # in [−1, 1], not clipped
    loss: Float[Tensor, ""]  # reconstruction + the quantizers' weighted losses
    reconstruction: Float[Tensor, ""]  # as `Reconstruction` has it, per token of the finest grid
    quantized: tuple[Quantized, ...]  # of each level, the coarsest first


class HierarchicalTokenizer(nn.Module):
    """A VQ-VAE of several resolutions (VQ-VAE-2: Razavi, van den Oord & Vinyals 2019), here of two levels.

    ```
    x ──encoder──▶ f₁ ──halved──▶ f₀ ──▶ z₀ ──quantizer 0──▶ ẑ₀ ──doubled──▶ h ─┬──────────────┐
                   └───────────────────────────────────────────────── f₁, h ──▶ z₁ ──quantizer 1──▶ ẑ₁, h ──decoder──▶ x̂
    ```

    Each level after the first is conditioned on what those before it decode to, and its codes on theirs. A grid has
    half the rows and columns of the next one. `encode` gives one grid of indices for each level, the coarsest first;
    that is the order in which a prior generates them.

    Nothing makes a decoder listen to coarse codes, as the fine ones say all they say: `dropped`, a part of the pictures
    in each training batch, is decoded without the finest codes, so that the others must say what they can.

    Args:
        quantizers: 2 or 3, the coarsest first, of one `dim`.
        channels: 1 (grey) or 3 (colour).
        width, depth: of the networks, as in `ImageTokenizer`.
        stride: pixels per token of the finest grid along a side.
        dropped: as above, 0 … 1.

    Raises:
        InputError: an argument out of its range.
    """

    def __init__(
        self,
        quantizers: Sequence[Quantizer],
        *,
        channels: int = 3,
        width: int = 64,
        depth: int = 2,
        stride: int = 4,
        dropped: float = 0.1,
    ) -> None:
        # As many levels as quantizers, all of one latent size.
        super().__init__()
        if len(quantizers) not in LEVELS or not all(isinstance(q, Quantizer) for q in quantizers):
            raise InputError(f"quantizers must be 2 or 3 codebound Quantizers; got {len(quantizers)}")
        if len({quantizer.dim for quantizer in quantizers}) > 1:
            raise InputError(
                f"quantizers must have one dim; got {[quantizer.dim for quantizer in quantizers]}"
            )
        if channels not in CHANNELS or not 0 <= dropped < 1:
            raise InputError(f"channels must be 1 or 3 and dropped in [0, 1); got {channels} and {dropped}")
        self.channels, self.width, self.depth, self.stride = channels, width, depth, stride
        self.dropped, dim, levels = dropped, quantizers[0].dim, len(quantizers)
        self.quantizers = nn.ModuleList(quantizers)

        # Down: features of each level, the finest first made. Across: latents, from features and what is known.
        sizes = {"width": width, "depth": depth}
        down = [ConvEncoder(channels, width, stride=stride, **sizes)]
        down += [ConvEncoder(width, width, stride=2, **sizes) for _ in range(levels - 1)]
        self.down = nn.ModuleList(down)
        self.across = nn.ModuleList(nn.Conv2d(width * (1 + (level > 0)), dim, 1) for level in range(levels))

        # Up: what is known after each level, at the resolution of the next; the last one gives the picture.
        known = [dim] + [dim + width] * (levels - 1)
        up: list[nn.Module] = [ConvDecoder(width, into, stride=2, **sizes) for into in known[:-1]]
        self.up = nn.ModuleList([*up, ConvDecoder(channels, known[-1], stride=stride, **sizes)])

    @property
    def multiple(self) -> int:
        """Sides of pictures are padded to multiples of this: pixels per token of the coarsest grid."""
        return self.stride * 2 ** (len(self.quantizers) - 1)

    @property
    def codebook_sizes(self) -> tuple[tuple[int, ...], ...]:
        """K of each level's codebooks, the coarsest level first."""
        return tuple(tuple(quantizer.codebook_sizes) for quantizer in self.quantizers)  # pyright: ignore

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per token along a side, of each level's grid."""
        return tuple(self.multiple >> level for level in range(len(self.quantizers)))

    def grids(self, size: tuple[int, int]) -> list[tuple[int, int, tuple[int, ...]]]:
        """Rows, columns and codebook sizes of each level's grid, for pictures of this height and width."""
        padded = [-(-side // self.multiple) for side in size]
        return [
            (padded[0] << level, padded[1] << level, sizes) for level, sizes in enumerate(self.codebook_sizes)
        ]

    def forward(self, x: Float[Tensor, "b c h w"]) -> HierarchicalReconstruction:
        """x in [−1, 1] (`to_network`), its sides multiples of `multiple`."""
        # Level by level: latents given what is known, their codes, what is known then.
        known, results = None, []
        for level, features in enumerate(self._features(x)):
            result = channel_first(self._quantizer(level), self._latents(level, features, known))
            z_q = result.z_q
            if self.training and level == len(self.quantizers) - 1:
                z_q = self._without(z_q)
            known = self._known(level, z_q, known)
            results.append(result)

        # What was known last is the picture.
        assert known is not None
        error = (x - known.to(x.dtype)).square().mean() * (self.channels * self.stride**2)
        loss = error + sum(result.loss for result in results)
        return HierarchicalReconstruction(known, loss, error, tuple(results))

    def to_network(self, images: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b c H W"]:
        """Pictures as the networks see them: checked, in [−1, 1], padded to multiples of `multiple`, channels last.

        Raises:
            InputError: as `ImageTokenizer.to_network`.
        """
        check_images(images, self.channels)
        x = unit_to_network(images, self.across[0].weight.dtype)  # pyright: ignore
        return pad_to_multiple(x, self.multiple).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def encode(self, images: Shaped[Tensor, "b c h w"]) -> tuple[Int64[Tensor, "b _ _ _"], ...]:
        """Indices of each level `[b, H, W, Q]`, the coarsest first; no gradient.

        Raises:
            InputError: as `to_network`.
        """
        known, indices = None, []
        for level, features in enumerate(self._features(self.to_network(images))):
            found = self._quantizer(level).encode(self._latents(level, features, known).movedim(1, -1))
            indices.append(found)
            if level < len(self.quantizers) - 1:
                known = self._known(level, self._codewords(level, found), known)
        return tuple(indices)

    @torch.no_grad()
    def decode(
        self, indices: Sequence[Tensor], *, size: tuple[int, int] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Pictures in [0, 1] from the grids of all levels; no gradient.

        Args:
            size: height and width to cut to; all rows and columns if not given.

        Raises:
            InputError: another number of grids, grids that don't halve, a size that they are not the grids of, or an
                index out of range.
        """
        shapes = [tuple(part.shape[1:3]) for part in indices]
        halves = all((2 * a[0], 2 * a[1]) == b for a, b in pairwise(shapes))
        if len(indices) != len(self.quantizers) or not halves:
            raise InputError(
                f"indices must be {len(self.quantizers)} grids, each twice the one before; got {shapes}"
            )
        height, width = decoded_size(shapes[0], self.multiple, size)
        known = None
        for level, part in enumerate(indices):
            known = self._known(level, self._codewords(level, part), known)
        assert known is not None
        return ((known + 1) / 2).clamp(0, 1)[..., :height, :width]

    def init_(self, images: Shaped[Tensor, "b c h w"]) -> None:
        """Codebooks begin from the latents of these pictures, each level given the codes of those before it."""
        with torch.no_grad():
            known = None
            for level, features in enumerate(self._features(self.to_network(images))):
                z = self._latents(level, features, known).movedim(1, -1)
                self._quantizer(level).init_(z)
                known = self._known(level, self._codewords(level, self._quantizer(level).encode(z)), known)

    def config(self) -> dict[str, Any]:
        """A JSON-able description from which `from_config` builds the same tokenizer, without its weights."""
        names = ("channels", "width", "depth", "stride", "dropped")
        return {name: getattr(self, name) for name in names} | {
            "quantizers": [spec.to_spec(self._quantizer(level)) for level in range(len(self.quantizers))]
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> HierarchicalTokenizer:
        """The tokenizer that a description describes, with fresh weights.

        Raises:
            InputError: an unknown field, a missing one, or a value that is not accepted.
        """
        description = pretrained.described(_Config, config)
        quantizers = [spec.from_spec(quantizer) for quantizer in description.quantizers]
        return cls(quantizers, **description.model_dump(exclude={"quantizers"}))

    def save_pretrained(self, folder: str | Path, *, card: str = "") -> None:
        """Write description, weights, card and manifest, as `ImageTokenizer.save_pretrained`.

        Raises:
            InputError: a quantizer from outside the package, or a folder that can't be written.
        """
        pretrained.save(Path(folder), "HierarchicalTokenizer", self.config(), self.state_dict(), card)

    @classmethod
    def from_pretrained(cls, source: str | Path, *, revision: str | None = None) -> HierarchicalTokenizer:
        """The tokenizer of a folder that `save_pretrained` wrote, or of the Hugging Face hub; in eval, on the CPU.

        Raises:
            InputError, DamagedModel: as `ImageTokenizer.from_pretrained`.
        """
        config, state = pretrained.load(source, "HierarchicalTokenizer", revision)
        tokenizer = cls.from_config(config)
        pretrained.take_over(tokenizer, state, str(source))
        return tokenizer.eval()

    def _features(self, x: Tensor) -> list[Tensor]:
        """Of each level, the coarsest first."""
        found = [self.down[0](x)]
        for halve in list(self.down)[1:]:
            found.append(halve(found[-1]))
        return found[::-1]

    def _latents(self, level: int, features: Tensor, known: Tensor | None) -> Float[Tensor, "b D _ _"]:
        """What a level's quantizer sees."""
        return self.across[level](features if known is None else torch.cat([features, known], dim=1))

    def _known(self, level: int, z_q: Tensor, known: Tensor | None) -> Tensor:
        """What is known after a level: features at the resolution of the next, or the picture."""
        z_q = z_q if known is None else torch.cat([known, z_q], dim=1)
        return self.up[level](z_q.contiguous(memory_format=torch.channels_last))

    def _codewords(self, level: int, indices: Tensor) -> Float[Tensor, "b D _ _"]:
        return channel_first_decode(self._quantizer(level), indices, dtype=self.across[level].weight.dtype)  # pyright: ignore

    def _quantizer(self, level: int) -> Quantizer:
        return self.quantizers[level]  # pyright: ignore[reportReturnType]

    def _without(self, z_q: Tensor) -> Tensor:
        """The finest codes, but for the first pictures of the batch, which are shuffled anyway."""
        count = round(self.dropped * len(z_q))
        return torch.cat([torch.zeros_like(z_q[:count]), z_q[count:]]) if count else z_q


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    channels: int
    width: int
    depth: int
    stride: int
    dropped: float
    quantizers: list[dict[str, Any]]
