"""How codewords live and die: hits, mass, extinction and recovery, with frozen cells and with moving ones.

Words. A token is one vector of a batch; p_j is the probability that a token falls into the cell of codeword j.
A codeword is *dead* at the end of a window of W tokens if the window brought it no hit; it is *dead by mass* if its
EMA mass N_j is below a threshold. Both are stated wherever they are used: they differ by the EMA's memory.

Three levels, each with its assumption:

- **frozen cells**: p_j stays as it is. Everything is in closed form: `hit_probability`, `unhit`, `mass`,
  `passage_time`. Exact for codewords that don't move; an initial codebook's dead are not its final ones.
- **mean field** (`evolve(..., noise=False)`): cells move as the flow of the mean does, hits are Poisson given
  the path. The limit of small steps: lr/B → 0 for SGD, B·p/(1−γ) → ∞ for EMA. SGD: dc_j/dt = 2·lr·p_j(μ_j − c_j):
  a codeword without hits has no gradient, stands still, and its cell is what its neighbours leave it.
  EMA: dN_j/dt = (1−γ)(B·p_j − N_j), dm_j/dt = (1−γ)(B·p_j·μ_j − m_j), c_j = m_j/N_j.
- **shot noise** (`evolve(..., noise=True)`): the same with whole hits. In a step of h updates codeword j is hit
  n_j ~ Poisson(h·B·p_j) times, at points with its cell's mean and spread. The mean field lets a thousandth of a hit
  move an EMA codeword whose mass has decayed, and revives what nothing has touched; this does not.

The mean field is the usual one of stochastic approximation (Kushner & Yin 2003, chapter 5), for k-means that of
MacQueen 1967 and Bottou & Bengio 1995; whole hits in steps of frozen rates are Gillespie's tau-leaping (2001).
The cell's p_j and μ_j have no closed form beyond one dimension: they are sums over fresh points of the source.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from codebound import arguments, search
from codebound.errors import InputError

Source = Callable[[int, torch.Generator], Tensor]
"""`(n, generator) -> [n, D]`: fresh points of the distribution that tokens come from."""

_STEPS_PER_WINDOW = 50  # of the integrators, at least: with 16 they lag 15 % behind where a codebook unfolds
_MEMORY_PER_STEP = 0.25  # of an EMA's memory 1/(1−γ), at most
# Points of the source in each step of an integrator, at least: per codeword, per token. The flow's own noise is that of
# its points; hits are drawn among them, which needs fewer.
_POINTS = {False: (8, 6), True: (4, 2)}


def hit_probability(
    cell_probability: Float[np.ndarray, "*n"], batch_size: int
) -> Float[np.ndarray, "*n"]:  # fmt: skip
    """Probability that a step of B tokens hits a codeword at least once, 1 − (1 − p)^B.

    Its inverse is the mean number of steps until the first hit while the cell stays as it is (geometric).
    Raises InputError for probabilities outside [0, 1] or a batch under 1.
    """
    p = _probabilities(cell_probability)
    return np.asarray(-np.expm1(arguments.count("batch_size", batch_size) * scipy.special.xlog1py(1.0, -p)))


def unhit(
    cell_counts: Shaped[Tensor, "*m K"], points: int, tokens: int
) -> Float[Tensor, "*m"]:  # fmt: skip
    """Expected number of codewords that `tokens` tokens do not hit, from the cells' counts among `points` others.

    Σ_j C(M − x_j, N)/C(M, N) with x_j hits among M points: the minimum-variance unbiased estimate of
    Σ_j (1 − p_j)^N (a hypergeometric draw; needs M >= N). Plugging in x/M instead is too low by up to half where
    M is no larger than N, for (1 − p)^N is convex.
    Raises InputError if fewer points than tokens are given.
    """
    arguments.count("tokens", tokens, least=0)
    if points < tokens:
        raise InputError(f"points is {points}; at least tokens = {tokens} are accepted")
    left = points - cell_counts.double()
    log = (
        torch.lgamma(left + 1)
        - torch.lgamma((left - tokens).clamp_min(0) + 1)
        - math.lgamma(points + 1)
        + math.lgamma(points - tokens + 1)
    )
    return torch.where(left >= tokens, log.exp(), 0.0).sum(-1)


def sgd_time_constant(cell_probability: float | int, lr: float | int) -> float:
    """Steps in which SGD on the squared error brings a codeword 1 − 1/e of the way to its cell's mean, 1/(2·lr·p).

    From dc/dt = 2·lr·p(μ − c). An EMA codeword takes 1/(1−γ) whatever its p: that rarely used codewords are slow
    is a property of SGD.
    """
    p = arguments.number("cell_probability", cell_probability, above=0)
    return 1 / (2 * arguments.number("lr", lr, above=0) * p)


class Mass(NamedTuple):
    """Mean and variance of an EMA mass N, in tokens per step."""

    mean: float
    variance: float


def mass(
    cell_probability: float | int,
    batch_size: int,
    decay: float | int,
    *,
    steps: float | int = math.inf,
    start: float | int = 0.0,
) -> Mass:
    """Moments of N ← γN + (1−γ)n with n ~ Binomial(B, p) after `steps` steps; stationary by default. Frozen cell.

    E N = γ^t N₀ + (1 − γ^t)·Bp; Var N = (1−γ)/(1+γ)·(1 − γ^(2t))·Bp(1−p) (an AR(1) process). A threshold on the mass
    must therefore scale with B·p: a Gamma law of these moments has shape Bp(1+γ)/(1−γ).
    Raises InputError for p outside [0, 1], γ outside [0, 1) or a negative start.
    """
    p, gamma = float(_probabilities(np.asarray(cell_probability, dtype=float))), _decay(decay)
    left = gamma**steps if gamma else float(steps == 0)
    mean = arguments.count("batch_size", batch_size) * p
    start = arguments.number("start", start, least=0)
    spread = (1 - gamma) / (1 + gamma) * mean * (1 - p)
    return Mass(left * start + (1 - left) * mean, (1 - left**2) * spread)


def starvation_time(start: float | int, threshold: float | int, decay: float | int) -> float:
    """Steps without a hit after which a mass has decayed from `start` to `threshold`: ln(N₀/θ)/(−ln γ)."""
    start = arguments.number("start", start, above=0)
    threshold = arguments.number("threshold", threshold, above=0)
    gamma = _decay(decay)
    if start <= threshold:
        return 0.0
    return math.log(start / threshold) / -math.log(gamma) if gamma else 1.0


def passage_time(
    cell_probability: float | int,
    batch_size: int,
    decay: float | int,
    threshold: float | int,
    start: float | int,
    *,
    grid: int = 800,
) -> float:
    """Mean number of steps until an EMA mass first crosses `threshold`, in a frozen cell.

    From `start` >= θ the time to extinction (N < θ), from below the time to recovery (N >= θ). With
    N ← γN + (1−γ)n, n ~ Binomial(B, p), the mean time solves the first-step equation
    τ(x) = 1 + Σ_n P(n)·τ(γx + (1−γ)n) over the x on this side, τ = 0 beyond; it is solved on a grid with linear
    interpolation. Where one hit is enough to recover (1−γ >= θ), recovery takes 1/hit_probability.
    Infinite where the crossing can't happen (p = 0 and recovery) or takes more than 1e12 steps.
    Raises InputError for p outside [0, 1], γ outside [0, 1), a threshold that is not positive or a negative start.
    """
    p, gamma = float(_probabilities(np.asarray(cell_probability, dtype=float))), _decay(decay)
    theta = arguments.number("threshold", threshold, above=0)
    x0 = arguments.number("start", start, least=0)
    batch_size = arguments.count("batch_size", batch_size)
    n = np.arange(int(scipy.stats.binom.ppf(1 - 1e-12, batch_size, p)) + 1)
    moments = mass(p, batch_size, gamma)
    dying = x0 >= theta
    if dying:
        top = max(x0, moments.mean + 10 * math.sqrt(moments.variance), 2 * theta) + (1 - gamma)
        nodes = np.geomspace(theta, top, grid)
    else:
        nodes = np.linspace(0, theta, grid)
        if p == 0:
            return math.inf
    after = gamma * nodes[:, None] + (1 - gamma) * n
    inside = after >= theta if dying else after < theta
    place = np.clip(np.searchsorted(nodes, after, side="right") - 1, 0, grid - 2)
    share = np.clip((after - nodes[place]) / (nodes[place + 1] - nodes[place]), 0, 1)
    weight = scipy.stats.binom.pmf(n, batch_size, p) * inside
    step, rows = np.zeros((grid, grid)), np.arange(grid)[:, None]
    np.add.at(step, (rows, place), weight * (1 - share))
    np.add.at(step, (rows, place + 1), weight * share)
    times = np.linalg.solve(np.eye(grid) - step, np.ones(grid))
    mean_time = float(np.interp(x0, nodes, times))
    return mean_time if 0 < mean_time < 1e12 else math.inf


@dataclass(frozen=True)
class SGD:
    """c ← c − lr·2(N_j c_j − m_j)/B: plain gradient descent on the codebook loss."""

    lr: float | int

    def __post_init__(self) -> None:
        arguments.number("lr", self.lr, above=0)


@dataclass(frozen=True)
class EMA:
    """N ← γN + (1−γ)n, m ← γm + (1−γ)Σz, c = m/N; each codeword begins with the mass of one token.

    `smoothing` is the Laplace ε of `quantize.EMA`: the codeword is m/(N + ε), up to a common factor, and stays where
    it is once N < 100 ε. An unused codeword thus ends 1 % nearer the origin, which counts in the tail of a source.
    """

    decay: float | int
    smoothing: float | int = 1e-5

    def __post_init__(self) -> None:
        _decay(self.decay)
        arguments.number("smoothing", self.smoothing, least=0)


@dataclass(frozen=True)
class Schedule:
    """`windows` windows of `window_steps` steps of `batch_size` tokens."""

    batch_size: int
    window_steps: int
    windows: int

    def __post_init__(self) -> None:
        for name in ("batch_size", "window_steps", "windows"):
            arguments.count(name, getattr(self, name))


@dataclass(frozen=True)
class Population:
    """What became of `m` codebooks of K codewords over `w` windows."""

    no_hit: Float[
        Tensor, "w m K"
    ]  # probability that the window passes without a hit; 0 or 1 where hits are drawn
    revived: Float[Tensor, "w m"]  # codewords replaced at the end of each window
    mass: Float[Tensor, "m K"]  # EMA mass at the end, tokens per step; SGD has none (nan)
    codewords: Float[Tensor, "m K D"]

    @property
    def dead(self) -> Float[Tensor, "w m"]:
        """Expected number of codewords without a hit in each window."""
        return self.no_hit.sum(-1)

    @property
    def died(self) -> Float[Tensor, "v m"]:
        """Codewords with a hit in one window and none in the next, for each pair of windows."""
        return ((1 - self.no_hit[:-1]) * self.no_hit[1:]).sum(-1)

    @property
    def returned(self) -> Float[Tensor, "v m"]:
        """Codewords without a hit in one window and with one in the next, revived ones included."""
        return (self.no_hit[:-1] * (1 - self.no_hit[1:])).sum(-1)


def evolve(
    start: Float[Tensor, "m K D"],
    rule: SGD | EMA,
    schedule: Schedule,
    source: Source,
    *,
    noise: bool,
    revive_below: float | int = 0.0,
    seed: int = 0,
) -> Population:
    """Births and deaths of `m` codebooks with moving cells: the mean field, or the same with shot noise.

    Within a step of h updates the cells' p_j and μ_j are held; for frozen cells the step is exact in the mean.
    h grows from 1 to a fiftieth of a window, and at most a quarter of an EMA's memory. p_j and μ_j are sums over
    fresh points of the source, never those of a simulation. With noise, n_j is a thinned count of these points: this
    level is a Monte-Carlo solution, not a formula; what it adds to the mean field is what whole hits do.

    Args:
        noise: whole, random hits; otherwise the flow of the mean, with hits Poisson along it. Without a hit a
            window passes with probability exp(−ΣhBp), estimated without bias as Π(1 − hB/M)^x for x of M points.
        revive_below: codewords with fewer hits in a window than this share of the mean are moved, at its end, to
            tokens of one batch (so to B at most, the emptiest first), with the mean mass: `quantize.Resample`.

    Raises:
        InputError: codewords that are not `[m, K, D]` and finite, or `revive_below` outside [0, 1).
    """
    if start.ndim != 3 or not bool(start.isfinite().all()):
        raise InputError(f"start must be finite and of shape [m, K, D]; got {list(start.shape)}")
    if not 0 <= revive_below < 1:
        raise InputError(f"revive_below is {revive_below}; a number in [0, 1) is accepted")
    generator = torch.Generator().manual_seed(seed)
    state = _State(start.float().clone(), start.new_ones(start.shape[:2], dtype=torch.float32))
    size, batch, largest = start.shape[1], schedule.batch_size, _largest_step(rule, schedule)
    no_hit, revived, elapsed = [], [], 0
    for _ in range(schedule.windows):
        log_miss, hits, done = torch.zeros(start.shape[:2]), torch.zeros(start.shape[:2]), 0
        while done < schedule.window_steps:
            h = min(largest, max(1, int(0.15 * (elapsed + done))), schedule.window_steps - done)
            per_codeword, per_token = _POINTS[noise]
            points = source(max(per_token * h * batch, per_codeword * size), generator)
            cells = _cells(points, _searched(rule, state))
            if noise:
                # A thinned Poisson count is a Poisson count of the true p; Poisson(h·B·x/M) would vary too much.
                share = torch.tensor(h * batch / len(points))
                drawn = torch.binomial(cells.probability * len(points), share, generator=generator).round()
                state = _shot(rule, state, cells, drawn, h, batch)
                log_miss -= torch.where(drawn > 0, torch.inf, 0.0)
                hits += drawn
            else:
                log_miss += cells.probability * len(points) * math.log1p(-h * batch / len(points))
                state = _flow(rule, state, cells, h, batch)
                hits += h * batch * cells.probability
            done += h
        elapsed += done
        no_hit.append(log_miss.exp())
        state, count = _revive(state, hits, revive_below, source, batch, generator)
        revived.append(count)
    final = state.mass if isinstance(rule, EMA) else torch.full_like(state.mass, math.nan)
    return Population(torch.stack(no_hit), torch.stack(revived), final, _searched(rule, state))


class _State(NamedTuple):
    codewords: Tensor  # [m, K, D]
    mass: Tensor  # [m, K]


class _Cells(NamedTuple):
    probability: Tensor  # [m, K]
    mean: Tensor  # [m, K, D]; 0 where no point fell
    member: Tensor  # [m, K, D], one point of each cell; 0 where there is none


def _largest_step(rule: SGD | EMA, schedule: Schedule) -> int:
    h = max(1, schedule.window_steps // _STEPS_PER_WINDOW)
    return max(1, min(h, int(_MEMORY_PER_STEP / (1 - rule.decay)))) if isinstance(rule, EMA) else h


def _searched(rule: SGD | EMA, state: _State) -> Tensor:
    """The codewords that tokens are compared with; under EMA `state` holds the centres m/N."""
    if isinstance(rule, SGD) or rule.smoothing == 0:
        return state.codewords
    size, total = state.mass.shape[1], state.mass.sum(-1, keepdim=True)
    counted = state.mass.clamp_min(100 * rule.smoothing)
    factor = counted / (counted + rule.smoothing) * (1 + size * rule.smoothing / total)
    return state.codewords * factor.unsqueeze(-1)


def _cells(points: Tensor, books: Tensor) -> _Cells:
    m, size, dim = books.shape
    points = points.float()
    indices = search.nearest(points, books, certify=False)
    counts, sums = search.assignment_sums(points, indices, size)
    rows = (indices + torch.arange(m).unsqueeze(1) * size).view(-1)
    member = torch.zeros(m * size, dim)
    member[rows] = points.expand(m, -1, -1).reshape(
        -1, dim
    )  # the last point of each cell: they are in random order
    mean = sums / counts.clamp_min(1).unsqueeze(-1)
    return _Cells((counts / len(points)).float(), mean.float(), member.view(m, size, dim))


def _flow(rule: SGD | EMA, state: _State, cells: _Cells, h: int, batch: int) -> _State:
    """h updates of the mean: exact while p and μ hold."""
    if isinstance(rule, SGD):
        keep = (1 - 2 * rule.lr * cells.probability).clamp_min(-1.0).pow(h).unsqueeze(-1)
        moved = cells.mean + keep * (state.codewords - cells.mean)
        return state._replace(codewords=torch.where(keep == 1, state.codewords, moved))
    left = rule.decay**h
    return _merge(state, left, (1 - left) * batch * cells.probability, cells.mean)


def _shot(rule: SGD | EMA, state: _State, cells: _Cells, n: Tensor, h: int, batch: int) -> _State:
    """h updates with n hits, whose weighted mean has the cell's mean and spread: x a point of it, μ + s(x − μ)."""
    count = n.clamp_min(1).unsqueeze(-1)
    deviation = cells.member - cells.mean
    if isinstance(rule, SGD):
        # Each hit takes a = 2·lr/B of the way; hits of one update add up before the codeword moves.
        a = 2 * rule.lr / batch
        keep = torch.where(count > h, (1 - a * count / h).clamp_min(-1.0).pow(h), (1 - a) ** count)
        spread = (a * (1 - keep.square()).clamp_min(0.0) / (2 - a)).sqrt()
        moved = cells.mean + keep * (state.codewords - cells.mean) + spread * deviation
        return state._replace(codewords=torch.where(n.unsqueeze(-1) > 0, moved, state.codewords))
    left = rule.decay**h
    return _merge(state, left, n * ((1 - left) / h), cells.mean + deviation / count.sqrt())


def _merge(state: _State, left: float, added: Tensor, where: Tensor) -> _State:
    """EMA: the mass that is left stays where it is, the mass added lies at `where`."""
    total = left * state.mass + added
    share = (added / total.clamp_min(1e-30)).unsqueeze(-1)
    return _State(state.codewords + share * (where - state.codewords), total)


def _revive(
    state: _State, hits: Tensor, below: float | int, source: Source, batch: int, generator: torch.Generator
) -> tuple[_State, Tensor]:
    dead = hits < below * hits.mean(-1, keepdim=True)
    rank = hits.argsort(-1).argsort(-1)  # no more than a batch has tokens, the emptiest first
    dead &= rank < batch
    if bool(dead.any()):
        m, size, dim = state.codewords.shape
        new = source(m * size, generator).float().view(m, size, dim)
        state = _State(
            torch.where(dead.unsqueeze(-1), new, state.codewords),
            torch.where(dead, state.mass.mean(-1, keepdim=True), state.mass),
        )
    return state, dead.sum(-1).float()


def _probabilities(p: np.ndarray) -> np.ndarray:
    p = np.asarray(p, dtype=np.float64)
    if not (np.isfinite(p).all() and (p >= 0).all() and (p <= 1).all()):
        raise InputError(f"cell_probability is {p}; numbers in [0, 1] are accepted")
    return p


def _decay(decay: float | int) -> float:
    if not 0 <= decay < 1:
        raise InputError(f"decay is {decay}; a number in [0, 1) is accepted")
    return float(decay)
