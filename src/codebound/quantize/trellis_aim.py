"""How a trellis code comes to the rate or the error that is asked for: it is aimed at what makes it reach that.

A design aims at a rate, or at an error, of Gaussians. What the code then reaches on latents that are not quite Gaussian
is measured, and the aim moved: by what is missing at first, later by how the last move changed what was reached.
"""

from __future__ import annotations

import math

from jaxtyping import Int64
from torch import Tensor

from codebound.quantize.trellis_adapt import level_bits

SEEN = 64  # samples of a level on average, that an entropy is measured from
CLOSE = 0.001  # of what is asked for: nearer is near enough
LEAST_SLOPE, MOST_SLOPE = 0.5, 4.0  # of what is reached over the aim, by two measurements
FARTHEST = 2.0  # that an aimed error is multiplied or divided by at once
LEAST_PART = 0.05  # of an asked rate, that is ever aimed at


class AimControl:
    """Where to aim next; one for each run of measurements.

    Args:
        asked: bits per vector, or squared error.
        error: whether it is an error, which is taken by its logarithm.
        most: bits that can be aimed at.
    """

    def __init__(self, asked: float, error: bool, most: float) -> None:
        self.asked, self.error, self.most = asked, error, most
        self._last: tuple[float, float] | None = None

    def near(self, reached: float) -> bool:
        return abs(reached - self.asked) < CLOSE * self.asked

    def following(self, aim: float, reached: float, alike: bool) -> float:
        """The next aim after one that reached so much; the same one where there is nothing to be gained.

        Args:
            alike: whether the code is the last one but for its aim.
        """
        if self.error and reached <= 0:
            return aim
        place, value = (math.log(aim), math.log(reached)) if self.error else (aim, reached)
        short = (math.log(self.asked) if self.error else self.asked) - value

        # How much the aim has to move for that: by the secant through the last two measurements.
        slope = 1.0
        if alike and self._last is not None and place != self._last[0]:
            slope = (value - self._last[1]) / (place - self._last[0])
            if slope == 0:
                return aim
        self._last = place, value
        move = short / min(max(slope, LEAST_SLOPE), MOST_SLOPE)
        if self.error:
            return aim * min(max(math.exp(move), 1 / FARTHEST), FARTHEST)
        return min(max(aim + move, LEAST_PART * self.asked), self.most)


def visible_bits(tokens: int, coded: int) -> float:
    """Bits per vector up to which entropies are measured, on so many tokens of so many coded components.

    Sparse or discrete values may hold less than what is asked for: aimed further, levels only become finer.
    """
    return max(coded, 1) * math.log2(max(tokens, 1) / SEEN)


def entropy_bits(levels: Int64[Tensor, "n D"]) -> float:
    """Bits per vector of levels given their parity, each component by itself (`level_bits`)."""
    return float(sum(float(level_bits(column)) for column in levels.t()))
