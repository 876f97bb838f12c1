"""Which levels an encoder writes: the error of each is weighed against the bits that it would take."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt16

from codebound.coding.integers import TOTAL
from codebound.wavelet.bands import POINT
from codebound.wavelet.coding import LARGEST, Strip
from codebound.wavelet.lifting import Pyramid
from codebound.wavelet.model import ESCAPE, SHIFTED, WaveletModel

WEIGHT = 0.1  # squared steps that a bit is worth; 2·ln 2 / 12 = 0.116 is what it buys at high rates


class Choice:
    """Levels of analysed planes.

    For a coefficient of u steps the magnitude m is the one among ⌊u + ½⌋, one less and 0 that has the smallest
    (u − m − shift/64)² + weight·bits; what it changes for the coefficients after it is not foreseen.

    Args:
        planes: analysed, brightness first.
        weight: squared steps that a bit is worth; 0 for the nearest level.
    """

    def __init__(self, planes: list[Pyramid], model: WaveletModel, weight: float = WEIGHT) -> None:
        self._planes, self._weight = planes, weight
        self._shift = np.concatenate([np.zeros((len(model.shift), 1)), model.shift / 64], axis=1)

    def low(self, component: int, step: int) -> Int64[np.ndarray, "h w"]:
        """The nearest levels of the low band."""
        levels = np.rint(self._planes[component].low / (step / (1 << POINT))).astype(np.int64)
        return np.clip(levels, 1 - LARGEST, LARGEST - 1)

    def choose(
        self, strip: Strip, rows: UInt16[np.ndarray, "k h w"], frequencies: Float64[np.ndarray, "r s"]
    ) -> tuple[Int64[np.ndarray, "k h w"], Bool[np.ndarray, "k h w"]]:
        """Magnitudes and signs of a strip's coefficients."""
        values = self._values(strip)

        # Where 0 is the nearest level, it is the cheapest one, too.
        magnitudes, sizes = np.zeros(strip.shape, dtype=np.int64), np.abs(values).reshape(-1)
        there = np.flatnonzero(sizes >= 0.5)
        bits = -np.log2(frequencies / TOTAL)
        magnitudes.reshape(-1)[there] = self._cheapest(sizes[there], rows.reshape(-1)[there], bits)
        return magnitudes, values < 0

    def sizes(self, strip: Strip) -> Float32[np.ndarray, "k h w"]:
        """How many steps large a strip's coefficients are."""
        return np.abs(self._values(strip))

    def _values(self, strip: Strip) -> Float32[np.ndarray, "k h w"]:
        """A strip's coefficients in steps, 0 where a band has none."""
        values = np.zeros(strip.shape, dtype=np.float32)
        for number, band in enumerate(strip.group.bands):
            plane = self._planes[band.component].details[band.level - 1][band.orientation]
            height, width = strip.inside(number)
            np.divide(
                strip.of(plane), np.float32(band.step / (1 << POINT)), out=values[number, :height, :width]
            )
        return values

    def _cheapest(
        self,
        sizes: Float32[np.ndarray, " n"],
        rows: UInt16[np.ndarray, " n"],
        bits: Float64[np.ndarray, "r s"],
    ) -> Int64[np.ndarray, " n"]:
        """The best of three magnitudes for each coefficient."""
        nearest = np.minimum(np.rint(sizes).astype(np.int64), LARGEST)
        candidates = np.stack([nearest, nearest - 1, np.zeros_like(nearest)])

        # Bits: of the symbol, of the sign, and of what is beyond the escape.
        symbols = np.minimum(candidates, ESCAPE)
        beyond = np.log2(np.maximum(candidates - ESCAPE + 1, 1))
        rate = bits[rows, symbols] + (candidates > 0) + np.where(symbols == ESCAPE, 5 + beyond, 0)
        shown = candidates + self._shift[rows, np.minimum(candidates, SHIFTED)]
        cost = (sizes - shown) ** 2 + self._weight * rate
        return np.take_along_axis(candidates, cost.argmin(0)[None], axis=0)[0]
