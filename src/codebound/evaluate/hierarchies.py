"""What a hierarchical tokenizer reaches on pictures that it has not seen, and what each of its levels is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from codebound.metrics.usage import entropy_rate, usage, used
from codebound.tokenizers.hierarchy import HierarchicalTokenizer
from codebound.tokenizers.image import to_uint8

BATCH = 128  # pictures


@torch.no_grad()
def hierarchy_figures(tokenizer: HierarchicalTokenizer, pictures: UInt8[Tensor, "n c h w"]) -> dict[str, Any]:
    """PSNR of the 8-bit reproductions, the rate, and of each level, the coarsest first, its use and worth.

    `worth_db`: how much PSNR is lost when the level's grids are exchanged among the pictures: a level that nobody
    listens to is worth nothing. `alone_db`: PSNR of pictures decoded from the levels up to this one, the finer ones
    exchanged.
    """
    # Indices of all pictures, their errors, and those with the grids of some levels from the next picture.
    device = next(tokenizer.parameters()).device
    parts = [tokenizer.encode(batch.to(device)) for batch in pictures.split(BATCH)]
    indices = [torch.cat(grids) for grids in zip(*parts, strict=True)]
    levels = range(len(indices))
    psnr = _psnr(tokenizer, indices, pictures)
    exchanged = [_psnr(tokenizer, _with_others(indices, [level]), pictures) for level in levels]
    alone = [_psnr(tokenizer, _with_others(indices, levels[level + 1 :]), pictures) for level in levels[:-1]]

    # Use and rate of each level; a level has one codebook, or several one after the other.
    pixels = math.prod(pictures.shape[2:])
    figures: dict[str, Any] = {"psnr": psnr, "levels": []}
    for level, (grid, sizes) in enumerate(zip(indices, tokenizer.codebook_sizes, strict=True)):
        counts = [grid[..., q].flatten().bincount(minlength=size) for q, size in enumerate(sizes)]
        tokens = grid.shape[1] * grid.shape[2]
        figures["levels"].append(
            {
                "grid": [grid.shape[1], grid.shape[2]],
                "codebook_sizes": list(sizes),
                "usage": float(torch.stack([used(c) for c in counts]).mean()),
                "perplexity": float(torch.stack([usage(c).perplexity for c in counts]).mean()),
                "bpp_nominal": sum(math.log2(size) for size in sizes) * tokens / pixels,
                "bpp_entropy": sum(entropy_rate(c) for c in counts) * tokens / pixels,
                "worth_db": psnr - exchanged[level],
                "alone_db": alone[level] if level < len(alone) else psnr,
            }
        )
    for name in ("bpp_nominal", "bpp_entropy"):
        figures[name] = sum(level[name] for level in figures["levels"])
    figures["usage"] = sum(level["usage"] for level in figures["levels"]) / len(indices)
    return figures


def _with_others(indices: Sequence[Tensor], levels: Sequence[int]) -> list[Tensor]:
    """These levels' grids of the next picture."""
    return [grid.roll(1, 0) if level in levels else grid for level, grid in enumerate(indices)]


def _psnr(
    tokenizer: HierarchicalTokenizer, indices: Sequence[Tensor], pictures: UInt8[Tensor, "n c h w"]
) -> float:
    """Of the mean squared error over all pictures, in dB."""
    total, size = 0.0, (pictures.shape[2], pictures.shape[3])
    for start in range(0, len(pictures), BATCH):
        part = slice(start, start + BATCH)
        again = to_uint8(tokenizer.decode([grid[part] for grid in indices], size=size)).cpu()
        total += float((again.double() - pictures[part].double()).square().sum())
    return 10 * math.log10(255**2 / max(total / pictures.numel(), 1e-10))
