"""Opus, as the study of sound writes it: through FFmpeg (extra `audio`)."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int16

from codebound import extras


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
