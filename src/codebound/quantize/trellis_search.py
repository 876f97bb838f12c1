"""The levels of the best path of a trellis code through sequences of vectors, and what levels stand for.

One path runs through all coded components of all tokens of a sequence. So that there is work for many at once, a long
sequence is cut into pieces: a look at both sides of each cut finds the state in which the path crosses it, then every
piece is searched between its two states. What comes out is one path, without restarts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from codebound.quantize.trellis_design import REACH
from codebound.quantize.viterbi import cheapest_paths, compiled_for, machine, work
from codebound.theory.trellis import granular_moment

HALF = 1 << 19  # levels are −HALF … HALF − 1
PIECE = 512  # steps of a piece, at least
LOOK = 24  # steps on either side of a cut, for each bit of the state
TOGETHER = 1 << 20  # steps searched at once


def best_levels(
    coefficients: Float[Tensor, "s t D"],
    valid: Bool[Tensor, "s t"],
    step: Float[Tensor, " D"],
    values: Float[Tensor, "D 9"],
    bits: Float[Tensor, "D 9"],
    slope: Float[Tensor, " D"],
    alone: Float[Tensor, " D"],
    states: int,
) -> Int64[Tensor, "s t D"]:
    """The level of every coefficient; 0 where a token is not valid, or its component is dropped.

    Tokens that are not valid are no steps of the path: the others get what they would without them. Nor are components
    that are `alone`: scalars, which take any even level.
    """
    levels = torch.zeros(coefficients.shape, dtype=torch.int64, device=coefficients.device)
    apart = ((step > 0) & (alone > 0)).nonzero().squeeze(1)
    if len(apart):
        found = _scalar_levels(
            coefficients[..., apart].float(), values[apart, ::2], bits[apart, ::2], slope[apart]
        )
        levels[..., apart] = torch.where(valid.unsqueeze(-1), found, 0)
    kept = ((step > 0) & (alone == 0)).nonzero().squeeze(1)
    if not len(kept) or not bool(valid.any()):
        return levels
    code = _Branches(step[kept], values[kept], bits[kept], slope[kept], states)

    # Valid tokens come first, in their order, and go back to their places after.
    order = None if bool(valid.all()) else torch.argsort((~valid).to(torch.uint8), dim=-1, stable=True)
    every = len(kept) == len(step)
    chosen = (coefficients if every else coefficients[..., kept]).float()
    if order is not None:
        chosen = chosen.gather(1, order.unsqueeze(-1).expand_as(chosen))
    found = _in_pieces(chosen, valid.sum(-1), code)
    if order is not None:
        found = torch.zeros_like(found).scatter(1, order.unsqueeze(-1).expand_as(found), found)
    if every:
        return found.contiguous()
    levels[..., kept] = found
    return levels


def search_work(values: int, states: int) -> int:
    """What a search through so many values takes (`viterbi.work`): pieces side by side, and looks at their cuts."""
    steps = min(values, PIECE) + (2 * LOOK * (states.bit_length() - 1) if values > PIECE else 0)
    return work(steps, values, states)


def reproduced(
    levels: Int64[Tensor, "*b D"], values: Float[Tensor, "D 9"], pitch: Float[Tensor, " D"]
) -> Float[Tensor, "*b D"]:
    """What levels stand for: a component's values, evenly spaced ones beyond them."""
    size = levels.abs()
    inner = size.clamp_max(REACH)
    near = values.expand(*levels.shape, -1).gather(-1, inner.unsqueeze(-1)).squeeze(-1)
    return levels.sign() * (near + (size - inner) * pitch)


def _scalar_levels(
    x: Float[Tensor, "*b d"],
    values: Float[Tensor, "d v"],
    bits: Float[Tensor, "d v"],
    slope: Float[Tensor, " d"],
) -> Int64[Tensor, "*b d"]:
    """The cheapest even level of each value by itself; `values` and `bits` are those of the levels 0, 2, 4, …."""
    size, last = x.abs(), values.shape[1] - 1
    level = torch.zeros(x.shape, dtype=torch.int64, device=x.device)
    least = size.square() + slope * bits[:, 0]
    for number in range(1, last + 1):
        cost = (size - values[:, number]).square() + slope * bits[:, number]
        level = torch.where(cost < least, number, level)
        least = torch.minimum(cost, least)

    # Beyond the table they go on as its last two are apart, each as much dearer.
    pitch, growth = values[:, -1] - values[:, -2], bits[:, -1] - bits[:, -2]
    further = ((size - values[:, -1]) / pitch).round().clamp_(1, HALF // 2 - 1 - last)
    cost = (size - values[:, -1] - further * pitch).square() + slope * (bits[:, -1] + further * growth)
    level = torch.where(cost < least, last + further.to(torch.int64), level)
    return 2 * level * x.sign().to(torch.int64)


class _Branches:
    """What the levels of each subset cost, for the components of one token after another."""

    def __init__(self, step: Tensor, values: Tensor, bits: Tensor, slope: Tensor, states: int) -> None:
        self.step, self.values, self.bits, self.slope, self.states = step, values, bits, slope, states
        self.dim = len(step)
        self.fitted = (slope > 0).nonzero().squeeze(1)
        # Beyond the table levels are evenly spaced, each as much dearer as the last ones were.
        self.pitch, self.growth = (values[:, -1] - values[:, -3]) / 2, (bits[:, -1] - bits[:, -3]) / 2
        # What turns costs into the units of the closed form, whose mean cost is 4G where the squared error is θ.
        theta = slope / (2 * torch.log(torch.tensor(2.0, device=slope.device)))
        self.unit = torch.where(slope > 0, 4 * granular_moment(states) / theta, 1.0)

    def levels(self, x: Float[Tensor, "t d B"]) -> tuple[Float[Tensor, "t d 4 B"], Float[Tensor, "t d 4 B"]]:
        """The cheapest level of each subset, and its cost in steps squared."""
        u = (x / self.step.unsqueeze(1)).clamp_(4 - HALF, HALF - 5).unsqueeze(2)
        subset = torch.arange(4, dtype=x.dtype, device=x.device).view(1, 1, 4, 1)
        levels = (u - subset).div_(4).round_().mul_(4).add_(subset)
        costs = (u - levels).square_()
        if len(self.fitted):
            own = self.fitted
            levels[:, own], costs[:, own] = (
                some.permute(0, 3, 1, 2) for some in self._with_rate(x[:, own].transpose(1, 2))
            )
        return levels, costs

    def _with_rate(self, x: Float[Tensor, "t B f"]) -> tuple[Tensor, Tensor]:
        """The same, [t, 4, B, f], where bits count: squared error plus what they are worth."""
        values, bits, slope = self.values[self.fitted], self.bits[self.fitted], self.slope[self.fitted]
        size, negative = x.abs(), x < 0
        # A level and its opposite cost the same bits, so a value is looked at as if it were positive.
        n = torch.arange(-REACH, REACH + 1, device=x.device)
        signed = values[:, n.abs()] * n.sign()
        costs = (size.unsqueeze(-1) - signed).square() + slope.unsqueeze(-1) * bits[:, n.abs()]

        pitch, growth = self.pitch[self.fitted], self.growth[self.fitted]
        further = (size - values[:, -1]) / pitch + REACH

        found, least = [], []
        for subset in range(4):
            own = n[n % 4 == subset]
            cost, at = costs[..., own + REACH].min(-1)
            level = own[at].to(x.dtype)
            far = (subset + 4 * ((further - subset) / 4).round()).clamp_max(HALF - 8 + subset)
            beyond = values[:, -1] + (far - REACH) * pitch
            dear = (size - beyond).square() + slope * (bits[:, -1] + (far - REACH) * growth)
            outside = (far > REACH) & (dear < cost)
            found.append(torch.where(outside, far, level))
            least.append(torch.where(outside, dear, cost))

        # The opposite of subset 1 is subset 3.
        levels, costs = torch.stack(found, 1), torch.stack(least, 1)
        other = torch.tensor([0, 3, 2, 1], device=x.device)
        turned = negative.unsqueeze(1)
        levels = torch.where(turned, -levels[:, other], levels)
        costs = torch.where(turned, costs[:, other], costs)

        return levels, costs * self.unit[self.fitted]

    def paths(
        self,
        x: Float[Tensor, "B t d"],
        tokens: Int64[Tensor, " B"],
        start: Int64[Tensor, " B"],
        end: Int64[Tensor, " B"],
        at: int = 0,
    ) -> tuple[Int64[Tensor, "B t d"], Int64[Tensor, " B"]]:
        """The levels of the cheapest paths through the first `tokens` of each row, and the states before token `at`."""
        batch, length, dim = x.shape
        fast = compiled_for(x, 0)  # what it takes counts below, in `cheapest_paths`
        if fast is not None:
            branches = machine(self.states, x.device)
            steps = (self.values, self.bits, self.slope, self.pitch, self.growth, self.unit)
            found, states = fast.level_paths(
                x.reshape(batch, length * dim).contiguous().numpy(),
                *(y.contiguous().numpy() for y in (self.step, *steps, dim * tokens, start, end)),
                dim * at,
                *(y.numpy() for y in (branches.previous, branches.subset)),
            )
            return torch.from_numpy(found).view(batch, length, dim), torch.from_numpy(states)

        # Steps × subsets × sequences; values beyond a row's tokens are no steps.
        levels, costs = self.levels(x.permute(1, 2, 0).contiguous())
        active = torch.arange(length, device=x.device).unsqueeze(1) < tokens
        active = active.repeat_interleave(dim, 0)
        subsets, visited = cheapest_paths(costs.reshape(-1, 4, batch), self.states, start, end, active)
        chosen = levels.reshape(-1, 4, batch).gather(1, subsets.unsqueeze(1)).squeeze(1)
        chosen = chosen.masked_fill_(~active, 0).to(torch.int64)
        return chosen.view(length, dim, batch).permute(2, 0, 1), visited[dim * at]


def _in_pieces(
    x: Float[Tensor, "s t d"], tokens: Int64[Tensor, " s"], code: _Branches
) -> Int64[Tensor, "s t d"]:
    """Levels of sequences that begin in state 0 and end anywhere, of `tokens` tokens each."""
    sequences, length, dim = x.shape
    look = -(-LOOK * (code.states.bit_length() - 1) // dim)
    size = max(-(-PIECE // dim), 2 * look)
    pieces = -(-length // size)
    if pieces == 1:
        size = length
    if pieces * size > length:
        x = torch.nn.functional.pad(x, (0, 0, 0, pieces * size - length))

    # The state in which the path crosses each cut, where it goes on beyond.
    start = x.new_zeros(sequences, pieces, dtype=torch.int64)
    begins = torch.arange(pieces, device=x.device) * size
    left = tokens.unsqueeze(1) - begins
    if pieces > 1:
        sides = x[:, size - look :].unfold(1, 2 * look, size).movedim(-1, 2).flatten(0, 1)
        tokens, anywhere = (left[:, 1:] + look).flatten(), start.new_full((len(sides),), -1)
        crossing = _together(lambda *some: code.paths(*some, at=look)[1], sides, tokens, anywhere, anywhere)
        start[:, 1:] = crossing.view(sequences, pieces - 1)
    goes_on = left[:, 1:] > 0
    end = torch.nn.functional.pad(torch.where(goes_on, start[:, 1:], -1), (0, 1), value=-1)

    # Every piece between its two states.
    rows = (x.view(sequences * pieces, size, dim), left.flatten(), start.flatten(), end.flatten())
    levels = _together(lambda *some: code.paths(*some)[0], *rows)
    return levels.reshape(sequences, pieces * size, dim)[:, :length]


def _together(search: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """`search` on so many rows of each tensor at once as memory should hold."""
    count = max(1, TOGETHER // rows[0][0].numel())
    if count >= len(rows[0]):
        return search(*rows)
    return torch.cat([search(*(part[i : i + count] for part in rows)) for i in range(0, len(rows[0]), count)])


def _abstract_levels(
    coefficients: Tensor,
    valid: Tensor,
    step: Tensor,
    values: Tensor,
    bits: Tensor,
    slope: Tensor,
    alone: Tensor,
    states: int,
) -> Tensor:
    return torch.empty(coefficients.shape, dtype=torch.int64, device=coefficients.device)


# A loop over steps can't be recorded: to torch.compile and torch.export the search is one opaque node.
best_levels_op = torch.library.custom_op(
    "codebound::trellis_levels",
    best_levels,
    mutates_args=(),
    schema=(
        "(Tensor coefficients, Tensor valid, Tensor step, Tensor values, Tensor bits, Tensor slope, Tensor alone, "
        "int states) -> Tensor"
    ),
)
best_levels_op.register_fake(_abstract_levels)
