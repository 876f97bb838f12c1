"""Frames of indices of one segment to a stream of bytes and back."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64
from threadpoolctl import threadpool_limits

from codebound.coding.errors import DamagedFile, WrongModel
from codebound.coding.integers import frequencies
from codebound.coding.range_coder import Coder, Decoder, Encoder
from codebound.coding.sound_container import SoundMode, SoundSegment
from codebound.priors import digits
from codebound.priors.frame_prior import FramePrior
from codebound.sound.frames import StagedCode


class SegmentCoding(NamedTuple):
    """What the indices of a segment are coded by: the codebook size of all stages; a prior with the codebooks that it
    looks at, or None."""

    size: int
    prior: FramePrior | None = None
    code: StagedCode | None = None


# A segment's products are too small for threads.
@threadpool_limits.wrap(limits=1, user_api="blas")
def encode_segment(indices: Int64[np.ndarray, "c t q"], coding: SegmentCoding) -> SoundSegment:
    """One segment of all channels, which are coded once where they are equal; in the mode of fewer bytes."""
    alike = len(indices) > 1 and bool((indices[1:] == indices[0]).all())
    streams = {}
    for mode in SoundMode if coding.prior is not None else [SoundMode.RAW]:
        encoder = Encoder()
        for channel in indices[:1] if alike else indices:
            _code(encoder, mode, channel, coding)
        streams[mode] = encoder.payload()
    mode = min(streams, key=lambda mode: len(streams[mode]))
    return SoundSegment(indices.shape[1], mode, alike, streams[mode], checksum(indices))


@threadpool_limits.wrap(limits=1, user_api="blas")
def decode_segment(
    segment: SoundSegment, channels: int, stages: int, coding: SegmentCoding
) -> Int64[np.ndarray, "c t q"]:
    """The indices of a segment.

    Raises:
        DamagedFile: they are not those that were written.
        WrongModel: they need a prior, and there is none.
    """
    if segment.mode is SoundMode.PRIOR and coding.prior is None:
        raise WrongModel("the file needs the prior that it was written with; the model has none")
    decoder = Decoder(segment.stream)
    empty = np.zeros((segment.frames, stages), dtype=np.int64)
    coded = [_code(decoder, segment.mode, empty, coding) for _ in range(1 if segment.alike else channels)]
    decoder.check_end()
    indices = np.stack(coded * channels if segment.alike else coded)
    if checksum(indices) != segment.checksum:
        raise DamagedFile("the file is damaged, or was written by another implementation: its indices differ")
    return indices


def checksum(indices: Int64[np.ndarray, "c t q"]) -> int:
    """CRC-32 of the indices as little-endian 16-bit numbers, channel by channel, frame by frame."""
    return zlib.crc32(np.ascontiguousarray(indices).astype("<u2").tobytes())


def _code(
    coder: Coder, mode: SoundMode, indices: Int64[np.ndarray, "t q"], coding: SegmentCoding
) -> Int64[np.ndarray, "t q"]:
    """One channel's indices in a mode."""
    if mode is SoundMode.PRIOR and coding.prior is not None and coding.code is not None:
        return coding.prior.code(coder, indices, coding.code)
    return _code_raw(coder, indices, coding.size)


def _code_raw(coder: Coder, indices: Int64[np.ndarray, "t q"], size: int) -> Int64[np.ndarray, "t q"]:
    """Frame by frame, digit by digit, every value as likely as another."""
    flat = indices.reshape(-1)
    coded = [
        coder.code(frequencies(np.ones((1, alphabet))), digit)
        for alphabet, digit in zip(digits.alphabets(size), digits.split(flat, size), strict=True)
    ]
    return digits.join(coded, size).reshape(indices.shape)
