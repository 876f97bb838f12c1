"""Frames of indices of one segment to a stream of bytes and back."""

from __future__ import annotations

import zlib

import numpy as np
from jaxtyping import Int64

from codebound.coding.errors import DamagedFile
from codebound.coding.integers import frequencies
from codebound.coding.range_coder import Coder, Decoder, Encoder
from codebound.coding.sound_container import SoundMode, SoundSegment
from codebound.priors import digits


def encode_segment(indices: Int64[np.ndarray, "c t q"], size: int) -> SoundSegment:
    """One segment of all channels, which are coded once where they are equal."""
    alike = len(indices) > 1 and bool((indices[1:] == indices[0]).all())
    encoder = Encoder()
    for channel in indices[:1] if alike else indices:
        _code_raw(encoder, channel, size)
    return SoundSegment(indices.shape[1], SoundMode.RAW, alike, encoder.payload(), checksum(indices))


def decode_segment(
    segment: SoundSegment, channels: int, stages: int, size: int
) -> Int64[np.ndarray, "c t q"]:
    """The indices of a segment.

    Raises:
        DamagedFile: they are not those that were written.
    """
    decoder = Decoder(segment.stream)
    empty = np.zeros((segment.frames, stages), dtype=np.int64)
    coded = [_code_raw(decoder, empty, size) for _ in range(1 if segment.alike else channels)]
    decoder.check_end()
    indices = np.stack(coded * channels if segment.alike else coded)
    if checksum(indices) != segment.checksum:
        raise DamagedFile("the file is damaged, or was written by another implementation: its indices differ")
    return indices


def checksum(indices: Int64[np.ndarray, "c t q"]) -> int:
    """CRC-32 of the indices as little-endian 16-bit numbers, channel by channel, frame by frame."""
    return zlib.crc32(np.ascontiguousarray(indices).astype("<u2").tobytes())


def _code_raw(coder: Coder, indices: Int64[np.ndarray, "t q"], size: int) -> Int64[np.ndarray, "t q"]:
    """Frame by frame, digit by digit, every value as likely as another."""
    flat = indices.reshape(-1)
    coded = [
        coder.code(frequencies(np.ones((1, alphabet))), digit)
        for alphabet, digit in zip(digits.alphabets(size), digits.split(flat, size), strict=True)
    ]
    return digits.join(coded, size).reshape(indices.shape)
