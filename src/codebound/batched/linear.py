"""Train many linear vector-quantized autoencoders at once, on the same batches.

Each has a tied encoder W with orthonormal columns and a codebook; `train/linear_numpy.py` has the model and the
gradients' derivation. Here the runs lie along a leading axis and share every batch, so one matrix product encodes
for all of them, and three ways to the same gradient stand behind one signature:

    closed_form_gradients   the derivation, with any estimator's declared Jacobian, no graph
    autograd_gradients      the loss, by back-propagation
    numpy_gradients         `linear_numpy.gradients`, run by run; straight-through only
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from codebound import search
from codebound.batched import linear_numpy
from codebound.errors import InputError
from codebound.nets.linear import retract
from codebound.quantize.estimator import Choice, Estimator, StraightThrough
from codebound.quantize.update import Memory


class LinearRuns(NamedTuple):
    """Encoders with orthonormal columns, and codebooks, one of each per run."""

    encoder: Float[Tensor, "m d k"]
    codebook: Float[Tensor, "m K k"]


@dataclass(frozen=True)
class Rule:
    """How one run moves: plain gradient descent, then a retraction (defaults: those of the estimators study).

    `schedule`: `constant`, or `cosine`, under which both rates fall to zero over the horizon and stay there.
    """

    estimator: Estimator = field(default_factory=StraightThrough)
    lr_encoder: float | int = 0.08
    lr_codebook: float | int = 0.2
    commitment: float | int = 0.25  # β
    codebook_weight: float | int = 1.0  # α
    schedule: Literal["constant", "cosine"] = "constant"

    def __post_init__(self) -> None:
        for name in ("lr_encoder", "lr_codebook", "commitment", "codebook_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} is {value}; a finite number of at least 0 is accepted")


Gradients = Callable[[Tensor, LinearRuns, Sequence[Rule]], LinearRuns]
Evaluate = Callable[[int, LinearRuns], None]


def assign(x: Float[Tensor, "n d"], runs: LinearRuns) -> tuple[Tensor, Int64[Tensor, "m n"], Tensor]:
    """Latents `[m, n, k]`, indices of the nearest codewords, and those codewords `[m, n, k]`, of shared vectors."""
    m, d, k = runs.encoder.shape
    flat = runs.encoder.permute(1, 0, 2).reshape(d, m * k)
    z = (x @ flat).view(-1, m, k).transpose(0, 1)
    indices = search.nearest(z.contiguous(), runs.codebook, certify=False)
    return z, indices, _gather(runs.codebook, indices)


def _gather(codebook: Tensor, indices: Tensor) -> Tensor:
    """`codebook[m, indices[m, n]]`, as one lookup."""
    m, size, k = codebook.shape
    offset = torch.arange(m, device=codebook.device).unsqueeze(1) * size
    return codebook.reshape(m * size, k).index_select(0, (indices + offset).view(-1)).view(m, -1, k)


def closed_form_gradients(x: Tensor, runs: LinearRuns, rules: Sequence[Rule]) -> LinearRuns:
    """By hand, for any estimator with a Jacobian J: G_W = 2/n Σ [W q qᵀ − x (q + Jᵀv − β(z − q))ᵀ]."""
    n = x.shape[0]
    with torch.no_grad():
        z, indices, q = assign(x, runs)
        error = z - q
        v = z - q @ (runs.encoder.mT @ runs.encoder)
        rows = q + _pull_back(rules, z, q, v, runs.codebook) - _column(rules, "commitment", x) * error
        m, _, k = z.shape
        across = (x.T @ rows.transpose(0, 1).reshape(n, m * k)).view(-1, m, k).transpose(0, 1)
        by_encoder = (runs.encoder @ (q.mT @ q) - across) * (2 / n)
        counts, sums = search.assignment_sums(z, indices, runs.codebook.shape[1])
        pull = counts.unsqueeze(-1) * runs.codebook - sums
        by_codebook = pull * (_column(rules, "codebook_weight", x) * (2 / n))
    return LinearRuns(by_encoder.to(x.dtype), by_codebook.to(x.dtype))


def _pull_back(rules: Sequence[Rule], z: Tensor, q: Tensor, v: Tensor, codebook: Tensor) -> Tensor:
    """Jᵀv of each run's estimator."""
    parts = []
    for estimator, part in _by_estimator(rules):
        if isinstance(estimator, StraightThrough):
            parts.append(v[part])
            continue
        flat_z, flat_q, flat_v = (t[part].reshape(-1, t.shape[-1]) for t in (z, q, v))
        jacobian = estimator.jacobian(flat_z, flat_q, _choice(codebook[part.start]))
        parts.append((flat_v.unsqueeze(-2) @ jacobian).view_as(v[part]))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def loss(x: Tensor, runs: LinearRuns, rules: Sequence[Rule]) -> Float[Tensor, " m"]:
    """Each run's loss, differentiable: reconstruction + α·codebook + β·commitment, errors summed over dimensions."""
    m, d, k = runs.encoder.shape
    flat = runs.encoder.permute(1, 0, 2).reshape(d, m * k)
    z = (x @ flat).view(-1, m, k).transpose(0, 1)
    with torch.no_grad():
        indices = search.nearest(z.contiguous(), runs.codebook, certify=False)
    q = _gather(runs.codebook, indices)
    z_q = pass_through(rules, z, q.detach(), runs.codebook)
    reconstruction = (x - z_q @ runs.encoder.mT).square().sum((-2, -1))
    codebook = (z.detach() - q).square().sum((-2, -1))
    commitment = (z - q.detach()).square().sum((-2, -1))
    alpha, beta = (_column(rules, name, x).view(-1) for name in ("codebook_weight", "commitment"))
    return (reconstruction + alpha * codebook + beta * commitment) / x.shape[0]


def pass_through(
    rules: Sequence[Rule],
    z: Float[Tensor, "m n k"],
    q: Float[Tensor, "m n k"],
    codebook: Float[Tensor, "m K k"],
) -> Float[Tensor, "m n k"]:
    """The chosen codewords `q` with each run's estimator's gradient towards z."""
    passed = []
    for estimator, part in _by_estimator(rules):
        flat_z, flat_q = (t[part].reshape(-1, t.shape[-1]) for t in (z, q))
        passed.append(estimator(flat_z, flat_q, _choice(codebook[part.start])).view_as(z[part]))
    return passed[0] if len(passed) == 1 else torch.cat(passed)


def autograd_gradients(x: Tensor, runs: LinearRuns, rules: Sequence[Rule]) -> LinearRuns:
    """By back-propagation through `loss`; runs do not touch one another, so the sum's gradient is each one's own."""
    leaves = LinearRuns(*(t.detach().requires_grad_() for t in runs))
    return LinearRuns(*torch.autograd.grad(loss(x, leaves, rules).sum(), leaves))


def numpy_gradients(x: Tensor, runs: LinearRuns, rules: Sequence[Rule]) -> LinearRuns:
    """By the NumPy file, one run after another.

    Raises:
        InputError: an estimator other than straight-through.
    """
    by_run = []
    for rule, encoder, codebook in zip(rules, *runs, strict=True):
        if not isinstance(rule.estimator, StraightThrough):
            raise InputError(
                f"the NumPy gradients are of the straight-through estimator; got {rule.estimator!r}"
            )
        state = linear_numpy.State(encoder.numpy(), codebook.numpy())
        gradient = linear_numpy.gradients(
            x.numpy(), state, float(rule.commitment), float(rule.codebook_weight)
        )
        by_run.append([torch.from_numpy(g) for g in gradient])
    return LinearRuns(*(torch.stack(parts) for parts in zip(*by_run, strict=True)))


def train_linear(
    x: Float[Tensor, "n d"],
    start: LinearRuns,
    rules: Sequence[Rule],
    order: Int64[Tensor, "steps batch"],
    *,
    gradients: Gradients = closed_form_gradients,
    retraction: str = "polar",
    horizon: int | None = None,
    evaluate: Evaluate = lambda step, runs: None,
    evaluate_every: int = 1,
) -> LinearRuns:
    """Run every rule over `order`; returns the last state.

    Args:
        order: row numbers of each step's batch (`codebooks.batch_order`).
        horizon: steps of a cosine schedule; all of them if not given.
        evaluate: called as `evaluate(step, runs)` before step 0, after every `evaluate_every` steps and at the end.

    Raises:
        InputError: as many rules as runs are needed.
    """
    if not len(rules) == start.encoder.shape[0] == start.codebook.shape[0]:
        raise InputError(
            f"rules, encoders and codebooks must be as many; got {len(rules)}, {start.encoder.shape[0]} and "
            f"{start.codebook.shape[0]}"
        )
    runs, steps = start, order.shape[0]
    for step, rows in enumerate(order):
        if step % evaluate_every == 0:
            evaluate(step, runs)
        gradient = gradients(x[rows], runs, rules)
        fall = [_fall(rule, step, horizon or steps) for rule in rules]
        by_w, by_c = (
            _column(rules, name, x) * x.new_tensor(fall).view(-1, 1, 1)
            for name in ("lr_encoder", "lr_codebook")
        )
        runs = LinearRuns(
            retract(runs.encoder - by_w * gradient.encoder, retraction),
            runs.codebook - by_c * gradient.codebook,
        )
    evaluate(steps, runs)
    return runs


def _fall(rule: Rule, step: int, horizon: int) -> float:
    """The schedule's factor before a step."""
    if rule.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(step / horizon, 1.0)))


def _column(rules: Sequence[Rule], name: str, like: Tensor) -> Float[Tensor, "m 1 1"]:
    return like.new_tensor([getattr(rule, name) for rule in rules]).view(-1, 1, 1)


def _by_estimator(rules: Sequence[Rule]) -> list[tuple[Estimator, slice]]:
    """Neighbouring runs of one estimator, as a slice. (No itertools: torch.compile can't trace its keys.)"""
    groups, begin = [], 0
    for end in range(1, len(rules) + 1):
        if end == len(rules) or rules[end].estimator != rules[begin].estimator:
            groups.append((rules[begin].estimator, slice(begin, end)))
            begin = end
    return groups


def _choice(codewords: Tensor) -> Choice:
    """What an estimator may look at besides z and its codeword; the ones used here look at nothing."""
    counts, zero = codewords.new_ones(codewords.shape[0]), torch.zeros((), dtype=torch.int64)
    return Choice(codewords, Memory(counts, zero, codewords.new_zeros(()), zero, zero.bool()))
