"""One search beside another at equal bytes: a recording's figures between two settings lie on a straight line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from codebound.studies.framework import declare as fw

Points = Sequence[Mapping[str, Any]]  # of one recording: `codec`, `kbit` of the file, and figures


def gains(
    recordings: Sequence[Points], codec: str, against: str, names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """At each whole number of kbit/s that both codecs have of every recording: by how much each figure is larger.

    Paired by recording, as means with 95 % intervals over the recordings; a NaN is left out.
    """
    pairs = [(_curves(points, codec), _curves(points, against)) for points in recordings]
    lowest = max(curve["kbit"][0] for pair in pairs for curve in pair)
    highest = min(curve["kbit"][-1] for pair in pairs for curve in pair)
    for rate in range(int(np.ceil(lowest)), int(highest) + 1):
        differences = {
            name: fw.mean_interval(_at(one, name, rate) - _at(other, name, rate) for one, other in pairs)
            for name in names
        }
        yield {"kbit": rate, **differences}


def _curves(points: Points, codec: str) -> dict[str, np.ndarray]:
    """A codec's figures of a recording, by rising rate."""
    own = sorted((point for point in points if point["codec"] == codec), key=lambda point: point["kbit"])
    return {name: np.array([p[name] for p in own]) for name in own[0] if name not in ("codec", "setting")}


def _at(curves: Mapping[str, np.ndarray], name: str, rate: int) -> float:
    return float(np.interp(rate, curves["kbit"], curves[name]))
