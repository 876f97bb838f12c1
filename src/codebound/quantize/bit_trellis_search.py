"""The search of a bit-shift trellis: the bits whose shift register passes over the values nearest to a row.

A register of L bits takes in K new bits for each component, and what it then holds is a row number of a table of
2^L values: s_t = ((s_{t−1} << K) | b_t) mod 2^L, x̂_t = table[s_t]. The register begins with what it ends with
(tail-biting), so that T components are exactly K·T bits. The idea is Mao and Gray's (2010); Tseng et al. (2024) use it
for the weights of language models.

To Viterbi's algorithm a node is the L − K bits that two neighbouring registers share, and a branch is a register.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from codebound.quantize.viterbi import announce, compiled_for, work

LOOK = 16  # registers' lengths on either side, after which a path has forgotten where it began
MOST_COSTS = 1 << 26  # costs of nodes kept at once
MOST_BRANCHES = 1 << 18  # costs of branches at once, where a processor's cache should hold them
LEAST_ROWS = 16
COMPILED_ROWS = 512  # where the search is compiled, which keeps those of a few rows only
BLOCK = 64  # steps after which costs are brought down again


def best_symbols(rows: Float[Tensor, "n T"], table: Float[Tensor, " S"], bits: int) -> Int64[Tensor, "n T"]:
    """The K bits of each component, as a number; a row's do not depend on the other rows.

    First a path around each row's beginning, free at both ends, tells which bits the register should begin and end
    with; then the cheapest path of all that do. Memory O(n·T) and 256 MB of costs at most (`MOST_COSTS`), but for
    long rows.
    """
    length, nodes = rows.shape[1], len(table) >> bits
    registers = -(-(len(table).bit_length() - 1) // bits)
    look = min(length // 2, LOOK * registers)

    # As many rows at once as memory should hold, and on a processor its cache.
    together = MOST_COSTS // (nodes * (length + 1))
    if rows.device.type == "cpu":
        fits = max(MOST_BRANCHES // len(table), LEAST_ROWS)
        announce(work((length + 2 * look) * -(-len(rows) // fits), rows.numel(), len(table)))
        together = min(together, fits) if compiled_for(rows, 0) is None else COMPILED_ROWS
    symbols = torch.empty(rows.shape, dtype=torch.int64, device=rows.device)
    for begin in range(0, len(rows), max(together, 1)):
        part = slice(begin, begin + max(together, 1))
        x = rows[part].t().contiguous()
        around = torch.cat([x[length - look :], x[: length - look] if 2 * look >= length else x[:look]])
        _, middle = cheapest_registers(around, table, bits, down_to=look)
        registers, _ = cheapest_registers(x, table, bits, node=middle)
        symbols[part] = registers.t() & ((1 << bits) - 1)
    return symbols


def cheapest_registers(
    x: Float[Tensor, "T B"],
    table: Float[Tensor, " S"],
    bits: int,
    node: Int64[Tensor, " B"] | None = None,
    down_to: int = 0,
) -> tuple[Int64[Tensor, "t B"], Int64[Tensor, " B"]]:
    """The registers of the path of least squared error, from step `down_to` on, and the node before that step.

    Args:
        x: sequences side by side.
        node: where a path both begins and ends; without it both are free.
    """
    (length, batch), fan = x.shape, 1 << bits
    if (fast := compiled_for(x, work(length, x.numel(), len(table)))) is not None:
        at = torch.full((batch,), -1) if node is None else node
        found = fast.cheapest_registers(x.contiguous().numpy(), table.numpy(), bits, at.numpy(), down_to)
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])
    nodes = len(table) // fan
    values = table.view(nodes, fan, 1)

    # What it costs to come to each node. (Plain differences and squares: `addcmul` takes four times as long.)
    costs = x.new_empty(length + 1, nodes, batch)
    costs[0] = 0.0 if node is None else torch.inf
    if node is not None:
        costs[0].scatter_(0, node.unsqueeze(0), 0.0)
    branches = x.new_empty(nodes, fan, batch)
    for step, value in enumerate(x):
        torch.sub(values, value, out=branches).square_()
        branches += costs[step].unsqueeze(1)
        torch.amin(branches.view(fan, nodes, batch), 0, out=costs[step + 1])
        if step % BLOCK == BLOCK - 1:
            costs[step + 1] -= costs[step + 1].amin(0)
    here = costs[length].argmin(0) if node is None else node
    return _back(x, costs, table, bits, here, down_to)


def _back(
    x: Float[Tensor, "T B"],
    costs: Float[Tensor, "T1 nodes B"],
    table: Float[Tensor, " S"],
    bits: int,
    node: Int64[Tensor, " B"],
    down_to: int,
) -> tuple[Int64[Tensor, "t B"], Int64[Tensor, " B"]]:
    """From the last node back along the cheapest branch into each: the registers, and the node before them."""
    nodes, (length, batch) = costs.shape[1], x.shape
    tops = (torch.arange(1 << bits, device=x.device) * nodes).unsqueeze(1)
    lanes = torch.arange(batch, device=x.device)
    registers = torch.empty(length - down_to, batch, dtype=torch.int64, device=x.device)
    for step in reversed(range(down_to, length)):
        # The branches into this node differ in the bits that the register loses.
        into = tops + node
        came = costs[step].view(-1).take((into >> bits) * batch + lanes)
        best = (came + (table.take(into) - x[step]).square()).argmin(0)
        register = best * nodes + node
        registers[step - down_to] = register
        node = register >> bits
    return registers, node


def reproduced(
    symbols: Int64[Tensor, "n T"], table: Shaped[Tensor, " S"], bits: int
) -> Shaped[Tensor, "n T"]:
    """What symbols stand for: the table's value for each register, which holds the last symbols, around the row."""
    size = len(table)
    register, shift = symbols, bits
    while 1 << shift < size:
        # Registers of twice the length from two neighbours.
        register = register | (register.roll(shift // bits, -1) << shift)
        shift *= 2
    return table[register & (size - 1)]


def _abstract_symbols(rows: Tensor, table: Tensor, bits: int) -> Tensor:
    return torch.empty(rows.shape, dtype=torch.int64, device=rows.device)


# A loop over steps can't be recorded: to torch.compile and torch.export the search is one opaque node.
best_symbols_op = torch.library.custom_op(
    "codebound::bit_trellis_symbols",
    best_symbols,
    mutates_args=(),
    schema="(Tensor rows, Tensor table, int bits) -> Tensor",
)
best_symbols_op.register_fake(_abstract_symbols)
