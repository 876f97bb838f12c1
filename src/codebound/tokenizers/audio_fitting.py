"""Transform and codebooks of an audio tokenizer, fitted to frames of sound and rounded to whole numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float64, Int8
from pydantic import Field

from codebound import config
from codebound.errors import InputError
from codebound.quantize.init import KMeans
from codebound.sound import mdct
from codebound.sound.frames import AXES_UNIT, COMPANDED, LATENT, MOST_DIM, POWER, FrameCode, compand
from codebound.tokenizers.audio_config import MOST_CODEWORDS, MOST_STAGES

LOUD = 6.0  # companded coefficients reach full scale at so many standard deviations
CODEWORD = 127  # the largest part of a codeword, in steps
PARTS_TO_START = 2  # frames for each codeword, at least


class FrameCodeSettings(config.Settings):
    """Sizes of transform and codebooks.

    Attributes:
        hop: samples between frames: of a transform half of what a frame covers, an even number.
        dim: principal axes that are kept.
        stages, codebook_size: of the residual codebooks.
        whitening: power of a coefficient's standard deviation by which it is divided.
        iterations: of k-means, for each stage.
    """

    hop: int = Field(default=320, ge=2, le=mdct.LONGEST)
    dim: int = Field(default=64, ge=1, le=MOST_DIM)
    stages: int = Field(default=16, ge=1, le=MOST_STAGES)
    codebook_size: int = Field(default=1024, ge=2, le=MOST_CODEWORDS)
    whitening: float = Field(default=0.6, ge=0, le=1)
    iterations: int = Field(default=8, ge=1)


def fit_frame_code(
    frames: Float64[np.ndarray, "n w"],
    settings: FrameCodeSettings,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> FrameCode:
    """Gains, principal axes and codebooks for frames like these.

    Args:
        frames: overlapping frames of 2·hop whole samples in −2^15 … 2^15 − 1.
        progress: called with stages done and stages in all.

    Raises:
        InputError: fewer frames than 2 for each codeword, or an odd hop.
    """
    if settings.hop % 2:
        raise InputError(f"hop is {settings.hop}; a transform takes an even number")
    if len(frames) < PARTS_TO_START * settings.codebook_size:
        raise InputError(
            f"{len(frames):,} frames of sound are too few for codebooks of {settings.codebook_size}; at least "
            f"{PARTS_TO_START * settings.codebook_size:,} are accepted"
        )

    # Coefficients of all frequencies at nearer sizes; the largest usual one is companded to full scale.
    x = mdct.forward(frames, settings.hop)
    sigma = np.sqrt(np.square(x).mean(0)) + 1.0
    gain = sigma**-settings.whitening
    loudest = LOUD * (sigma * gain).max()
    gain = (gain * COMPANDED ** (1 / POWER) / loudest).astype(np.float32)
    y = compand(x * gain)

    # Principal axes of what is companded, which has no mean: signs of coefficients are fair.
    _, axes = np.linalg.eigh(y.T @ y / len(y))
    axes = np.rint(axes[:, ::-1][:, : settings.dim] * AXES_UNIT).astype(np.int16)
    z = np.clip(np.rint(y @ axes.astype(np.float64) / AXES_UNIT), -LATENT, LATENT).astype(np.float32)

    # Stage by stage: k-means of what is left, rounded, and what the rounded one leaves.
    books, steps = [], []
    for stage in range(settings.stages):
        progress(stage, settings.stages)
        generator = torch.Generator().manual_seed(seed + stage)
        found = KMeans(settings.iterations, "sample")(torch.from_numpy(z), settings.codebook_size, generator)
        book, step = rounded(by_likeness(found.double().numpy()))
        books.append(book)
        steps.append(step)
        one = FrameCode(settings.hop, gain, axes, book[None], np.array([step], dtype=np.int32))
        z = z - one.decode(one.search(z)).astype(np.float32)
    progress(settings.stages, settings.stages)
    return FrameCode(settings.hop, gain, axes, np.stack(books), np.array(steps, dtype=np.int32))


def rounded(words: Float64[np.ndarray, "k d"]) -> tuple[Int8[np.ndarray, "k d"], int]:
    """Codewords as whole multiples, up to 127, of a step."""
    step = max(int(np.ceil(np.abs(words).max() / CODEWORD)), 1)
    return np.clip(np.rint(words / step), -CODEWORD, CODEWORD).astype(np.int8), step


def by_likeness(words: Float64[np.ndarray, "k d"]) -> Float64[np.ndarray, "k d"]:
    """Codewords in an order in which neighbours are alike: halved again and again along their longest axis."""
    if len(words) <= 2:
        return words
    centred = words - words.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    order = np.argsort(centred @ axes[0], kind="stable")
    half = 1 << (len(words) - 1).bit_length() - 1
    return np.concatenate([by_likeness(words[order[:half]]), by_likeness(words[order[half:]])])
