"""The prior of a run's audio tokenizer: fitted on its training sound, judged on what was held out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from codebound.codec.sound_model import SoundModel
from codebound.codec.sounds import BEAM, segment_frames
from codebound.data.sound_sets import SoundSet, open_sounds
from codebound.files import write_text
from codebound.priors.frame_fitting import FrameFitSettings, fit_frame_prior, stage_bits
from codebound.runs.audio import load_tokenizer, sound_of
from codebound.tokenizers.audio import AudioTokenizer
from codebound.tokenizers.pretrained import CARD

SEGMENTS = 1500  # that a prior is fitted to: 50 minutes
JUDGED = 100  # held-out segments
FIT_STEP = 2**41  # where the crops for a prior begin: steps that no training reaches
HEADING = "\n## Bits\n"


def fit(
    folder: Path, settings: FrameFitSettings, progress: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    """Fit the prior into the run's `model` folder and say in its card what it does for held-out sound.

    Returns:
        Per stage, bits per index: nominal, under the training's frequencies, and with the prior; at last their sums in
        kbit/s.

    Raises:
        InputError: as `runs.audio.load_tokenizer`; the run's sound is no longer there.
    """
    tokenizer = load_tokenizer(folder)
    code = tokenizer.frame_code
    sounds = open_sounds(sound_of(folder), tokenizer.sample_rate)
    frames = segment_frames(SoundModel(tokenizer))[0]

    # Crops as a training sees them, then held-out recordings one after the other.
    seen = np.stack(
        [_segment(sounds, tokenizer, frames, settings.seed, number) for number in range(SEGMENTS)]
    )
    held_out = held_out_segments(sounds, tokenizer, frames)
    prior = fit_frame_prior(seen, code, settings, progress)
    prior.save(folder / "model")

    # What it saves.
    size = code.codebooks.shape[1]
    nominal = np.full(code.stages, np.log2(size))
    columns = {
        "nominal": nominal,
        "frequencies": _order_0(seen, held_out, size),
        "prior": stage_bits(prior, held_out, code),
    }
    rows: list[dict[str, Any]] = [
        {"stage": stage, **{name: round(float(bits[stage]), 3) for name, bits in columns.items()}}
        for stage in range(code.stages)
    ]
    sums = {name: float(bits.sum()) * tokenizer.frame_rate / 1000 for name, bits in columns.items()}
    rows.append({"stage": "kbit/s", **{name: round(value, 3) for name, value in sums.items()}})
    _say(folder / "model" / CARD, sums)
    return rows


def held_out_segments(sounds: SoundSet, tokenizer: AudioTokenizer, frames: int) -> Int64[np.ndarray, "n t q"]:
    """Segments of held-out recordings, joined to one sound: a segment may hold the end of one and the beginning of the
    next, where each of a file begins anew."""
    samples = np.concatenate([clip.samples for clip in sounds.held_out])[: JUDGED * frames * tokenizer.hop]
    indices = _indices(samples.astype(np.float64), tokenizer)
    count = max(len(indices) // frames, 1)
    return indices[: count * frames].reshape(count, -1, indices.shape[1])


def held_out_recordings(
    sounds: SoundSet, tokenizer: AudioTokenizer, frames: int
) -> list[Int64[np.ndarray, "_ q"]]:
    """Held-out recordings, each by itself; so many frames in all, the last one cut."""
    found: list[np.ndarray] = []
    for clip in sounds.held_out:
        left = frames - sum(map(len, found))
        if left > 0:
            found.append(_indices(clip.samples.astype(np.float64), tokenizer)[:left])
    return found


def _segment(
    sounds: SoundSet, tokenizer: AudioTokenizer, frames: int, seed: int, number: int
) -> Int64[np.ndarray, "t q"]:
    """The indices of one crop, at a speed and a gain of its own."""
    crop = sounds.batch(seed, FIT_STEP + number, 1, tokenizer.samples_of(frames))[0].double().numpy()
    return _indices(crop, tokenizer)


def _indices(samples: Float64[np.ndarray, " n"], tokenizer: AudioTokenizer) -> Int64[np.ndarray, "t q"]:
    encoder = tokenizer.encoder(beam=BEAM)
    return np.concatenate([encoder.push_whole(samples), encoder.flush()])


def _order_0(
    seen: Int64[np.ndarray, "n t q"], held_out: Int64[np.ndarray, "m t q"], size: int
) -> Float64[np.ndarray, " q"]:
    """−log2 of how often each index was in training, one more than that, over held-out ones."""
    bits = []
    for stage in range(seen.shape[2]):
        counts = 1.0 + np.bincount(seen[:, :, stage].ravel(), minlength=size)
        bits.append(-np.log2(counts / counts.sum())[held_out[:, :, stage]].mean())
    return np.array(bits)


def _say(path: Path, sums: dict[str, float]) -> None:
    """The figures at the end of the model's card, in place of those of an earlier fit."""
    card = path.read_text(encoding="utf-8").partition(HEADING)[0]
    saved = 1 - sums["prior"] / sums["nominal"]
    text = (
        f"With all stages {sums['nominal']:.2f} kbit/s nominal, {sums['frequencies']:.2f} under the frequencies of "
        f"training, {sums['prior']:.2f} with the prior: {saved:.1%} less, on held-out sound."
    )
    write_text(path, f"{card}{HEADING}\n{text}\n")
