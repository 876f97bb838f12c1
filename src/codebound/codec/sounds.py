"""Sound to files and back, while it comes: in bounded memory, in segments that can be decoded each by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int16, Int64

from codebound import arguments
from codebound.codec.sound_model import SoundModel, default_sound_model
from codebound.codec.sound_segments import decode_segment, encode_segment
from codebound.codec.sources import Data, read_bytes
from codebound.coding import sound_container
from codebound.coding.errors import CodecError, DamagedFile, WrongModel
from codebound.coding.sound_container import SoundFile, SoundHeader, pack_end, pack_segment
from codebound.data.sound_reading import FULL_SCALE, open_sound
from codebound.priors import frame_search
from codebound.sound.resampling import Resampler, resampled_length
from codebound.tokenizers.audio_streams import MOST_BEAM, AudioDecoder, LatentStream

SEGMENT = 2.0  # seconds, about
BEAM = 4  # partial sums that an encoder keeps
WEIGHED_BEAM = 8  # the same where bits are weighed
MOST_TRADE = 100.0  # beyond it bits are all that counts
TRADE = 0.0  # the default: the search of the least error, about three times quicker


class SoundWriter:
    """Samples that come in pieces to the bytes of a file, the same bytes however they come.

    Args:
        model: default: the one in the package.
        bitrate: kbit/s of each channel before coding: how many stages are written; all if not given.
        segment: seconds of a segment, about, 2 if not given: what damage destroys and what a part's decoding begins
            with. Each costs 12 bytes: longer ones are for low rates.
        beam: partial sums that the search for indices keeps; 4 if not given, 8 where bits are weighed.
        trade: how much bits count against errors where indices are chosen, up to 100: 0 for the least error, 1 to weigh
            a bit at what a frame buys with it (`frame_search.slopes`). A model without a prior has the least error.

    Raises:
        CodecError: a rate, a number of channels, a bitrate or a segment that is not accepted.
        InputError: a beam or a trade that is not.
    """

    def __init__(
        self,
        sample_rate: int,
        channels: int,
        *,
        model: SoundModel | None = None,
        bitrate: float | None = None,
        beam: int | None = None,
        segment: float | None = None,
        trade: float | None = None,
    ) -> None:
        if not 1 <= channels <= sound_container.CHANNELS:
            raise CodecError(f"channels is {channels}; 1 … {sound_container.CHANNELS} are accepted")
        self._model = default_sound_model() if model is None else model
        tokenizer, self._stages = self._model.tokenizer, self._model.stages(bitrate)
        size = tokenizer.codebook_sizes[0]
        self._header = SoundHeader(self._model.digest(), sample_rate, channels, self._stages, size)
        self._streams = [LatentStream(tokenizer, sample_rate) for _ in range(channels)]
        self._held = np.zeros((channels, 0, tokenizer.frame_code.dim), dtype=np.float32)
        self._trade = TRADE if trade is None else arguments.number("trade", trade, least=0, most=MOST_TRADE)
        usual = WEIGHED_BEAM if self._trade and self._model.prior is not None else BEAM
        self._beam = usual if beam is None else arguments.whole("beam", beam, most=MOST_BEAM)
        self._length, self._longest = segment_frames(self._model, segment)
        self._segments = 0

    def push(self, samples: Float64[np.ndarray, "c n"]) -> bytes:
        """The bytes that more whole samples in −2^15 … 2^15 − 1 complete."""
        latents = [stream.push(row) for stream, row in zip(self._streams, samples, strict=True)]
        return self._written(np.stack(latents))

    def finish(self) -> bytes:
        """The rest of the file.

        Raises:
            CodecError: no sample was pushed.
        """
        samples = self._streams[0].samples
        if not samples:
            raise CodecError("the sound has no samples; at least one is needed")
        data = self._written(np.stack([stream.flush() for stream in self._streams]), last=True)
        return data + pack_end(samples, self._header.pack(), self._segments)

    def _written(self, latents: Float32[np.ndarray, "c t d"], last: bool = False) -> bytes:
        """Whole segments, and the header before the first one."""
        self._held = np.concatenate([self._held, latents], axis=1)
        head = self._header.pack()
        parts = []
        while (held := self._held.shape[1]) > self._longest or (last and held):
            end = held if held <= self._longest else self._length
            part, self._held = self._held[:, :end], self._held[:, end:]
            indices = np.stack([self._indices(channel) for channel in part])
            segment = encode_segment(indices, self._model.coding)
            parts += [head] * (self._segments == 0) + [pack_segment(segment, head, self._segments)]
            self._segments += 1
        return b"".join(parts)

    def _indices(self, latents: Float32[np.ndarray, "t d"]) -> Int64[np.ndarray, "t q"]:
        """Of a segment of one channel."""
        code, prior = self._model.tokenizer.frame_code, self._model.prior
        if prior is None or not self._trade:
            return code.search(latents, self._stages, self._beam)
        return frame_search.search(
            latents, code, prior, stages=self._stages, beam=self._beam, trade=self._trade
        )


def segment_frames(model: SoundModel, seconds: float | None = None) -> tuple[int, int]:
    """Frames of a segment of so many seconds (default 2), in whole blocks of the decoder; and of the last one, at most:
    so that a few frames at the end make no segment of their own.

    Raises:
        CodecError: a segment that is longer than a file can have, or of no time.
    """
    block, rate = model.tokenizer.block, model.tokenizer.frame_rate
    most = sound_container.FRAMES // block - 1
    asked = SEGMENT if seconds is None else arguments.number("segment", seconds, above=0)
    blocks = max(round(asked * rate / block), 1)
    if seconds is not None and blocks > most:
        raise CodecError(f"segment is {seconds:g}; up to {most * block / rate:g} seconds are accepted")
    length = min(blocks, most) * block
    return length, length + block


class CompressedSound(NamedTuple):
    """A file of sound, and what was compressed.

    Attributes:
        samples, sample_rate, channels: of what was read.
        clipped: samples beyond full scale.
        missing: samples of each channel that the header promises, and that the file, which is cut off, doesn't hold.
    """

    data: bytes
    samples: int
    sample_rate: int
    channels: int
    clipped: int
    missing: int = 0


def compress_sound(
    source: Path | bytes,
    *,
    model: SoundModel | None = None,
    bitrate: float | None = None,
    segment: float | None = None,
    trade: float | None = None,
) -> CompressedSound:
    """A `.cbd` file of a file of sound.

    Args:
        source: its path, or its bytes.
        model, bitrate, segment, trade: as `SoundWriter`.

    Raises:
        InputError: it can't be read, or holds no sound; more than two channels; samples that are not finite.
        CodecError: as `SoundWriter`.
    """
    with open_sound(source) as sound:
        writer = SoundWriter(
            sound.sample_rate, sound.channels, model=model, bitrate=bitrate, segment=segment, trade=trade
        )
        parts, samples = [], 0
        for block in sound.blocks():
            samples += block.shape[1]
            parts.append(writer.push(block))
        parts.append(writer.finish())
        missing = max(sound.promised - samples, 0)
        return CompressedSound(
            b"".join(parts), samples, sound.sample_rate, sound.channels, sound.clipped, missing
        )


class DecodedSound(NamedTuple):
    """Sound as it is decoded.

    Attributes:
        sample_rate, channels, samples: what `blocks` gives in all.
        blocks: 16-bit samples, some at a time.
    """

    sample_rate: int
    channels: int
    samples: int
    blocks: Iterator[Int16[np.ndarray, "n c"]]


def decompress_sound(
    data: Data, *, model: SoundModel | None = None, start: float = 0.0, end: float | None = None
) -> DecodedSound:
    """The sound in a file; only what lies between `start` and `end`, in seconds, is decoded.

    Raises:
        DamagedFile: the file is not as it was written.
        UnsupportedFile, WrongModel: it is of another version, or was written with another model.
        CodecError: it ends before `start`, or `end` is not after it.
    """
    contents = sound_container.unpack(read_bytes(data))
    model = checked_model(contents, model)
    rate, samples = contents.header.sample_rate, contents.samples
    first = round(start * rate)
    last = samples if end is None else min(round(end * rate), samples)
    if not 0 <= first < last:
        stop = "the end" if end is None else f"{end:g} s"
        raise CodecError(
            f"the file holds {samples / rate:g} seconds; nothing lies between {start:g} s and {stop}"
        )
    return DecodedSound(rate, contents.header.channels, last - first, _blocks(contents, model, first, last))


def checked_model(contents: SoundFile, model: SoundModel | None) -> SoundModel:
    """The model that a file was written with.

    Raises:
        WrongModel: it is not the one at hand.
        DamagedFile: as many frames as the file has are not those of so many samples.
    """
    model = default_sound_model() if model is None else model
    header, tokenizer = contents.header, model.tokenizer
    if header.model != (present := model.digest()):
        raise WrongModel(
            f"the file was written with model {header.model.hex()}; model {present.hex()} was given"
        )
    fits = (
        header.stages <= len(tokenizer.codebook_sizes) and header.codebook_size == tokenizer.codebook_sizes[0]
    )
    inside = resampled_length(contents.samples, header.sample_rate, tokenizer.sample_rate)
    frames = sum(segment.frames for segment in contents.segments)
    if not fits or frames != tokenizer.frames_of(inside):
        raise DamagedFile("the file's numbers of stages, frames and samples don't fit together")
    *whole, last = (segment.frames for segment in contents.segments)
    if whole and (
        any(frames != whole[0] for frames in whole)
        or whole[0] % tokenizer.block
        or last > whole[0] + tokenizer.block
    ):
        raise DamagedFile("the file has segments of unequal length")
    return model


def segment_indices(contents: SoundFile, number: int, model: SoundModel) -> Int64[np.ndarray, "c t q"]:
    """The indices of a segment, checked."""
    header = contents.header
    return decode_segment(contents.segments[number], header.channels, header.stages, model.coding)


def verify_sound(data: Data, *, model: SoundModel | None = None) -> int:
    """How many indices a file holds, after each of them was decoded and found right.

    Raises:
        CodecError: as `decompress_sound`.
    """
    contents = sound_container.unpack(read_bytes(data))
    model = checked_model(contents, model)
    return sum(segment_indices(contents, number, model).size for number in range(len(contents.segments)))


def sound_indices(data: Data, model: SoundModel | None = None) -> Int64[np.ndarray, "c t q"]:
    """The indices in a file, each channel's.

    Raises:
        CodecError: as `decompress_sound`.
    """
    contents = sound_container.unpack(read_bytes(data))
    model = checked_model(contents, model)
    parts = [segment_indices(contents, number, model) for number in range(len(contents.segments))]
    return np.concatenate(parts, axis=1)


def _blocks(
    contents: SoundFile, model: SoundModel, first: int, last: int
) -> Iterator[Int16[np.ndarray, "n c"]]:
    """Samples `first` … `last` − 1, decoded from the segments that they need alone."""
    tokenizer, header = model.tokenizer, contents.header
    rate, inside_rate, hop = header.sample_rate, tokenizer.sample_rate, tokenizer.hop
    length = contents.segments[0].frames  # where there is one alone, nothing begins behind it

    # Samples at the tokenizer's rate begin where a segment does, early enough for the resampler to know its past.
    warm = 1.0 if rate != inside_rate else 0.0
    segment = max(int((first / rate - warm) * inside_rate / hop) // length, 0)
    segment = min(segment, len(contents.segments) - 1)
    begin = segment * length * hop  # the first sample inside, of a whole block
    inside = resampled_length(contents.samples, rate, inside_rate)

    # Frames before that block are looked at, too: the segment before is decoded for them.
    context = tokenizer.before if segment else 0
    at = segment - (1 if segment else 0)
    decoders = [AudioDecoder(tokenizer, within=segment > 0) for _ in range(header.channels)]
    resamplers = [Resampler(inside_rate, rate, begin) for _ in range(header.channels)]
    given, decoded = resamplers[0].given, begin
    skip = length - context if segment else 0
    while given < last:
        if at < len(contents.segments):
            indices = segment_indices(contents, at, model)[:, skip:]
            rows = [decoder.push(part) for decoder, part in zip(decoders, indices, strict=True)]
            skip, at = 0, at + 1
        else:
            rows = [decoder.flush() for decoder in decoders]
            at += 1
        whole = np.clip(np.rint(np.stack(rows).astype(np.float64) * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
        whole = whole[:, : max(inside - decoded, 0)]
        decoded += whole.shape[1]
        outs = [resampler.push(row) for resampler, row in zip(resamplers, whole, strict=True)]
        if decoded >= inside:
            outs = [np.concatenate([out, r.flush()]) for out, r in zip(outs, resamplers, strict=True)]
        block = np.stack(outs, axis=1).astype(np.int16)
        low, high = max(first - given, 0), min(last - given, len(block))
        given += len(block)
        if high > low:
            yield block[low:high]
