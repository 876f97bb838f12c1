"""Opus and G.722 through FFmpeg (extra `audio`) and Codec2 through pycodec2 (extra `codec2`), as the study of sound
writes them."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int16

from codebound import extras
from codebound.errors import InputError
from codebound.sound.resampling import LOUDEST, resample

G722_RATE = 16_000
CODEC2_RATE = 8_000
CODEC2_MODES = (450, 700, 1200, 1300, 1400, 1600, 2400, 3200)  # bit/s
DELAY = 0.06  # seconds that a decoder may be late, at most: Codec2's longest frame and half of the next


class OtherSound(NamedTuple):
    """What another codec makes of a sound: its packets' bytes, those of the whole file, and what it decodes to."""

    payload: int
    bytes: int
    samples: Float64[np.ndarray, " n"]


def opus(samples: Int16[np.ndarray, " n"], rate: int, kbit: float | int) -> OtherSound:
    """Opus for speech (`application=voip`), variable rate, one channel, in Ogg.

    Args:
        rate: 8, 12, 16, 24 or 48 kHz.
        kbit: what the encoder aims at, in kbit/s.
    """
    av = extras.imported("av", "audio", "Opus")
    written = io.BytesIO()
    payload = 0
    with av.open(written, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=rate)
        stream.bit_rate, stream.layout = round(1000 * kbit), "mono"
        stream.options = {"application": "voip"}
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            payload += packet.size
            container.mux(packet)
    data = written.getvalue()

    # Decoded at the same rate; FFmpeg leaves out the delay that the file states.
    parts = []
    with av.open(io.BytesIO(data)) as container:
        convert = av.AudioResampler(format="dbl", layout="mono", rate=rate)
        for frame in (*container.decode(audio=0), None):
            parts += [part.to_ndarray().reshape(-1) for part in convert.resample(frame)]
    decoded = np.concatenate(parts)
    decoded = np.pad(decoded, (0, max(len(samples) - len(decoded), 0)))[: len(samples)]
    return OtherSound(payload, len(data), decoded)


def g722(samples: Int16[np.ndarray, " n"], rate: int) -> OtherSound:
    """G.722 at 64 kbit/s: two bands of ADPCM, 16 kHz, without a container; its delay is taken back.

    Raises:
        InputError: another rate than 16 kHz.
    """
    if rate != G722_RATE:
        raise InputError(f"G.722 is for {G722_RATE} samples a second; got {rate}")
    av = extras.imported("av", "audio", "G.722")
    written = io.BytesIO()
    with av.open(written, "w", format="g722") as container:
        stream = container.add_stream("g722", rate=rate)
        stream.layout = "mono"
        # Silence behind the end, which comes out late.
        late = np.pad(samples, (0, round(DELAY * rate)))
        frame = av.AudioFrame.from_ndarray(late[None], format="s16", layout="mono")
        frame.rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    with av.open(io.BytesIO(written.getvalue()), format="g722") as container:
        decoded = np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])
    size = -(-len(samples) // 2)  # 4 bits a sample
    return OtherSound(size, size, aligned(samples, decoded / LOUDEST, rate))


def codec2(samples: Int16[np.ndarray, " n"], rate: int, bits: int) -> OtherSound:
    """Codec2 of so many bit/s: speech at 8 kHz, so that nothing above 4 kHz is left; its delay is taken back.

    Raises:
        InputError: a mode that there is not.
        MissingExtra: pycodec2 is not installed.
    """
    if bits not in CODEC2_MODES:
        raise InputError(f"codec2 is {bits}; {', '.join(map(str, CODEC2_MODES))} bit/s are accepted")
    coder = extras.imported("pycodec2", "codec2", "Codec2").Codec2(bits)
    size = coder.samples_per_frame()

    # Whole frames at 8 kHz, with silence behind the end, which comes out late.
    narrow = resample(samples.astype(np.float64), rate, CODEC2_RATE)
    late = np.pad(narrow, (0, round(DELAY * CODEC2_RATE)))
    frames = np.pad(late, (0, -len(late) % size)).astype(np.int16).reshape(-1, size)
    decoded = np.concatenate([coder.decode(coder.encode(frame)) for frame in frames])
    wide = resample(decoded.astype(np.float64), CODEC2_RATE, rate) / LOUDEST
    spent = -(-(-(-len(narrow) // size) * coder.bits_per_frame()) // 8)
    return OtherSound(spent, spent, aligned(samples, wide, rate))


def aligned(
    samples: Int16[np.ndarray, " n"], decoded: Float64[np.ndarray, " m"], rate: int
) -> Float64[np.ndarray, " n"]:
    """What was decoded, moved to where it correlates most with what was coded: up to 60 ms earlier."""
    count, most = len(samples), round(DELAY * rate)
    decoded = np.pad(decoded, (0, max(count + most - len(decoded), 0)))
    x = samples.astype(np.float64)
    lag = max(range(most + 1), key=lambda lag: abs(float(x @ decoded[lag : lag + count])))
    return decoded[lag : lag + count]
