"""16-bit samples to a file of sound, while they come."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int16

from codebound import extras
from codebound.errors import InputError

LARGEST_WAV = (1 << 32) - 64  # bytes of samples: sizes have 32 bits
_FORMATS = {".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS"), ".oga": ("OGG", "VORBIS"), ".mp3": ("MP3", None),
            ".aiff": ("AIFF", "PCM_16"), ".w64": ("W64", "PCM_16")}  # fmt: skip

Blocks = Iterator[Int16[np.ndarray, "n c"]]


class SoundFormat(NamedTuple):
    """How a suffix is written: its name for a table, and what writes blocks to an open file, or a pipe."""

    said: str
    write: Callable[[Any, Blocks, int, int, int], None]


def sound_format(path: Path) -> SoundFormat:
    """The format of a file's suffix; WAV where there is none, or a pipe.

    Raises:
        InputError: a suffix that is not written.
    """
    suffix = path.suffix.lower()
    if suffix in ("", ".wav"):
        return SoundFormat("WAV, 16 bits", write_wav)
    if suffix not in _FORMATS:
        raise InputError(f"--out {path}: sound is written as .wav, {', '.join(_FORMATS)}")
    form, subtype = _FORMATS[suffix]
    soundfile = extras.imported("soundfile", "audio", f"--out {path}")

    def write(stream: Any, blocks: Blocks, samples: int, rate: int, channels: int) -> None:
        try:
            opened = soundfile.SoundFile(stream, "w", rate, channels, subtype, format=form)
        except (RuntimeError, ValueError) as error:
            # Its message names a file that is not the user's.
            reason = getattr(error, "error_string", error)
            raise InputError(f"--out {path}: {rate} samples a second can't be written so: {reason}") from None
        with opened:
            for block in blocks:
                opened.write(block)

    return SoundFormat(form, write)


def write_wav(stream: Any, blocks: Blocks, samples: int, rate: int, channels: int) -> None:
    """A WAV file of 16-bit PCM; nothing is sought, so that a pipe takes it.

    Raises:
        InputError: more than 4 GiB.
    """
    size = 2 * channels * samples
    if size > LARGEST_WAV:
        raise InputError("the sound is larger than a .wav can be (4 GiB); give --out FILE.flac")
    form = struct.pack("<HHIIHH", 1, channels, rate, 2 * channels * rate, 2 * channels, 16)
    stream.write(b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<I", len(form)) + form)
    stream.write(b"data" + struct.pack("<I", size))
    for block in blocks:
        stream.write(block.astype("<i2").tobytes())
