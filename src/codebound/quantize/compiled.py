"""The search of trellis codes, compiled by Numba (extra `fast`): many times as fast on a processor.

The operations are those of `viterbi`, `trellis_search` and `bit_trellis_search`, in their order and in float32, so that
every level is the same. Sequences lie side by side in tiles, whose lanes the processor works on at once.
"""

# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false

from __future__ import annotations

import numpy as np

from codebound.fused import compiled

LANES = 128
REACH = 8  # as in `trellis_design`
FEW = 32  # lanes where there are many states
CHUNK = 16  # steps that are turned around at once
BLOCK = 64  # steps after which costs are brought down again, as in `viterbi`
FAR = np.float32(1e9)  # the cost of a state that no path begins in
ROUND = np.float32(
    3 << 22
)  # added and taken away again it leaves the nearest whole number, halves to the even one


@compiled
def cheapest_paths(metrics, start, end, active, origins, subsets):
    """`viterbi.cheapest_paths`: subsets and states before each step, [T, B].

    Args:
        metrics: float32 [T, 4, B].
        start, end: int64 [B], −1 where any state will do.
        active: bool [T, B] or None.
        origins, subsets: int64 [S, 2], of the branches into each state.
    """
    length, _, batch = metrics.shape
    taken, visited = np.empty((length, batch), np.int64), np.empty((length, batch), np.int64)
    room = _room(length, len(origins))
    metric = np.zeros((4, LANES), np.float32)
    for begin in range(0, batch, LANES):
        lanes = min(LANES, batch - begin)
        cost, other, decided, state = room
        _begin(cost, start, begin, lanes)
        for step in range(length):
            for subset in range(4):
                for lane in range(lanes):
                    metric[subset, lane] = metrics[step, subset, begin + lane]
            _advance(metric, cost, other, origins, subsets, decided[step])
            if active is not None:
                for lane in range(lanes):
                    if not active[step, begin + lane]:
                        _stay(cost, other, lane)
            cost, other = other, cost
            if step % BLOCK == BLOCK - 1:
                _bring_down(cost)
        _end(cost, end, begin, lanes, state)

        # Back along the decisions.
        for step in range(length - 1, -1, -1):
            for lane in range(lanes):
                taken[step, begin + lane] = 0
                if active is None or active[step, begin + lane]:
                    into, branch = state[lane], _branch(decided[step], state[lane], lane)
                    taken[step, begin + lane] = subsets[into, branch]
                    state[lane] = origins[into, branch]
                visited[step, begin + lane] = state[lane]
    return taken, visited


@compiled
def level_paths(x, step, values, bits, slope, pitch, growth, unit, limits, start, end, at, origins, subsets):
    """`trellis_search._Branches.paths`: the levels of the cheapest paths, and the states before step `at`.

    Args:
        x: float32 [B, T].
        step, values, bits, slope, pitch, growth, unit: of the d components along a row, in turn; [d] and [d, 9].
        limits: int64 [B]: so many steps each row has; levels beyond are 0.
    """
    (batch, length), dim = x.shape, len(step)
    levels, crossing = np.empty((batch, length), np.int64), np.zeros(batch, np.int64)
    room = _room(length, len(origins))
    u, chosen = np.zeros((length, LANES), np.float32), np.zeros((length, LANES), np.int32)
    metric = np.empty((4, LANES), np.float32)
    for begin in range(0, batch, LANES):
        lanes = min(LANES, batch - begin)
        cost, other, decided, state = room
        _turn_in(x, step, slope, begin, lanes, u)
        least = length
        for lane in range(lanes):
            least = min(least, limits[begin + lane])
        _begin(cost, start, begin, lanes)
        for now in range(length):
            own = now % dim
            if slope[own] > 0:
                _rated_metric(
                    u[now], values[own], bits[own], slope[own], pitch[own], growth[own], unit[own], metric
                )
            else:
                _unit_metric(u[now], metric)
            _advance(metric, cost, other, origins, subsets, decided[now])
            if now >= least:
                for lane in range(lanes):
                    if now >= limits[begin + lane]:
                        _stay(cost, other, lane)
            cost, other = other, cost
            if now % BLOCK == BLOCK - 1:
                _bring_down(cost)
        _end(cost, end, begin, lanes, state)

        # Back along the decisions; a level is the cheapest one of the branch's subset.
        for now in range(length - 1, -1, -1):
            own = now % dim
            for lane in range(lanes):
                level = np.float32(0)
                if now < limits[begin + lane]:
                    into, branch = state[lane], _branch(decided[now], state[lane], lane)
                    subset = subsets[into, branch]
                    if slope[own] > 0:
                        level = _rated(
                            u[now, lane], subset, values[own], bits[own], slope[own], pitch[own], growth[own]
                        )
                    else:
                        level = _nearest(u[now, lane], np.float32(subset))
                    state[lane] = origins[into, branch]
                chosen[now, lane] = np.int32(level)
                if now == at:
                    crossing[begin + lane] = state[lane]
        _turn_out(chosen, begin, lanes, levels)
    return levels, crossing


@compiled
def cheapest_registers(x, table, bits, node, down_to):
    """`bit_trellis_search.cheapest_registers`: registers [T − down_to, B], and the node before them [B].

    Args:
        x: float32 [T, B].
        table: float32 [S].
        node: int64 [B], where a path begins and ends, −1 where it may anywhere.
    """
    length, batch = x.shape
    nodes = len(table) >> bits
    registers, before = np.empty((length - down_to, batch), np.int64), np.empty(batch, np.int64)
    cost, after = np.zeros((nodes, FEW), np.float32), np.zeros((nodes, FEW), np.float32)
    decided, value = np.empty((length, nodes, FEW), np.uint8), np.zeros(FEW, np.float32)
    for begin in range(0, batch, FEW):
        lanes = min(FEW, batch - begin)
        for here in range(nodes):
            for lane in range(lanes):
                free = node[begin + lane] < 0 or node[begin + lane] == here
                cost[here, lane] = np.float32(0) if free else np.float32(np.inf)
        for step in range(length):
            for lane in range(lanes):
                value[lane] = x[step, begin + lane]
            _shift(value, table, bits, cost, after, decided[step])
            cost, after = after, cost
            if step % BLOCK == BLOCK - 1:
                _bring_down(cost)

        # Back along the decisions: which bits the register lost.
        for lane in range(lanes):
            here = node[begin + lane] if node[begin + lane] >= 0 else _cheapest(cost, lane)
            for step in range(length - 1, down_to - 1, -1):
                register = decided[step, here, lane] * nodes + here
                registers[step - down_to, begin + lane] = register
                here = register >> bits
            before[begin + lane] = here
    return registers, before


@compiled
def _shift(value, table, bits, cost, after, decided):
    """One step of all lanes: the cheapest of the registers that end in each node, and which that is."""
    nodes, lanes = cost.shape
    for here in range(nodes):
        best, top_of = after[here], decided[here]
        came, off = cost[here >> bits], table[here]
        for lane in range(lanes):
            best[lane] = came[lane] + (off - value[lane]) * (off - value[lane])
            top_of[lane] = np.uint8(0)
        for top in range(1, 1 << bits):
            register = top * nodes + here
            came, off = cost[register >> bits], table[register]
            for lane in range(lanes):
                branch = came[lane] + (off - value[lane]) * (off - value[lane])
                top_of[lane] = np.uint8(top) if branch < best[lane] else top_of[lane]
                best[lane] = branch if branch < best[lane] else best[lane]


@compiled
def walk(levels, begins, ends, bins, alone, following, out):
    """The levels of a file in their order: in each state the next one of the stream of its bin and parity.

    Args:
        levels: int64, of all streams, one after the other.
        begins, ends: int64 [bins, 2], where each stream lies; `begins` is moved on.
        bins: int64 [K], of each component.
        alone: bool [K], those that are no step of the path; their levels are in the stream of parity 0.
        following: int64 [S, 2].
        out: int64 [T, K], written to.

    Returns:
        Whether there were enough in each stream.
    """
    state = 0
    for token in range(out.shape[0]):
        for component in range(out.shape[1]):
            bin_, parity = bins[component], 0 if alone[component] else state & 1
            place = begins[bin_, parity]
            if place == ends[bin_, parity]:
                return False
            level = levels[place]
            begins[bin_, parity] = place + 1
            out[token, component] = level
            if not alone[component]:
                state = following[state, (level >> 1) & 1]
    return True


@compiled
def _room(length, states):
    """Costs before and after a step, the decisions of all steps (a bit for each state), and states of a tile."""
    cost, after = np.zeros((states, LANES), np.float32), np.zeros((states, LANES), np.float32)
    return cost, after, np.empty((length, (states + 31) // 32, LANES), np.uint32), np.zeros(LANES, np.int64)


@compiled
def _begin(cost, start, begin, lanes):
    """What it costs to begin in each state."""
    for state in range(len(cost)):
        for lane in range(lanes):
            elsewhere = start[begin + lane] >= 0 and start[begin + lane] != state
            cost[state, lane] = FAR if elsewhere else np.float32(0)


@compiled
def _advance(metric, cost, after, origins, subsets, decided):
    """One step of all lanes: what each state costs by the cheaper branch into it, and which that is."""
    states, lanes = cost.shape
    for word in range(len(decided)):
        bits = decided[word]
        for lane in range(lanes):
            bits[lane] = np.uint32(0)
        for at in range(min(32, states - 32 * word)):
            state = 32 * word + at
            cost0, cost1 = cost[origins[state, 0]], cost[origins[state, 1]]
            edge0, edge1 = metric[subsets[state, 0]], metric[subsets[state, 1]]
            into, bit = after[state], np.uint32(1 << at)
            for lane in range(lanes):
                first = cost0[lane] + edge0[lane]
                second = cost1[lane] + edge1[lane]
                into[lane] = second if second < first else first
                bits[lane] |= bit if second < first else np.uint32(0)


@compiled
def _bring_down(cost):
    for lane in range(cost.shape[1]):
        least = cost[_cheapest(cost, lane), lane]
        for state in range(len(cost)):
            cost[state, lane] -= least


@compiled
def _stay(cost, after, lane):
    """No step of this lane: its costs are what they were."""
    for state in range(len(cost)):
        after[state, lane] = cost[state, lane]


@compiled
def _cheapest(cost, lane):
    best = 0
    for state in range(1, len(cost)):
        if cost[state, lane] < cost[best, lane]:
            best = state
    return best


@compiled
def _end(cost, end, begin, lanes, state):
    """Where the paths end: in the given state, else in the cheapest."""
    for lane in range(lanes):
        state[lane] = end[begin + lane]
        if state[lane] < 0:
            state[lane] = _cheapest(cost, lane)


@compiled
def _branch(decided, state, lane):
    return (decided[state >> 5, lane] >> np.uint32(state & 31)) & np.uint32(1)


@compiled
def _nearest(u, subset):
    """The level of a subset that is nearest to u."""
    quarter = (u - subset) * np.float32(0.25)
    return subset + np.float32(4) * ((quarter + ROUND) - ROUND)


@compiled
def _unit_metric(u, metric):
    for subset in range(4):
        own, number = metric[subset], np.float32(subset)
        for lane in range(len(u)):
            off = u[lane] - _nearest(u[lane], number)
            own[lane] = off * off


@compiled
def _first(subset):
    """The least level of a subset within the table."""
    return -REACH + (subset + REACH) % 4


@compiled
def _rated_metric(x, values, bits, slope, pitch, growth, unit, metric):
    """What the cheapest level of each subset costs, squared error plus the worth of its bits."""
    for subset in range(4):
        own = metric[subset]
        for n in range(_first(subset), REACH + 1, 4):
            point = values[n] if n >= 0 else -values[-n]
            worth = slope * bits[abs(n)]
            for lane in range(len(x)):
                off = abs(x[lane]) - point
                cost = off * off + worth
                own[lane] = cost if n == _first(subset) or cost < own[lane] else own[lane]

        # Further out than the table reaches.
        number = np.float32(subset)
        for lane in range(len(x)):
            far, dear = _beyond(abs(x[lane]), number, values, bits, slope, pitch, growth)
            own[lane] = dear if far > np.float32(REACH) and dear < own[lane] else own[lane]
            own[lane] *= unit

    # A level and its opposite cost the same bits, so values were looked at as if positive: 1 and 3 change places.
    for lane in range(len(x)):
        one, three = metric[1, lane], metric[3, lane]
        metric[1, lane] = three if x[lane] < 0 else one
        metric[3, lane] = one if x[lane] < 0 else three


@compiled
def _beyond(size, subset, values, bits, slope, pitch, growth):
    """The level of a subset beyond the table that is nearest to a value, and what it costs."""
    last, reach = values[REACH], np.float32(REACH)
    far = min(_nearest((size - last) / pitch + reach, subset), np.float32((1 << 19) - 8) + subset)
    off = size - (last + (far - reach) * pitch)
    return far, off * off + slope * (bits[REACH] + (far - reach) * growth)


@compiled
def _rated(x, subset, values, bits, slope, pitch, growth):
    """The level of which `_rated_metric` says what it costs."""
    size, turned = abs(x), (4 - subset) % 4 if x < 0 else subset
    best, least = np.float32(0), np.float32(np.inf)
    for n in range(_first(turned), REACH + 1, 4):
        off = size - (values[n] if n >= 0 else -values[-n])
        cost = off * off + slope * bits[abs(n)]
        if cost < least:
            best, least = np.float32(n), cost
    far, dear = _beyond(size, np.float32(turned), values, bits, slope, pitch, growth)
    if far > np.float32(REACH) and dear < least:
        best = far
    return -best if x < 0 else best


@compiled
def _turn_in(x, step, slope, begin, lanes, u):
    """Rows as columns, in units of their steps where no table is asked."""
    length, low, high = x.shape[1], np.float32(4 - (1 << 19)), np.float32((1 << 19) - 5)
    for first in range(0, length, CHUNK):
        last = min(first + CHUNK, length)
        for lane in range(lanes):
            for now in range(first, last):
                u[now, lane] = x[begin + lane, now]
        for now in range(first, last):
            own, size = u[now], step[now % len(step)]
            if slope[now % len(step)] > 0:
                continue
            for lane in range(LANES):
                own[lane] = min(max(own[lane] / size, low), high)


@compiled
def _turn_out(chosen, begin, lanes, levels):
    """Columns as rows."""
    length = len(chosen)
    for first in range(0, length, CHUNK):
        last = min(first + CHUNK, length)
        for lane in range(lanes):
            for now in range(first, last):
                levels[begin + lane, now] = chosen[now, lane]
