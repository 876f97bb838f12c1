"""Latents that do not come as `[*, dim]`: channels first, and padded sequences."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from codebound.errors import InputError
from codebound.quantize.base import Quantized, Quantizer


def channel_first(
    quantizer: Quantizer,
    z: Float[Tensor, "b D *space"],
    *,
    mask: Bool[Tensor, "b *space"] | None = None,  # noqa: UP037, F821
    generator: torch.Generator | None = None,
) -> Quantized:
    """Quantize feature maps `[b, D, *space]`, as convolutions give them.

    Returns:
        `z_q` of the shape of `z`; indices `[b, *space, Q]`, which `channel_first_decode` takes back.

    Raises:
        InputError: fewer than two axes, or what the quantizer refuses.
    """
    if not isinstance(quantizer, Quantizer):
        raise InputError(f"quantizer must be a Quantizer; got {type(quantizer).__name__}")
    if not isinstance(z, Tensor):
        raise InputError(f"z must be a tensor; got {type(z).__name__}")
    if z.ndim < 2:
        raise InputError(f"z must have shape [b, {quantizer.dim}, *space]; got {list(z.shape)}")
    result = quantizer(z.movedim(1, -1), mask=mask, generator=generator)
    return Quantized(result.z_q.movedim(-1, 1), result.indices, result.loss, result.losses, result.stats)


def channel_first_decode(
    quantizer: Quantizer,
    indices: Int[Tensor, "b *space Q"],
    *,
    mask: Bool[Tensor, "b *space"] | None = None,  # noqa: UP037, F821
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "b D *space"]:
    """Feature maps from the indices that `channel_first` or `encode` gave."""
    return quantizer.decode(indices, mask=mask, dtype=dtype).movedim(-1, 1)


def length_mask(lengths: Int[Tensor, " b"], longest: int | None = None) -> Bool[Tensor, "b longest"]:
    """The mask of padded sequences: True for the first `lengths[i]` places of row i.

    Raises:
        InputError: a negative length, or one over `longest`.
    """
    if not isinstance(lengths, Tensor) or lengths.is_floating_point():
        kind = lengths.dtype if isinstance(lengths, Tensor) else type(lengths).__name__
        raise InputError(f"lengths must be a tensor of integers; got {kind}")
    most = int(lengths.max()) if lengths.numel() else 0
    size = most if longest is None else longest
    if lengths.numel() and (int(lengths.min()) < 0 or most > size):
        raise InputError(f"lengths must be in 0 … {size}; got {int(lengths.min())} … {most}")
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(-1)
