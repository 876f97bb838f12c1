"""What becomes of dead codewords: pure functions from a state to a whole new state.

Dead means: hit less than `threshold` times its fair share 1/K over a window of `window`·K tokens. Relative
and windowed, so that neither the batch size nor one unlucky batch decides: a healthy codeword that expects
`window` hits misses the threshold by chance with probability P(Poisson(window·p·K) < threshold·window).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from codebound import arguments
from codebound.quantize.update import CodebookState


class RevivalResult(NamedTuple):
    """The state after a window, and the rows of the codewords that were moved in it."""

    state: CodebookState
    rows: Int64[Tensor, " r"]


@dataclass(frozen=True)
class _RevivalWindow:
    """When a codeword counts as dead: what `Resample` and `Split` share."""

    threshold: float = 0.03
    window: float = 50.0
    candidates: int = 1024  # codewords replaced per window at most, and tokens of one batch kept for them

    def __post_init__(self) -> None:
        arguments.number("threshold", self.threshold, above=0, below=1)
        arguments.number("window", self.window, above=0)
        arguments.whole("candidates", self.candidates)

    def dead(self, window_counts: Float[Tensor, " K"]) -> Int64[Tensor, " r"]:
        """Rows under the threshold, the emptiest first, no more than `candidates`."""
        share = window_counts.sum() / window_counts.shape[0]
        order = window_counts.argsort(stable=True)[: self.candidates]
        return order[window_counts[order] < self.threshold * share]


@dataclass(frozen=True)
class Never:
    """Dead codewords stay dead."""

    kind: Literal["never"] = "never"
    window: float = 50.0
    candidates: int = 0

    def __post_init__(self) -> None:
        arguments.number("window", self.window, above=0)
        arguments.whole("candidates", self.candidates, least=0)

    def revive(
        self,
        state: CodebookState,
        window_counts: Float[Tensor, " K"],
        tokens: Float[Tensor, "r D"],
        generator: torch.Generator,
    ) -> RevivalResult:
        return RevivalResult(state, torch.empty(0, dtype=torch.int64, device=window_counts.device))


@dataclass(frozen=True)
class Resample(_RevivalWindow):
    """A dead codeword moves to a token of the batch, with the mean mass of a codeword."""

    kind: Literal["resample"] = "resample"

    def revive(
        self,
        state: CodebookState,
        window_counts: Float[Tensor, " K"],
        tokens: Float[Tensor, "r D"],
        generator: torch.Generator,
    ) -> RevivalResult:
        # The emptiest codewords take the tokens of the sketch, as far as these go.
        rows = self.dead(window_counts)[: tokens.shape[0]]
        codewords = tokens[: rows.shape[0]].to(state.codewords.dtype)
        return RevivalResult(state.replace(rows, codewords, state.counts.mean().expand(rows.shape[0])), rows)


@dataclass(frozen=True)
class Split(_RevivalWindow):
    """A dead codeword moves beside one of the busiest, which shares its mass (Linde, Buzo & Gray 1980).

    `spread` is the length of the step, relative to the codewords' root-mean-square deviation.
    """

    spread: float = 0.01
    kind: Literal["split"] = "split"

    def __post_init__(self) -> None:
        super().__post_init__()
        arguments.number("spread", self.spread, above=0)

    def revive(
        self,
        state: CodebookState,
        window_counts: Float[Tensor, " K"],
        tokens: Float[Tensor, "r D"],
        generator: torch.Generator,
    ) -> RevivalResult:
        # As many of the dead as there are living ones to split; the busiest are split first.
        share = window_counts.sum() / window_counts.shape[0]
        alive = int((window_counts >= self.threshold * share).sum())
        rows = self.dead(window_counts)[:alive]  # each beside a codeword of its own, none of them dead
        busy = window_counts.argsort(descending=True, stable=True)[: rows.shape[0]]

        # A small step away from the busy codeword.
        c = state.codewords
        step = small_steps(c, window_counts > 0, rows.shape[0], generator, self.spread)

        # The two share the mass and stand on both sides of where the busy one was.
        half = state.counts[busy] / 2
        state = state.replace(busy, c[busy] - step, half).replace(rows, c[busy] + step, half)
        return RevivalResult(state, torch.cat([rows, busy]))


def small_steps(
    codewords: Float[Tensor, "K D"],
    used: Bool[Tensor, " K"],
    count: int,
    generator: torch.Generator,
    spread: float = 0.01,
) -> Float[Tensor, "count D"]:
    """Random steps of relative length `spread` on the scale on which used codewords differ."""
    c = codewords[used]
    scale = (c - c.mean(0)).square().mean().sqrt() if c.shape[0] > 1 else codewords.abs().mean() + 1e-3
    # On the CPU, then moved: a generator's stream must not depend on the device or the rank.
    steps = torch.randn(count, codewords.shape[1], generator=generator, dtype=torch.float32, device="cpu")
    return steps.to(codewords) * scale * spread


Revival = Never | Resample | Split
