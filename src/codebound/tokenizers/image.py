"""The image tokenizer: pictures to grids of integers and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Int64, Shaped, UInt8
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from codebound.errors import InputError
from codebound.nets.conv import ConvDecoder, ConvEncoder, pad_to_multiple
from codebound.nets.patch import LinearBypass, LinearDecoder, LinearEncoder
from codebound.quantize import spec
from codebound.quantize.base import Quantized, Quantizer
from codebound.quantize.layout import channel_first, channel_first_decode
from codebound.tokenizers import pretrained, sequences

CHANNELS = (1, 3)


class Reconstruction(NamedTuple):
    """A forward pass: what comes back, and what training lowers."""

    x_hat: Float[Tensor, "b c h w"]  # in [−1, 1], not clipped
    loss: Float[Tensor, ""]  # reconstruction + the quantizer's weighted losses
    reconstruction: Float[
        Tensor, ""
    ]  # squared error in [−1, 1], summed over the pixels of a token, mean over tokens
    quantized: Quantized


class ImageTokenizer(nn.Module):
    """A convolutional VQ-VAE (van den Oord, Vinyals & Kavukcuoglu 2017) around any quantizer.

    ```
    x [b c h w] ──encoder──▶ z [b D h/s w/s] ──quantizer──▶ z_q [b D h/s w/s] ──decoder──▶ x̂ [b c h w]
                                                 │  ▲
                                          indices [b h/s w/s Q]
    ```

    loss = |x − x̂|², summed over the s·s·c values that a token stands for, + the quantizer's losses, which are sums
    over D: both are squared errors per token. In the network pictures are in [−1, 1].

    `encode` takes uint8 pictures or floats in [0, 1] of any size; sides that s does not divide are padded by their
    last row and column, and `decode(…, size=(h, w))` cuts the padding off again. `decode` is a function of indices
    and size alone. Of a `Residual` the first q indices decode, too: a lower rate from the same codes.

    Args:
        quantizer: of vectors; its `dim` is the number of latent channels D.
        channels: 1 (grey) or 3 (colour).
        width: channels inside the networks.
        depth: residual blocks in the encoder, and in the decoder.
        stride: s, pixels per token along a side: 1, 2, 4, 8, 16 or 32.
        linear: add a trained linear map of each s×s patch beside both networks. It begins as a block DCT, the
            networks at zero, so a latent dimension is a component of the patch from the first step on.

    Raises:
        InputError: an argument out of its range.
    """

    def __init__(
        self,
        quantizer: Quantizer,
        *,
        channels: int = 3,
        width: int = 64,
        depth: int = 2,
        stride: int = 4,
        linear: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(quantizer, Quantizer):
            raise InputError(f"quantizer must be a codebound Quantizer; got {type(quantizer).__name__}")
        if channels not in CHANNELS:
            raise InputError(f"channels must be 1 (grey) or 3 (colour); got {channels}")
        self.channels, self.width, self.depth, self.stride = channels, width, depth, stride
        self.linear = linear
        encoder = ConvEncoder(channels, quantizer.dim, width=width, depth=depth, stride=stride)
        decoder = ConvDecoder(channels, quantizer.dim, width=width, depth=depth, stride=stride)
        patches = (channels, quantizer.dim, stride)
        self.encoder = LinearBypass(encoder, LinearEncoder(*patches)) if linear else encoder
        self.quantizer = quantizer
        self.decoder = LinearBypass(decoder, LinearDecoder(*patches)) if linear else decoder

    def forward(self, x: Float[Tensor, "b c h w"]) -> Reconstruction:
        """x in [−1, 1] (`to_network`), its sides multiples of the stride."""
        z = self.encoder(x)
        quantized = channel_first(self.quantizer, z)
        x_hat = self.decoder(quantized.z_q)
        return self._reconstruction(x, x_hat, quantized)

    def to_network(self, images: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b c H W"]:
        """Pictures as the networks see them: checked, in [−1, 1], padded to multiples of the stride, channels last.

        Raises:
            InputError: another shape or number of channels, no pixel, integers that are not uint8, floats that are
                not finite or not in [0, 1].
        """
        check_images(images, self.channels)
        x = unit_to_network(images, next(self.encoder.parameters()).dtype)
        return pad_to_multiple(x, self.stride).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def encode(self, images: Shaped[Tensor, "b c h w"]) -> Int64[Tensor, "b H W Q"]:
        """Indices on the grid of tokens, H = ⌈h/s⌉, W = ⌈w/s⌉; no gradient.

        Raises:
            InputError: as `to_network`.
        """
        return self.quantizer.encode(self.latents(images))

    @torch.no_grad()
    def decode(
        self, indices: Int[Tensor, "b H W q"], *, size: tuple[int, int] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Pictures in [0, 1]; no gradient.

        Args:
            size: height and width to cut to; all s·H and s·W rows and columns if not given.

        Raises:
            InputError: a size that the grid is not the grid of, or an index out of range.
        """
        if indices.ndim != 4:
            raise InputError(f"indices must have shape [b, H, W, Q]; got {list(indices.shape)}")
        height, width = decoded_size(tuple(indices.shape[1:3]), self.stride, size)
        dtype = next(self.decoder.parameters()).dtype
        z_q = channel_first_decode(self.quantizer, indices, dtype=dtype)
        x_hat = self.decoder(z_q.contiguous(memory_format=torch.channels_last))
        return ((x_hat + 1) / 2).clamp(0, 1)[..., :height, :width]

    @torch.no_grad()
    def latents(self, images: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b H W D"]:
        """What the quantizer sees, a token's D numbers last; no gradient."""
        return self.encoder(self.to_network(images)).movedim(1, -1)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per token along a side, of each grid that `encode` gives: of one."""
        return (self.stride,)

    def grids(self, size: tuple[int, int]) -> list[tuple[int, int, tuple[int, ...]]]:
        """Rows, columns and codebook sizes of the one grid of pictures of this height and width."""
        height, width = (-(-side // self.stride) for side in size)
        return [(height, width, tuple(self.quantizer.codebook_sizes))]

    @property
    def vocab_size(self) -> int:
        """How many tokens `flatten` tells apart: the sum of the codebook sizes."""
        return sum(self.quantizer.codebook_sizes)

    def flatten(self, indices: Int[Tensor, "b H W q"]) -> Int64[Tensor, "b H*W*q"]:
        """Grids as sequences of tokens for a language model: row by row, all levels of a position together.

        A level's tokens begin where those of the level before it end, so no two levels share one. Of a `Residual` the
        first q levels are accepted, too.

        Raises:
            InputError: another shape, or an index out of its codebook's range.
        """
        return sequences.flatten(indices, self.quantizer.codebook_sizes)

    def unflatten(self, tokens: Int[Tensor, "b n"], grid: tuple[int, int]) -> Int64[Tensor, "b H W q"]:
        """The grids, of H and W tokens, that `flatten` made these sequences of.

        Raises:
            InputError: a length that does not fit the grid, or a token where another level's stands.
        """
        return sequences.unflatten(tokens, grid, self.quantizer.codebook_sizes)

    def config(self) -> dict[str, Any]:
        """A JSON-able description from which `from_config` builds the same tokenizer, without its weights.

        Raises:
            InputError: a quantizer from outside the package.
        """
        names = ("channels", "width", "depth", "stride")
        description = {name: getattr(self, name) for name in names} | {
            "quantizer": spec.to_spec(self.quantizer)
        }
        # Files name their model by a hash over this: what came later is only written where it is used.
        return description | {"linear": True} if self.linear else description

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ImageTokenizer:
        """The tokenizer that a description describes, with fresh weights.

        Raises:
            InputError: an unknown field, a missing one, or a value that is not accepted.
        """
        description = pretrained.described(_Config, config)
        sizes = description.model_dump(exclude={"quantizer"})
        return cls(spec.from_spec(description.quantizer), **sizes)

    def save_pretrained(self, folder: str | Path, *, card: str = "") -> None:
        """Write `config.json`, `model.safetensors`, `README.md` (the model card) and `manifest.json` (SHA-256).

        Args:
            card: what the model card says below the description of the model: data, training, figures.

        Raises:
            InputError: a quantizer from outside the package, or a folder that can't be written.
        """
        pretrained.save(Path(folder), "ImageTokenizer", self.config(), self.state_dict(), card)

    @classmethod
    def from_pretrained(cls, source: str | Path, *, revision: str | None = None) -> ImageTokenizer:
        """The tokenizer of a folder that `save_pretrained` wrote, or of the Hugging Face hub; in eval, on the CPU.

        Args:
            source: a folder, `"owner/name"` on the hub, or `"default"`: the small tokenizer in the package, trained
                on its photographs (a folder of this name is `"./default"`).
            revision: branch, tag or commit on the hub.

        Raises:
            InputError: no such folder or repository, or files that do not fit together.
            DamagedModel: a file is not the one whose SHA-256 the manifest holds.
        """
        config, state = pretrained.load(source, "ImageTokenizer", revision)
        tokenizer = cls.from_config(config)
        pretrained.take_over(tokenizer, state, str(source))
        return tokenizer.eval()

    def _reconstruction(self, x: Tensor, x_hat: Tensor, quantized: Quantized) -> Reconstruction:
        error = (x - x_hat.to(x.dtype)).square().mean() * (self.channels * self.stride**2)
        return Reconstruction(x_hat, error + quantized.loss, error, quantized)


def check_images(images: Tensor, channels: int) -> None:
    """Refuse what is no batch of pictures with so many channels.

    Raises:
        InputError: another shape or number of channels, no pixel, integers that are not uint8, floats that are not
            finite or not in [0, 1].
    """
    if images.ndim != 4 or images.shape[1] != channels or 0 in images.shape[2:]:
        raise InputError(f"images must have shape [b, {channels}, h, w]; got {list(images.shape)}")
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise InputError(f"images must be uint8, or floats in [0, 1]; got {images.dtype}")
    if images.numel() and not bool(((images >= 0) & (images <= 1)).all()):  # NaN is neither
        low, high = images.amin().item(), images.amax().item()
        raise InputError(f"float images must be in [0, 1]; got {low:.4g} … {high:.4g} (uint8: 0 … 255)")


def unit_to_network(images: Shaped[Tensor, "*b"], dtype: torch.dtype) -> Float[Tensor, "*b"]:
    """uint8 pictures, or floats in [0, 1], as floats in [−1, 1]."""
    return images.to(dtype) / 127.5 - 1 if images.dtype == torch.uint8 else images.to(dtype) * 2 - 1


def decoded_size(grid: tuple[int, ...], stride: int, size: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of what a grid of tokens decodes to.

    Raises:
        InputError: a size that the grid is not the grid of.
    """
    rows, columns = (stride * side for side in grid)
    height, width = (rows, columns) if size is None else size
    if not (rows - stride < height <= rows and columns - stride < width <= columns):
        raise InputError(
            f"size={(height, width)} does not have a grid of {grid[0]}x{grid[1]} tokens of "
            f"{stride}x{stride} pixels; up to {(rows, columns)} is accepted"
        )
    return height, width


def to_uint8(images: Float[Tensor, "*b"]) -> UInt8[Tensor, "*b"]:
    """Pictures in [0, 1] as 8-bit ones, rounded."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    channels: int
    width: int
    depth: int
    stride: int
    linear: bool = False
    quantizer: dict[str, Any]
