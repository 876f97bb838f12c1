"""Files of sound as blocks of whole samples: WAV, FLAC, Ogg, MP3 through libsndfile, anything else through FFmpeg."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float64

from codebound import extras
from codebound.errors import InputError

SUFFIXES = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64", ".m4a", ".aac", ".webm",
    ".mka", ".wma", ".g722",
)  # fmt: skip
FULL_SCALE = 1 << 15  # samples are whole numbers in −2^15 … 2^15 − 1
HIGHEST_RATE, LOWEST_RATE = 192_000, 4_000
MOST_CHANNELS = 2
BLOCK = 1 << 16  # samples of each channel that are read at a time
PLAIN = (1, 3, 6, 7, 0xFFFE)  # formats of WAV in which each sample takes equally many bytes
UNKNOWN_SIZE = 0x7FFFF000  # from there on a size stands for a stream's, in writers of 31 or of 32 bits
_STARTS = (
    b"RIFF",
    b"RF64",
    b"RIFX",
    b"riff",
    b"fLaC",
    b"OggS",
    b"ID3",
    b"FORM",
    b".snd",
    b"caff",
    b"\x1aE\xdf\xa3",
)

_BRANDS = (b"M4A", b"M4B", b"mp4", b"iso")  # of MP4 files with sound; those of pictures are heic, avif, mif1


class Sound:
    """An open file of sound.

    Attributes:
        sample_rate: per second.
        channels: 1 or 2.
        clipped: samples beyond full scale so far, which became the loudest that there are.
        promised: samples of each channel that the file says it has; 0 if it says none.
    """

    def __init__(
        self, sample_rate: int, channels: int, blocks: Iterator[np.ndarray], promised: int = 0
    ) -> None:
        # What the format can hold is known before anything is decoded.
        if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
            raise InputError(
                f"the sound has {sample_rate:,} samples a second; {LOWEST_RATE:,} … {HIGHEST_RATE:,} are accepted"
            )
        if not 1 <= channels <= MOST_CHANNELS:
            raise InputError(f"the sound has {channels} channels; mono and stereo are accepted")
        self.sample_rate, self.channels, self.clipped = sample_rate, channels, 0
        self.promised, self._blocks = promised, blocks

    def blocks(self) -> Iterator[Float64[np.ndarray, "c n"]]:
        """Whole samples, a row for each channel, some at a time.

        Raises:
            InputError: a sample that is not finite, or a file that is damaged.
        """
        for block in self._blocks:
            whole, clipped = whole_samples(block.T)
            self.clipped += clipped
            yield whole


def whole_samples(samples: np.ndarray) -> tuple[Float64[np.ndarray, "*b"], int]:
    """Samples in [−1, 1) as whole ones, and how many were beyond.

    Raises:
        InputError: a sample is not finite.
    """
    scaled = np.rint(np.asarray(samples, dtype=np.float64) * FULL_SCALE)
    if not np.isfinite(scaled).all():
        raise InputError("the sound has samples that are not finite (NaN or infinite)")
    clipped = int(((scaled > FULL_SCALE) | (scaled < -FULL_SCALE)).sum())
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1), clipped


def is_sound(start: bytes) -> bool:
    """Whether a file that begins so is one of sound: its container may hold nothing but pictures all the same."""
    if start.startswith(b"RIFF"):
        return start[8:12] == b"WAVE"
    mpeg = len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0 and start[1] & 0x06 != 0
    aac = start[4:8] == b"ftyp" and start[8:11] in _BRANDS
    return start.startswith(_STARTS) or mpeg or aac


@contextmanager
def open_sound(source: Path | bytes) -> Iterator[Sound]:
    """A file of sound, by its path or its bytes, to be read once.

    Raises:
        InputError: it can't be read, or holds no sound; a rate, or a number of channels, that is not accepted.
    """
    soundfile = extras.imported("soundfile", "audio", "sound")
    stream: Any = io.BytesIO(source) if isinstance(source, bytes) else source
    if (
        not isinstance(source, bytes) and os.path.isfile(source) and os.path.getsize(source) == 0
    ) or source == b"":
        raise InputError("the file is empty")
    try:
        opened = soundfile.SoundFile(stream)
    except (OSError, RuntimeError, TypeError):
        with _through_ffmpeg(source) as sound:
            yield sound
        return
    with opened:

        def blocks() -> Iterator[np.ndarray]:
            try:
                yield from opened.blocks(blocksize=BLOCK, dtype="float64", always_2d=True)
            except (OSError, RuntimeError) as error:
                raise InputError(f"the sound is damaged: {error}") from None

        yield Sound(opened.samplerate, opened.channels, blocks(), promised_samples(source))


def promised_samples(source: Path | bytes) -> int:
    """How many samples of each channel a WAV file's header says it has; libsndfile counts those that are there.

    0 for other files, for samples that don't all have one size, and for a size that stands for a length not known.
    """
    if not isinstance(source, bytes) and not os.path.isfile(source):
        return 0
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
        head = stream.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return 0

        # Chunk by chunk to the samples; what a frame of them takes is said before.
        frame = 0
        while len(head := stream.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                return size // frame if frame and size < UNKNOWN_SIZE else 0
            body = stream.tell()
            if head[:4] == b"fmt ":
                form = stream.read(14)
                plain = int.from_bytes(form[:2], "little") in PLAIN
                frame = int.from_bytes(form[12:14], "little") if plain else 0
            stream.seek(body + size + size % 2)
    return 0


@contextmanager
def _through_ffmpeg(source: Path | bytes) -> Iterator[Sound]:
    """The first stream of sound in a container that libsndfile doesn't know."""
    av = extras.imported("av", "audio", "sound")
    stream: BinaryIO | str = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    form = "g722" if isinstance(source, Path) and source.suffix.lower() == ".g722" else None
    try:
        container = av.open(stream, format=form)
    except (OSError, ValueError) as error:
        raise InputError(f"the file is no sound that can be read: {_reason(error)}") from None
    with container:
        if not container.streams.audio:
            raise InputError("the file holds no sound")
        audio = container.streams.audio[0]
        channels, rate = audio.codec_context.channels, audio.codec_context.sample_rate
        layout = "mono" if channels == 1 else "stereo"
        convert = av.AudioResampler(
            format="dbl", layout=layout if channels <= MOST_CHANNELS else None, rate=rate
        )

        def blocks() -> Iterator[np.ndarray]:
            try:
                for frame in container.decode(audio):
                    for part in convert.resample(frame):
                        yield part.to_ndarray().reshape(-1, channels)
            except (OSError, ValueError) as error:
                raise InputError(f"the sound is damaged: {_reason(error)}") from None

        yield Sound(rate, channels, blocks())


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def read_sound(source: Path | bytes) -> tuple[Float64[np.ndarray, "c n"], int]:
    """All samples of a file, and how many there are a second."""
    with open_sound(source) as sound:
        blocks = list(sound.blocks())
        return np.concatenate(blocks, axis=1) if blocks else np.zeros((sound.channels, 0)), sound.sample_rate
