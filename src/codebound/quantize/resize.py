"""Another number of codewords: pure functions from a codebook's state to that of a larger or a smaller one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from codebound.exact import wide
from codebound.quantize.noise import seeded
from codebound.quantize.revival import small_steps
from codebound.quantize.update import CodebookState


class RowMoves(NamedTuple):
    """Where the rows of a resized codebook come from."""

    source: Int64[Tensor, " K"]  # the former row that each row is, or was split from
    fresh: Int64[Tensor, " r"]  # the rows that were split off: they have no past of their own

    @staticmethod
    def none(rows: int) -> RowMoves:
        """So many rows as they were."""
        return RowMoves(torch.arange(rows), torch.arange(0))


class Resized(NamedTuple):
    """A codebook of another size."""

    state: CodebookState
    window_counts: Int64[Tensor, " K"]
    moves: RowMoves


def shrunk(
    state: CodebookState,
    window_counts: Int64[Tensor, " K"],
    usage: Float[Tensor, " K"],
    codebook_size: int,
    held: Int64[Tensor, " r"] | None,
) -> Resized:
    """The most used codewords alone, in their former order; held rows come before all others."""
    if held is not None:
        usage = usage.index_fill(0, held, torch.inf)
    kept = usage.argsort(descending=True, stable=True)[:codebook_size].sort().values
    state = CodebookState(*(part[kept] for part in state))
    return Resized(state, window_counts[kept], RowMoves(kept, kept[:0]))


def grown(
    state: CodebookState,
    window_counts: Int64[Tensor, " K"],
    usage: Float[Tensor, " K"],
    codebook_size: int,
    seed: int,
) -> Resized:
    """The busiest codeword is split, then the busiest of what there is now, and so on (Linde, Buzo & Gray 1980).

    The codeword that is split stays where it is; the one split off stands a small step beside it. Each has half of
    what both are used.
    """
    codewords, amounts = (
        state.codewords,
        torch.stack([x.to(wide(x.device)) for x in (usage, state.counts, window_counts)]),
    )
    before, generator = len(codewords), seeded(seed)
    source = torch.arange(before, device=codewords.device)
    while len(codewords) < codebook_size:
        # All that are more than half as busy as the busiest would be split before one of its halves.
        order = amounts[0].argsort(descending=True, stable=True)[: codebook_size - len(codewords)]
        busy = order[2 * amounts[0, order] >= amounts[0, order[0]]]
        beside = codewords[busy] + small_steps(codewords[:before], usage > 0, len(busy), generator)

        # Both have half of all that the one had.
        amounts[:, busy] /= 2
        amounts = torch.cat([amounts, amounts[:, busy]], dim=1)
        codewords, source = torch.cat([codewords, beside]), torch.cat([source, source[busy]])

    # Rows that were not split keep their sums to the last bit; of split ones the halves have half.
    counts = amounts[1].to(state.counts)
    sums = codewords * counts.unsqueeze(-1)
    same = (counts[:before] == state.counts).unsqueeze(-1)
    sums[:before] = torch.where(same, state.sums, sums[:before])
    moves = RowMoves(source, torch.arange(before, codebook_size, device=source.device))
    return Resized(CodebookState(codewords, counts, sums), amounts[2].to(window_counts), moves)
