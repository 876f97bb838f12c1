"""Which indices a segment of frames takes: the error of its latents weighed against the bits that the prior takes.

The nearest codewords may cost many bits and others, nearly as near, few. Of all partial sums of a frame those stay
that have the least |r|² + λ·bits, as in entropy-constrained vector quantization (Chou, Lookabaugh & Gray 1989), with a
beam. λ is in proportion to a frame's own error: one λ for all would have less error in sum, and take it from the quiet
frames, which PESQ hears (docs/sound.md). Bits are those of the prior's networks for what they see: in stage 0 the
frames that are known, in the order of halvings; later the path's own sum and the best ones of both neighbours. A
decoder knows nothing of it: any indices are a right file. All that decides is of whole numbers or of single operations
of IEEE 754, the same on every machine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64
from threadpoolctl import threadpool_limits

from codebound.coding.integers import UNIT, length
from codebound.priors.frame_prior import (
    FramePrior,
    StageNetwork,
    first_inputs,
    groups,
    halvings,
)
from codebound.sound.frames import StagedCode, best, squares

LN_2 = 0.6931471805599453  # written out: a machine's logarithm may differ in the last bit
LOOK = 2  # groups that are looked into, for each partial sum that is kept
CHUNK = 64  # frames that are searched at once: so few that their scores stay near a core


class Paths(NamedTuple):
    """Partial sums of each frame, the best one first.

    Attributes:
        left: what each leaves of the latent.
        error: |left|².
        spent: its bits, in 1/256.
        indices: of the stages until now.
    """

    left: Float32[np.ndarray, "n b d"]
    error: Float64[np.ndarray, "n b"]
    spent: Float64[np.ndarray, "n b"]
    indices: Int64[np.ndarray, "n b q"]


def slopes(latents: Float32[np.ndarray, "t d"], code: StagedCode, stages: int) -> Float64[np.ndarray, " t"]:
    """−dD/dR of each frame, in squared error for a bit: (2 ln 2 / d) · D, as of a Gaussian source, where D is the error
    of the nearest codewords."""
    nearest = code.decode(code.search(latents, stages)).astype(np.float32)
    return 2 * LN_2 / code.dim * squares((latents - nearest)[:, None])[:, 0]


def search(
    latents: Float32[np.ndarray, "t d"],
    code: StagedCode,
    prior: FramePrior,
    *,
    stages: int,
    trade: float,
    beam: int,
) -> Int64[np.ndarray, "t q"]:
    """Indices of a segment.

    Args:
        latents: whole numbers, one row a frame.
        code, prior: of one model.
        stages: codebooks that are used, the first ones.
        trade: λ as a multiple of `slopes`.
        beam: partial sums that are kept.
    """
    found = search_paths(latents, code, prior, stages=stages, trade=trade, beam=beam)
    return found.indices[:, 0]


# Products of so few rows are too small for threads.
@threadpool_limits.wrap(limits=1, user_api="blas")
def search_paths(
    latents: Float32[np.ndarray, "t d"],
    code: StagedCode,
    prior: FramePrior,
    *,
    stages: int,
    trade: float,
    beam: int,
) -> Paths:
    """The partial sums that are kept at last; see `search`."""
    # λ of 1/256 bit, a whole number: sums of errors and bits have no rounding.
    weight = np.rint(trade / UNIT * slopes(latents, code, stages))[:, None]

    # Stage 0: a step's frames see the best codewords of those known.
    frames, dim = latents.shape
    known = np.zeros((frames, dim), dtype=np.int32)
    found: list[Paths] = []
    order: list[Int64[np.ndarray, " n"]] = []
    for distance, at in halvings(frames):
        z = latents[at, None]
        empty = Paths(z, squares(z), np.zeros((len(at), 1)), np.zeros((len(at), 1, 0), dtype=np.int64))
        hidden = prior.networks[0].hidden(first_inputs(known, at, distance))[:, None]
        step = _continued(empty, code, prior.networks[0], hidden, weight[at], beam)
        known[at] = (latents[at] - step.left[:, 0]).astype(np.int32)
        found.append(step)
        order.append(at)
    back = np.argsort(np.concatenate(order))
    paths = Paths(*(np.concatenate(part)[back] for part in zip(*found, strict=True)))

    # The others, all frames at once.
    for stage in range(1, stages):
        totals = (latents[:, None] - paths.left).astype(np.int32)
        hidden = prior.networks[stage].hidden_of_sums(totals)
        parts = [
            _continued(
                Paths(*(part[at : at + CHUNK] for part in paths)),
                code,
                prior.networks[stage],
                hidden[at : at + CHUNK],
                weight[at : at + CHUNK],
                beam,
            )
            for at in range(0, frames, CHUNK)
        ]
        paths = Paths(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    return paths


def _continued(
    paths: Paths,
    code: StagedCode,
    network: StageNetwork,
    hidden: Int64[np.ndarray, "n b h"],
    weight: Float64[np.ndarray, "n 1"],
    beam: int,
) -> Paths:
    """Paths with one more index each: of the continuations in the best groups those of the least error and bits."""
    n, width, dim = paths.left.shape
    stage, rows = paths.indices.shape[2], np.arange(n)[:, None]
    count, members = groups(code.codebooks.shape[1])

    # |r − step·c|² = |r|² − 2·step²·score: all that follows is in units of scores, the larger the better.
    unit = 2 * float(code.steps[stage]) ** 2
    before, price = paths.error / -unit, (weight / unit)[:, :, None]
    book, half = code.tables[stage]
    scores = np.empty((count * members, n * width), dtype=np.float32)
    np.matmul(book, code.near(stage, paths.left.reshape(n * width, dim)).T, out=scores[: len(book)])
    scores[: len(book)] -= half[:, None]
    scores[len(book) :] = -np.inf
    scores = scores.reshape(count, members, n * width)

    # The groups to look into: those with the best score of any member, at the cost of the group.
    hidden = hidden.reshape(n * width, -1)
    spent = paths.spent[:, :, None] + length(network.of_groups(hidden)).reshape(n, width, count)
    hopes = before[:, :, None] + scores.max(1).T.reshape(n, width, count) - price * spent
    path, group = np.divmod(best(hopes.reshape(n, -1), min(LOOK * beam, width * count)), count)

    # Their members, at the cost of both.
    row = rows * width + path
    of_member = length(network.of_members(hidden[row.ravel()], group.ravel()))
    bits = spent[rows, path, group][:, :, None] + of_member.reshape(*path.shape, members)
    gains = before[rows, path][:, :, None] + scores[group, :, row] - price * bits
    place, member = np.divmod(best(gains.reshape(n, -1), min(beam, width * len(book))), members)
    path, group, bits = path[rows, place], group[rows, place], bits[rows, place, member]

    # What they leave, exactly: a score knows it in whole steps.
    index = group * members + member
    left = paths.left[rows, path] - code.words(stage, index)
    error = squares(left)
    ranks = np.argsort(error + weight * bits, axis=1, kind="stable")
    indices = np.concatenate([paths.indices[rows, path], index[:, :, None]], axis=2)
    return Paths(left[rows, ranks], error[rows, ranks], bits[rows, ranks], indices[rows, ranks])
