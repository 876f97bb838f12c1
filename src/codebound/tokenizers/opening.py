"""A picture tokenizer of either kind, by what its folder says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from codebound.errors import InputError
from codebound.tokenizers import pretrained
from codebound.tokenizers.hierarchy import HierarchicalTokenizer
from codebound.tokenizers.image import ImageTokenizer, to_uint8

AT_ONCE = 128  # pictures
PictureTokenizer = ImageTokenizer | HierarchicalTokenizer
_KINDS: dict[str, type[ImageTokenizer] | type[HierarchicalTokenizer]] = {
    "ImageTokenizer": ImageTokenizer,
    "HierarchicalTokenizer": HierarchicalTokenizer,
}


def open_tokenizer(folder: Path) -> PictureTokenizer:
    """The tokenizer in a folder.

    Raises:
        InputError: no such folder, or a model that is no tokenizer of pictures.
        DamagedModel: a file is not the one whose SHA-256 the manifest holds.
    """
    kind = pretrained.kind_of(folder)
    if kind not in _KINDS:
        raise InputError(f"{folder} holds a model of kind {kind}; {' or '.join(_KINDS)} is accepted")
    return _KINDS[kind].from_pretrained(folder)


def decoded(
    tokenizer: PictureTokenizer, indices: Tensor | Sequence[Tensor], size: tuple[int, int] | None = None
) -> Float[Tensor, "b c h w"]:
    """Pictures in [0, 1] from indices as the tokenizer's `encode` gives them, on the tokenizer's device."""
    device = next(tokenizer.parameters()).device
    if isinstance(tokenizer, HierarchicalTokenizer):
        return tokenizer.decode([part.to(device) for part in indices], size=size)
    assert isinstance(indices, Tensor)
    return tokenizer.decode(indices.to(device), size=size)


def reproduced(tokenizer: PictureTokenizer, pictures: UInt8[Tensor, "n c h w"]) -> UInt8[Tensor, "n c h w"]:
    """What the tokenizer gives back of pictures, some of them at a time."""
    size, device = (pictures.shape[2], pictures.shape[3]), next(tokenizer.parameters()).device
    parts = [
        to_uint8(decoded(tokenizer, tokenizer.encode(part.to(device)), size)).cpu()
        for part in pictures.split(AT_ONCE)
    ]
    return torch.cat(parts)


def digest(tokenizer: PictureTokenizer) -> str:
    """What names a tokenizer: 16 hexadecimal digits over its description and weights."""
    return pretrained.digest(tokenizer.config(), tokenizer.state_dict())
