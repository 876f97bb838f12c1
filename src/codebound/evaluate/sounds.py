"""What an audio tokenizer reaches on sound that it has not seen, at several of its bitrates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32

from codebound.data.speech import Clip
from codebound.metrics import sound as metrics
from codebound.sound.resampling import LOUDEST
from codebound.tokenizers.audio import AudioTokenizer


def bitrates(tokenizer: AudioTokenizer) -> list[int]:
    """Numbers of stages that are judged: a quarter, half and all of them."""
    stages = len(tokenizer.codebook_sizes)
    return sorted({max(stages // 4, 1), max(stages // 2, 1), stages})


def decoded(
    tokenizer: AudioTokenizer, clip: Clip, stages: int, beam: int = 4
) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """A recording and what becomes of it, in [−1, 1]."""
    reference = torch.from_numpy(clip.samples.astype(np.float32) / LOUDEST)[None]
    indices = tokenizer.encode(reference, stages=stages, beam=beam)
    return reference[0].numpy(), tokenizer.decode(indices, samples=reference.shape[1])[0].numpy()


def figures_of(
    reference: np.ndarray, made: np.ndarray, sample_rate: int, listeners: bool
) -> dict[str, float]:
    """How near one sound is to another.

    Args:
        listeners: PESQ and STOI, too, where they are installed and the rate is 16 kHz: they take a second.
    """
    a, b = torch.from_numpy(reference)[None], torch.from_numpy(made)[None]
    figures = {
        "si_sdr": float(metrics.si_sdr(a, b)),
        "mel": float(metrics.mel_distance(a, b, sample_rate)),
    }
    if listeners and sample_rate == metrics.PESQ_RATE:
        if metrics.installed("pesq"):
            figures["pesq"] = metrics.pesq(reference, made)
        if metrics.installed("pystoi"):
            figures["stoi"] = metrics.stoi(reference, made, sample_rate)
    return figures


def held_out_figures(
    tokenizer: AudioTokenizer, clips: Sequence[Clip], stages: int, listeners: bool = False
) -> dict[str, float]:
    """Means over recordings at one number of stages."""
    rows = []
    for clip in clips:
        reference, made = decoded(tokenizer, clip, stages)
        rows.append(figures_of(reference, made, tokenizer.sample_rate, listeners))
    return {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}
