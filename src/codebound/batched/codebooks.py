"""Train many codebooks at once on the same latents.

With the encoder fixed, a codebook's gradient is the statistic (counts, sums) of the batch, so a sweep over arms
and optimizers is one batched problem: every codebook sees the same batch, one search serves all of them, and the
gradient needs no graph (`quantize.update.codebook_gradient`; the tests hold it against autograd).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from codebound import search
from codebound.quantize.update import EMA, CodebookState, codebook_gradient


@dataclass(frozen=True)
class Adam:
    """Adam on the codebook loss; `cosine` lets the learning rate fall to zero over the run."""

    lr: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"


class Group(NamedTuple):
    """Codebooks `[m, K, D]` that move by one rule."""

    rule: Adam | EMA
    start: Float[Tensor, "m K D"]


def batch_order(
    samples: int, batch_size: int, steps: int, generator: torch.Generator
) -> Int64[Tensor, "steps batch"]:
    """Row numbers of each step's batch: one permutation of the samples an epoch, incomplete batches left out."""
    per_epoch = samples // batch_size
    epochs = -(-steps // per_epoch)
    rows = [torch.randperm(samples, generator=generator)[: per_epoch * batch_size] for _ in range(epochs)]
    return torch.cat(rows).view(-1, batch_size)[:steps]


def train_codebooks(
    z: Float[Tensor, "n D"],
    groups: Sequence[Group],
    order: Int64[Tensor, "steps batch"],
    evaluate: Callable[[int, Float[Tensor, "m K D"]], None],
    evaluate_every: int,
) -> Float[Tensor, "m K D"]:
    """Run every group over `order`; returns all codebooks, in the groups' order.

    `evaluate(step, codebooks)` is called before step 0 and after every `evaluate_every` steps and the last.
    """
    books = torch.cat([group.start for group in groups])
    size, steps = books.shape[1], order.shape[0]
    # Each group works in place on its part of the one tensor that is searched.
    parts = books.split([group.start.shape[0] for group in groups])
    movers = [_mover(group.rule, part, steps) for group, part in zip(groups, parts, strict=True)]
    sections = [part.shape[0] for part in parts]
    for step, rows in enumerate(order):
        if step % evaluate_every == 0:
            evaluate(step, books)
        batch = z[rows]
        counts, sums = search.assignment_sums(batch, search.nearest(batch, books, certify=False), size)
        for move, n, m in zip(movers, counts.split(sections), sums.split(sections), strict=True):
            move(n, m)
    evaluate(steps, books)
    return books


def _mover(rule: Adam | EMA, books: Tensor, steps: int) -> Callable[[Tensor, Tensor], None]:
    return _adam(rule, books, steps) if isinstance(rule, Adam) else _ema(rule, books)


def _adam(rule: Adam, books: Tensor, steps: int) -> Callable[[Tensor, Tensor], None]:
    table = nn.Parameter(books)  # shares memory with `books`
    optimizer = torch.optim.Adam([table], lr=rule.lr, fused=True)
    horizon = steps if rule.schedule == "cosine" else 0
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, horizon) if horizon else None

    def move(counts: Tensor, sums: Tensor) -> None:
        table.grad = codebook_gradient(books, counts, sums)
        optimizer.step()
        if schedule is not None:
            schedule.step()

    return move


def _ema(rule: EMA, books: Tensor) -> Callable[[Tensor, Tensor], None]:
    state = CodebookState.fresh(books.clone())

    def move(counts: Tensor, sums: Tensor) -> None:
        nonlocal state
        state = rule.step(state, counts, sums)
        books.copy_(state.codewords)

    return move
