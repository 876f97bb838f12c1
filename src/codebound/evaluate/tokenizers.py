"""What a tokenizer reaches on pictures that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torchmetrics.image import PeakSignalNoiseRatio

from codebound.data.image_sets import ImageSet, LabelledPictures
from codebound.errors import InputError
from codebound.metrics import CodeUsage, EffnetDistance, Gap, likeness
from codebound.metrics.likeness import SMALLEST_MS_SSIM, WINDOW
from codebound.metrics.probe import linear_probe
from codebound.metrics.usage import entropy_rate
from codebound.quantize.base import Quantizer
from codebound.quantize.scalar import ScalarQuantizer
from codebound.quantize.trellis import Trellis
from codebound.quantize.trellis_aim import entropy_bits
from codebound.quantize.trellis_search import HALF
from codebound.tokenizers.image import ImageTokenizer, to_uint8

BATCH = 128
PROBE_PICTURES = 10_000
QUICK_SAMPLES, SAMPLES = 2000, 4000  # latents behind the entropy estimate of the gap

Figures = dict[str, float | None]


@torch.no_grad()
def held_out_figures(
    tokenizer: ImageTokenizer, pictures: UInt8[Tensor, "n c h w"], samples: int = SAMPLES
) -> Figures:
    """PSNR of the 8-bit reproductions, the use of the codes, the rate, and the gap to the limit.

    `psnr` is that of the mean squared error over all pictures. `bpp_nominal` and `bpp_entropy`: log₂ K and the
    index entropy (Miller–Madow), per pixel. `gap_db` as in `metrics.Gap` at the nominal rate; None for codes whose
    reproduction is not near the latent (FSQ, LFQ, BSQ bend it), and where the latents have no density.

    The levels of a `Trellis` are no table: they have no nominal rate and no usage (None), and the gap is at their
    entropy.
    """
    # Measures that add up over batches, on the model's device; one process judges, so they are not joined.
    quantizer = tokenizer.quantizer
    sizes = quantizer.codebook_sizes
    device = next(tokenizer.parameters()).device
    usage = _Levels() if _has_levels(quantizer) else _Codes(sizes, device)
    gap = Gap(quantizer.dim, sizes, samples=samples, sync_on_compute=False).to(device)
    psnr = PeakSignalNoiseRatio(data_range=1.0, sync_on_compute=False).to(device)

    # One pass: latents, their indices, what those decode to, and the pixels that a user would get.
    for batch in pictures.split(BATCH):
        z = tokenizer.latents(batch.to(device))
        indices = quantizer.encode(z)
        usage.update(indices)
        gap.update(z, quantizer.decode(indices.clamp_min(0)).to(z.dtype), mask=(indices >= 0).all(-1))
        psnr.update(reproduced(tokenizer, indices, batch), batch.to(device) / 255)

    # Bits per pixel, from bits per token.
    figures, nominal, entropy = usage.compute()
    tokens_per_pixel = (figures["tokens"] or 0) / (pictures.shape[0] * math.prod(pictures.shape[2:]))
    if nominal is None:
        gap.rate = entropy
    return {
        "psnr": float(psnr.compute()),
        **figures,
        "bpp_nominal": None if nominal is None else nominal * tokens_per_pixel,
        "bpp_entropy": entropy * tokens_per_pixel,
        **_gap(tokenizer, gap),
    }


class _Codes:
    """The use of codebooks, and bits per token: nominal ones and those of the entropy."""

    def __init__(self, sizes: tuple[int, ...], device: torch.device) -> None:
        self.sizes, self.usage = sizes, CodeUsage(sizes, sync_on_compute=False).to(device)

    def update(self, indices: Int64[Tensor, "*b Q"]) -> None:
        self.usage.update(indices)

    def compute(self) -> tuple[Figures, float | None, float]:
        figures: Figures = {
            name: float(value.double().mean()) for name, value in self.usage.compute().items()
        }
        entropy = sum(entropy_rate(part) for part in self.usage.counts.split(self.sizes))
        return figures, sum(math.log2(size) for size in self.sizes), entropy


class _Levels:
    """The same of a trellis code's levels, each component's given their parity; tokens without one are left out."""

    def __init__(self) -> None:
        self.rows: list[Int64[Tensor, "n D"]] = []

    def update(self, indices: Int64[Tensor, "*b D"]) -> None:
        rows = indices.flatten(0, -2).cpu()
        self.rows.append(rows[(rows >= 0).all(-1)])

    def compute(self) -> tuple[Figures, float | None, float]:
        levels = torch.cat(self.rows) - HALF
        entropy = entropy_bits(levels)
        nothing = dict.fromkeys(("usage", "perplexity", "dead"))
        per_component = entropy / max(levels.shape[1], 1)
        return {**nothing, "entropy_bits": per_component, "tokens": float(len(levels))}, None, entropy


def _has_levels(quantizer: Quantizer) -> bool:
    """Whether its indices are a trellis code's levels."""
    return any(isinstance(module, Trellis) for module in quantizer.modules())


@torch.no_grad()
def similarity(tokenizer: ImageTokenizer, batches: Sequence[UInt8[Tensor, "b c _ _"]]) -> Figures:
    """PSNR, SSIM and MS-SSIM (Wang et al. 2003, 2004) of single pictures: the mean over the pictures of each.

    As `metrics.likeness` defines them. None where a picture is too small: 11 pixels for SSIM, 176 for MS-SSIM.
    """
    # Each measure needs pictures of some size.
    device = next(tokenizer.parameters()).device
    least = min(min(batch.shape[2:]) for batch in batches)
    measures = {
        "psnr": (likeness.psnr, 1),
        "ssim": (likeness.ssim, WINDOW),
        "ms_ssim": (likeness.ms_ssim, SMALLEST_MS_SSIM),
    }

    # Picture by picture, then the mean: a picture counts as one, whatever its size.
    values: dict[str, list[Tensor]] = {name: [] for name in measures}
    for batch in batches:
        again = reproduced(tokenizer, tokenizer.encode(batch.to(device)), batch)
        pictures = batch.to(device) / 255
        for name, (measure, side) in measures.items():
            if least >= side:
                values[name].append(measure(again, pictures))
    return {name: float(torch.cat(parts).mean()) if parts else None for name, parts in values.items()}


@torch.no_grad()
def probe_accuracy(tokenizer: ImageTokenizer, images: ImageSet) -> float | None:
    """Test accuracy of a linear probe on the frozen codes' codewords; None where the pictures have no classes."""
    if images.train_labelled is None or images.test_labelled is None:
        return None
    train, test = (_features(tokenizer, part) for part in (images.train_labelled, images.test_labelled))
    return linear_probe(*train, *test)


@torch.no_grad()
def effnet_distance(tokenizer: ImageTokenizer, batches: Sequence[UInt8[Tensor, "b c _ _"]]) -> float:
    """`metrics.EffnetDistance`, mean over the pictures; needs the extra `perceptual`."""
    device = next(tokenizer.parameters()).device
    distance, values = EffnetDistance().to(device), []
    for batch in batches:
        again = reproduced(tokenizer, tokenizer.encode(batch.to(device)), batch)
        values.append(distance(again, batch.to(device) / 255))
    return float(torch.cat(values).mean())


def final_figures(tokenizer: ImageTokenizer, images: ImageSet, perceptual: bool = False) -> dict[str, Any]:
    """All figures of this file, by what they were measured on: `held_out`, `whole`, `probe_accuracy`."""
    # What can be judged: the held-out pictures or crops, and whole photographs where there are some.
    parts = {"held_out": images.held_out.split(BATCH)}
    if images.whole:
        parts["whole"] = tuple(picture.unsqueeze(0) for picture in images.whole)

    # Similarity for each of them; rate, use of the codes and the gap to the limit for the first.
    figures: dict[str, Any] = {name: similarity(tokenizer, batches) for name, batches in parts.items()}
    figures["held_out"] |= held_out_figures(tokenizer, images.held_out)  # its PSNR is of all pixels together

    # What needs an extra package, or classes.
    if perceptual:
        for name, batches in parts.items():
            figures[name]["effnet_distance"] = effnet_distance(tokenizer, batches)
    accuracy = probe_accuracy(tokenizer, images)
    return figures | ({} if accuracy is None else {"probe_accuracy": accuracy})


def reproduced(tokenizer: ImageTokenizer, indices: Tensor, pictures: Tensor) -> Tensor:
    """What a user gets: 8-bit pictures, here as multiples of 1/255."""
    return to_uint8(tokenizer.decode(indices, size=(pictures.shape[2], pictures.shape[3]))) / 255


@torch.no_grad()
def codewords(tokenizer: ImageTokenizer, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
    """The codewords of each picture's indices, in a row."""
    device = next(tokenizer.parameters()).device
    codes = [
        tokenizer.quantizer.decode(tokenizer.encode(batch.to(device))).flatten(1)
        for batch in images.split(BATCH)
    ]
    return torch.cat(codes).float()


def _features(tokenizer: ImageTokenizer, part: LabelledPictures) -> tuple[Tensor, Tensor]:
    """Features and classes for a probe."""
    images, labels = (tensor[:PROBE_PICTURES] for tensor in part)
    features = codewords(tokenizer, images)
    return features, labels.to(features.device)


def _gap(tokenizer: ImageTokenizer, gap: Gap) -> Figures:
    """Distances to the limit with their interval; None for codes that have none, or where it is not known."""
    names = ("gap_db", "gap_db_low", "gap_db_high", "gaussian_reference_db")
    if any(isinstance(module, ScalarQuantizer) for module in tokenizer.quantizer.modules()):
        return dict.fromkeys(names)
    try:
        figures = gap.compute()
    except InputError:  # too few latents, or none that vary in all directions: a limit is not known
        return dict.fromkeys(names)
    return {name: float(figures[name]) for name in names}


@torch.no_grad()
def code_counts(tokenizer: ImageTokenizer, pictures: UInt8[Tensor, "n c h w"]) -> list[list[int]]:
    """How often each codeword of each codebook occurs in the codes of pictures; nothing of a `Trellis`."""
    if _has_levels(tokenizer.quantizer):
        return []
    sizes = tokenizer.quantizer.codebook_sizes
    usage = CodeUsage(sizes, sync_on_compute=False)
    device = next(tokenizer.parameters()).device
    for batch in pictures.split(BATCH):
        usage.update(tokenizer.encode(batch.to(device)).cpu())
    return [part.tolist() for part in usage.counts.split(sizes)]
