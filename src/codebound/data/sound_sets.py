"""Sets of sound to train on: crops of recordings, a batch a pure function of (seed, step)."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from codebound.data import debian, hub, speech
from codebound.data.batch_stream import BatchStream
from codebound.data.listing import files_below
from codebound.data.sound_pack import held_out_clips
from codebound.data.sound_reading import SUFFIXES, read_sound
from codebound.errors import InputError
from codebound.sound.resampling import LOUDEST, resample

KINDS = "speech, sonic-pi, folder:PATH, hf:NAME"
JUDGED = 10  # held-out recordings that are judged
JUDGED_SECONDS = (2.0, 8.0)  # how long those are
SPEEDS = ((5, 6), (8, 9), (1, 1), (1, 1), (9, 8), (6, 5))  # at which a crop is played
GAINS = (-10.0, 3.0)  # dB
HOURS = 10.0  # of a set of the hub that are trained on, at most; a tenth of it is held out
SONIC_PI = "sonic-pi-samples_3.2.2~repack-8_all.deb"
SONIC_PI_SHA256 = "25f2312d2fae005e6ad0f4726b8ed3084e776006a5a132083506e960224ac79d"


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
    """The set of a name: `speech`, `sonic-pi`, `folder:PATH`, or `hf:NAME`.

    Raises:
        InputError: an unknown name, or what its reader refuses.
    """
    kind, _, rest = name.partition(":")
    if kind == "speech" and not rest:
        return _speech(sample_rate)
    if kind == "sonic-pi" and not rest:
        return _sonic_pi(sample_rate)
    if kind == "folder" and rest:
        return _folder(Path(rest), sample_rate)
    if kind == "hf" and rest:
        return _hugging_face(rest, sample_rate)
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


def _sonic_pi(sample_rate: int) -> SoundSet:
    """The samples of Sonic Pi, as in a folder: loops, drums, instruments at 44.1 kHz, 5 minutes in all."""
    package = debian.package(SONIC_PI, SONIC_PI_SHA256, debian.cache_folder() / "sonic-pi", "sonic-pi")
    clips = []
    for path, data in debian.contents(package, ".flac"):
        name = PurePosixPath(path).name
        clips += _clip(name, data, sample_rate, f"data=sonic-pi: {name}")
    return _divided("sonic-pi", "samples of Sonic Pi (CC0)", clips, sample_rate)


def _folder(path: Path, sample_rate: int) -> SoundSet:
    """The files of sound below a folder, at this rate, channels mixed; a tenth of the files, at least one, is held out.

    Raises:
        InputError: no folder, fewer than two usable files in it, or one that can't be read, by its name.
    """
    listing = files_below(path, SUFFIXES, "file of sound")
    clips = []
    for name in listing.names:
        clips += _clip(name, path / name, sample_rate, str(path / name))
    return _divided("folder", f"recordings of {path.name}", clips, sample_rate)


def _hugging_face(name: str, sample_rate: int) -> SoundSet:
    """A data set of the Hugging Face hub, or a local one that `datasets` can read, as `NAME` or `NAME:SPLIT`.

    Held out is the split `test` or `validation`, or else a tenth. The first hours alone are taken of a large set: it
    lies in memory.

    Raises:
        InputError: `datasets` is not installed, no such set, no column of sound, or fewer than two recordings.
    """
    datasets, path, train, test = hub.loaded(name)
    if test is None:
        parts = hub.divided_rows(datasets, len(train))
        train, test = (train.select(rows) for rows in parts)
    found, cut = [], False
    for part, hours in ((train, HOURS), (test, HOURS / 10)):
        clips, more = _rows(datasets, name, part, sample_rate, hours)
        found.append(clips)
        cut |= more
    if not all(found):
        raise InputError(
            f"data=hf:{name} has no recordings of a tenth of a second to train on and to judge by"
        )
    note = f"{len(found[0])} recordings of {path} of the Hugging Face hub, {len(found[1])} others held out"
    return SoundSet(f"hf:{path}", note + "; the first hours" * cut, sample_rate, *found)


def _rows(
    datasets: Any, name: str, table: Any, sample_rate: int, hours: float
) -> tuple[list[speech.Clip], bool]:
    """The recordings of a split as they are stored, decoded here, up to so many hours; and whether there are more."""
    column = next((c for c, f in table.features.items() if type(f).__name__ == "Audio"), None)
    if column is None:
        raise InputError(f"data=hf:{name}: no column of sound among {', '.join(table.features)}")
    clips, samples = [], 0
    for number, row in enumerate(table.cast_column(column, datasets.Audio(decode=False))):
        if samples >= hours * 3600 * sample_rate:
            return clips, True
        stored = row[column]
        source = stored["bytes"] if stored["bytes"] is not None else Path(stored["path"])
        clips += _clip(f"{number:08d}", source, sample_rate, f"data=hf:{name}: row {number}")
        samples += sum(len(clip.samples) for clip in clips[-1:])
    return clips, False


def _clip(name: str, source: Path | bytes, sample_rate: int, said: str) -> list[speech.Clip]:
    """A file at this rate, channels mixed; none if it is shorter than a tenth of a second.

    Raises:
        InputError: it can't be read; `said` says which one it is.
    """
    try:
        samples, rate = read_sound(source)
    except InputError as error:
        raise InputError(f"{said}: {error}") from None
    mixed = np.rint(samples.mean(0))
    whole = mixed if rate == sample_rate else resample(mixed, rate, sample_rate)
    return [speech.Clip(name, whole.astype(np.int16))] if len(whole) >= sample_rate // 10 else []


def _divided(name: str, what: str, clips: Sequence[speech.Clip], sample_rate: int) -> SoundSet:
    """A set of which a tenth, at least one recording, is held out: which ones depends on their names alone.

    Raises:
        InputError: fewer than two recordings.
    """
    if len(clips) < 2:
        raise InputError(f"{what}: {len(clips)} usable files of sound; at least 2 are needed")
    order = sorted(range(len(clips)), key=lambda at: hashlib.sha256(clips[at].name.encode()).digest())
    held_out = set(order[: max(len(clips) // 10, 1)])
    train = [clip for at, clip in enumerate(clips) if at not in held_out]
    note = f"{len(train)} {what}, {len(held_out)} others held out"
    return SoundSet(name, note, sample_rate, train, [clips[at] for at in sorted(held_out)])
