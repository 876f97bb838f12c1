"""Sets of sound to train on: crops of recordings, a batch a pure function of (seed, step)."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from codebound.data import speech
from codebound.data.batch_stream import BatchStream
from codebound.data.listing import files_below
from codebound.data.sound_pack import held_out_clips
from codebound.data.sound_reading import SUFFIXES, read_sound
from codebound.errors import InputError
from codebound.sound.resampling import LOUDEST, resample

KINDS = "speech, folder:PATH"
JUDGED = 10  # held-out recordings that are judged
JUDGED_SECONDS = (2.0, 8.0)  # how long those are
SPEEDS = ((5, 6), (8, 9), (1, 1), (1, 1), (9, 8), (6, 5))  # at which a crop is played
GAINS = (-10.0, 3.0)  # dB


class SoundSet:
    """Recordings at one rate, mono.

    Attributes:
        name, note: what it is, for a report.
        sample_rate: of all of them.
        train, held_out: recordings; a training never sees the second.
        digest: of all samples.
    """

    def __init__(
        self,
        name: str,
        note: str,
        sample_rate: int,
        train: Sequence[speech.Clip],
        held_out: Sequence[speech.Clip],
    ) -> None:
        self.name, self.note, self.sample_rate = name, note, sample_rate
        self.train = list(train)
        self.samples = np.concatenate([clip.samples for clip in self.train])
        self.held_out = list(held_out)
        hashed = hashlib.sha256(self.samples.tobytes())
        for clip in self.held_out:
            hashed.update(clip.samples.tobytes())
        self.digest = hashed.hexdigest()[:16]

    def batch(
        self, seed: int, step: int, size: int, length: int, vary: bool = True
    ) -> Float32[Tensor, "size n"]:
        """Crops as whole samples, `vary`: each at a speed and a gain of its own; equal arguments, equal crops."""
        rng = np.random.default_rng((seed, step))
        crops = np.empty((size, length), dtype=np.float32)
        for row in range(size):
            # A recording that is played faster must be longer.
            up, down = SPEEDS[rng.integers(len(SPEEDS))] if vary else (1, 1)
            needed = length * up // down + 64
            start = rng.integers(max(len(self.samples) - needed, 1))
            part = self.samples[start : start + needed].astype(np.float64)
            if up != down:
                part = resample(part, up * 1000, down * 1000)
            gain = 10 ** (rng.uniform(*GAINS) / 20) if vary else 1.0
            part = np.pad(part, (0, max(length - len(part), 0)))[:length]
            crops[row] = np.clip(np.rint(part * gain), -LOUDEST, LOUDEST - 1)
        return torch.from_numpy(crops)

    def batches(self, seed: int, first_step: int, size: int, length: int) -> BatchStream[Tensor]:
        """The batches of this step and all that follow."""
        return BatchStream(self.batch(seed, step, size, length) for step in itertools.count(first_step))

    def judged(self, count: int = JUDGED) -> list[speech.Clip]:
        """Some of the held-out recordings, of a few seconds each, spread over all of them."""
        low, high = (seconds * self.sample_rate for seconds in JUDGED_SECONDS)
        fitting = [clip for clip in self.held_out if low <= len(clip.samples) <= high]
        fitting = fitting or [clip._replace(samples=clip.samples[: int(high)]) for clip in self.held_out]
        count = min(count, len(fitting))
        return [fitting[at * len(fitting) // count] for at in range(count)]


def open_sounds(name: str, sample_rate: int) -> SoundSet:
    """The set of a name: `speech`, or `folder:PATH`.

    Raises:
        InputError: an unknown name, or what its reader refuses.
    """
    kind, _, rest = name.partition(":")
    if kind == "speech" and not rest:
        return _speech(sample_rate)
    if kind == "folder" and rest:
        return _folder(Path(rest), sample_rate)
    raise InputError(f"data={name!r} is unknown; accepted: {KINDS}")


def _speech(sample_rate: int) -> SoundSet:
    """The announcements, French held out, and those in the package left out."""
    if sample_rate != speech.RATE:
        raise InputError(
            f"data=speech has {speech.RATE} samples a second; sample_rate={sample_rate} can't be had of it"
        )
    left_out = held_out_clips()
    train = [
        clip
        for language in speech.PACKAGES
        if language != speech.HELD_OUT
        for clip in speech.clips(language)
        if clip.name not in left_out
    ]
    minutes = sum(len(clip.samples) for clip in train) / speech.RATE / 60
    note = f"{minutes:.0f} minutes of announcements by three voices (it, ru, en with es); French, a fourth, held out"
    return SoundSet("speech", note, sample_rate, train, speech.clips(speech.HELD_OUT))


def _folder(path: Path, sample_rate: int) -> SoundSet:
    """The files of sound below a folder, at this rate, channels mixed; a tenth of the files, at least one, is held out.

    Raises:
        InputError: no folder, fewer than two usable files in it, or one that can't be read, by its name.
    """
    listing = files_below(path, SUFFIXES, "file of sound")
    clips = []
    for name in listing.names:
        try:
            samples, rate = read_sound(path / name)
        except InputError as error:
            raise InputError(f"{path / name}: {error}") from None
        mixed = np.rint(samples.mean(0))
        whole = mixed if rate == sample_rate else resample(mixed, rate, sample_rate)
        if len(whole) >= sample_rate // 10:
            clips.append(speech.Clip(name, whole.astype(np.int16)))
    if len(clips) < 2:
        raise InputError(f"folder {path} holds {len(clips)} usable files of sound; at least 2 are needed")

    # Which are held out depends on their names alone.
    order = sorted(range(len(clips)), key=lambda at: hashlib.sha256(clips[at].name.encode()).digest())
    held_out = set(order[: max(len(clips) // 10, 1)])
    train = [clip for at, clip in enumerate(clips) if at not in held_out]
    note = f"{len(train)} recordings of {path.name}, {len(held_out)} others held out"
    return SoundSet("folder", note, sample_rate, train, [clips[at] for at in sorted(held_out)])
