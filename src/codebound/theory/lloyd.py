"""Lloyd's algorithm: the scalar optimum for a Gaussian, and codebooks for samples.

The reference that training is compared with. Distortion is squared error summed over the vector.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import scipy
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from codebound import arguments, search
from codebound.errors import InputError
from codebound.progress import Steps

LARGE = 2**24  # from so many distances on, an iteration looks only at codewords that can win a sample


@dataclass(frozen=True, eq=False)
class ScalarQuantizer:
    """Ascending `levels`, the `thresholds` between them, distortion, and entropy of the index in bits."""

    levels: Float[np.ndarray, " n"]
    thresholds: Float[np.ndarray, " n-1"]
    distortion: float
    entropy_bits: float


@dataclass(frozen=True, eq=False)
class LloydResult:
    """A codebook, its distortion on the samples, and how Lloyd's algorithm got there.

    `history` is the distortion before the first iteration and after each; its last entry is `distortion`.
    `converged` tells whether the last iteration gained no more than the tolerance. Leading axes are runs.
    """

    codebook: Float[Tensor, "*runs k d"]
    distortion: Float[Tensor, "*runs"]
    iterations: int
    converged: Bool[Tensor, "*runs"]
    history: Float[Tensor, " steps *runs"]


def normal_cells(thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability and centroid of each cell of N(0, 1), and its density at all edges, ±∞ included."""
    edges = np.concatenate([[-np.inf], thresholds, [np.inf]])
    density = np.exp(-(edges**2) / 2) / math.sqrt(2 * math.pi)
    # Φ(b) − Φ(a) cancels in the right tail; mirror those cells to the left one.
    low, high = edges[:-1], edges[1:]
    mirrored = low > 0
    mass = scipy.special.ndtr(np.where(mirrored, -low, high)) - scipy.special.ndtr(
        np.where(mirrored, -high, low)
    )
    return mass, (density[:-1] - density[1:]) / mass, density


def _newton_step(levels: np.ndarray) -> np.ndarray:
    """Levels after one Newton step on `level − centroid of its cell = 0`, whose Jacobian is tridiagonal."""
    thresholds = (levels[:-1] + levels[1:]) / 2
    mass, centroid, density = normal_cells(thresholds)
    # ∂centroid/∂(upper edge) = φ(edge)(edge − centroid)/mass, and each edge moves by half of either level.
    up = 0.5 * density[1:-1] * (thresholds - centroid[:-1]) / mass[:-1]
    down = 0.5 * density[1:-1] * (centroid[1:] - thresholds) / mass[1:]
    bands = np.zeros((3, len(levels)))
    bands[0, 1:], bands[2, :-1] = -up, -down
    bands[1] = 1.0
    bands[1, :-1] -= up
    bands[1, 1:] -= down
    return levels - scipy.linalg.solve_banded((1, 1), bands, levels - centroid)


def lloyd_max(levels: int, variance: float | int = 1.0) -> ScalarQuantizer:
    """Scalar quantizer of least distortion for N(0, σ²): thresholds midway, levels at their cells' centroids.

    Lloyd 1982, Max 1960 (eqs. 4 and 5). Unique because the density is log-concave (Fleischer 1964).
    Newton's method on the centroid equations from the companding density φ^(1/3), with Lloyd's own step
    where Newton's would leave the order; cell moments in closed form. The distortion is σ² − Σ
    p_j·level_j².
    Raises InputError unless 1 <= levels <= 4096 and the variance is positive.
    """
    count = arguments.count("levels", levels)
    if count > 4096:
        raise InputError(f"levels is {count}; at most 4096 are accepted")
    scale = math.sqrt(arguments.number("variance", variance, above=0))
    points = math.sqrt(3) * scipy.special.ndtri((np.arange(count) + 0.5) / count)
    for _ in range(100):
        step = _newton_step(points)
        if not (np.diff(step) > 0).all():
            step = normal_cells((points[:-1] + points[1:]) / 2)[1]
        step = (step - step[::-1]) / 2  # the optimum is symmetric; rounding need not be
        moved, points = np.abs(step - points).max(), step
        if moved < 1e-13:
            break
    thresholds = (points[:-1] + points[1:]) / 2
    mass, centroid, _ = normal_cells(thresholds)
    # E(X − level)² cell by cell would cancel less, but 1 − Σ p·level² keeps 9 digits at 4096 levels.
    distortion = 1 - float((mass * centroid**2).sum())
    entropy = float(scipy.special.entr(mass).sum() / math.log(2))
    return ScalarQuantizer(scale * points, scale * thresholds, scale**2 * distortion, entropy)


def _offspring(
    z: Tensor, codebook: Tensor, indices: Tensor, counts: Tensor
) -> tuple[Float[Tensor, "*runs k d"], Float[Tensor, "*runs k"]]:
    """One new codeword per cell by splitting it, worst cell first, and the cells' squared errors.

    The new one stands one standard deviation beside the codeword along the coordinate in which the cell is
    widest, which lowers the distortion at once where the cell has points on both sides; the old codeword
    stays.
    """
    own = torch.take_along_dim(codebook, indices.unsqueeze(-1), dim=-2)
    _, squares = search.assignment_sums((z - own).square(), indices, codebook.shape[-2])
    spread = (squares / counts.clamp(min=1).unsqueeze(-1)).sqrt()
    widest = spread.argmax(dim=-1, keepdim=True)
    shift = torch.zeros_like(spread).scatter(-1, widest, spread.gather(-1, widest))
    contribution, order = squares.sum(-1).sort(dim=-1, descending=True, stable=True)
    placed = (codebook + shift).to(codebook.dtype)
    return torch.take_along_dim(placed, order.unsqueeze(-1), dim=-2), contribution


def _refill(z: Tensor, codebook: Tensor, indices: Tensor, counts: Tensor) -> Tensor:
    """`codebook` with its e-th empty codeword replaced by the offspring of the e-th worst cell."""
    empty = counts == 0
    offspring, contribution = _offspring(z, codebook, indices, counts)
    rank = (empty.cumsum(-1) - 1).clamp(min=0)
    worth = empty & (contribution.gather(-1, rank) > 0)
    return torch.where(worth.unsqueeze(-1), torch.take_along_dim(offspring, rank.unsqueeze(-1), -2), codebook)


class _Cells(NamedTuple):
    """Samples assigned to codewords: indices, and the counts and sums of the cells."""

    indices: Int64[Tensor, "*runs n"]
    counts: Float[Tensor, "*runs k"]
    sums: Float[Tensor, "*runs k d"]

    @staticmethod
    def of(z: Tensor, codebook: Tensor, indices: Tensor | None = None) -> "_Cells":
        if indices is None:
            indices = search.nearest(z, codebook, certify=search.is_long(z, codebook))
        return _Cells(indices, *search.assignment_sums(z, indices, codebook.shape[-2]))

    def moved(self, z: Tensor, before: Tensor, after: Tensor) -> "_Cells":
        """The cells of `after`, where these are the cells of `before`."""
        large = after.ndim == 2 and z.shape[0] * after.shape[0] >= LARGE
        return _Cells.of(z, after, _reassigned(z, before, after, self.indices) if large else None)

    def distortion(self, z: Tensor, codebook: Tensor, energy: Tensor) -> Tensor:
        """Mean squared error, from the cells' sums: Σ|z − c|² = Σ|z|² − 2 Σ c_j·s_j + Σ N_j |c_j|²."""
        c = codebook.double()
        spread = (c * (self.counts.unsqueeze(-1) * c - 2 * self.sums)).sum((-1, -2))
        error = energy + spread
        if bool((error < 1e-6 * energy).any()):  # the difference would have lost too many of its digits
            return search.distortion(z, codebook, self.indices)
        return error / z.shape[-2]


def _reassigned(
    z: Float[Tensor, "n d"], before: Float[Tensor, "k d"], after: Float[Tensor, "k d"], indices: Tensor
) -> Int64[Tensor, " n"]:
    """Nearest of `after`, where `indices` are the nearest of `before`: late iterations move few codewords.

    A codeword that stayed can't come nearer to a sample. So a sample whose own codeword came nearer, or stayed, can
    only be won by one that moved; one whose own codeword went away can be won by any.
    """
    moved = (after != before).any(-1)
    near, far = _squared_errors(z, after, indices), _squared_errors(z, before, indices)
    lost = near > far
    indices = indices.clone()
    indices[lost] = search.nearest(z[lost], after, certify=search.is_long(z, after))

    # The others keep their codeword or go to one that moved; of two as near the lower index wins.
    kept, at = (~lost).nonzero().squeeze(1), moved.nonzero().squeeze(1)
    if at.numel() > 0:
        rows = z[kept]
        rival = at[search.nearest(rows, after[at], certify=search.is_long(z, after))]
        error, own = _squared_errors(rows, after, rival), near[kept]
        won = (error < own) | ((error == own) & (rival < indices[kept]))
        indices[kept[won]] = rival[won]
    return indices


def _squared_errors(z: Tensor, codebook: Tensor, indices: Tensor) -> Float[Tensor, " n"]:
    return (z - codebook.index_select(0, indices)).square().sum(-1)


def _iterate(z: Tensor, codebook: Tensor, cells: _Cells, empty: str) -> Tensor:
    """One iteration: codewords to the centroids of their cells, empty ones as `empty` says."""
    counts = cells.counts
    centroids = (cells.sums / counts.clamp(min=1).unsqueeze(-1)).to(codebook.dtype)
    moved = torch.where((counts > 0).unsqueeze(-1), centroids, codebook)
    if empty == "split" and bool((counts == 0).any()):
        return _refill(z, moved, cells.indices, counts)
    return moved


def _where(runs: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """`yes` in those runs, `no` in the others."""
    return torch.where(runs[(..., *[None] * (yes.ndim - runs.ndim))], yes, no)


def lloyd(
    z: Float[Tensor, "*zruns n d"],
    codebook: Float[Tensor, "*runs k d"],
    *,
    iterations: int = 100,
    tolerance: float | int = 1e-6,
    empty: Literal["split", "keep"] = "split",
) -> LloydResult:
    """Lloyd's algorithm: assign each sample to its nearest codeword, move codewords to their cells' means.

    c_j = Σ_{i: j(i)=j} z_i / N_j until the distortion falls by no more than `tolerance` relative (Lloyd
    1982; Linde, Buzo, Gray 1980). The distortion never rises. A codeword whose cell is empty is placed
    beside the codeword of the cell that contributes most (`"split"`, deterministic; the old codeword stays,
    so this cannot raise the distortion either), or left where it is (`"keep"`, the textbook's iteration).
    With leading axes on `codebook` many runs go in one batch, on shared samples `[n, d]` or each on its
    own, until all have converged. Distortion and history are float64. Raises InputError for shapes that do
    not fit, no samples, or no iterations.
    """
    arguments.count("iterations", iterations)
    tolerance = arguments.number("tolerance", tolerance, least=0)
    if z.ndim < 2 or z.shape[-2] == 0:
        raise InputError(f"z has shape {list(z.shape)}; [..., n, d] with n >= 1 is accepted")
    if empty not in ("split", "keep"):
        raise InputError(f"empty is {empty!r}; 'split' or 'keep' is accepted")
    low, high = map(float, z.aminmax())
    if not (math.isfinite(low) and math.isfinite(high) and bool(codebook.isfinite().all())):
        raise InputError("z or codebook has NaN or infinite entries; finite ones are accepted")
    if not (z.is_floating_point() and codebook.is_floating_point()):
        raise InputError(f"z and codebook must be floating-point; got {z.dtype} and {codebook.dtype}")
    z, codebook = z.detach(), codebook.detach()
    size = max(-low, high)
    if size > 0 and not 1e-15 <= size <= 1e15:  # squares would leave float32
        raise InputError(f"z has entries up to {size:.3g}; give it in a unit in which they are 1e-15 to 1e15")
    energy = torch.stack([part.double().square().sum((-1, -2)) for part in z.split(4096, dim=-2)]).sum(0)
    cells = _Cells.of(z, codebook)
    history = [cells.distortion(z, codebook, energy)]
    converged = torch.zeros_like(history[0], dtype=torch.bool)
    steps = Steps("k-means", iterations)
    while len(history) <= iterations and not bool(converged.all()):
        candidate = _iterate(z, codebook, cells, empty)
        candidate_cells = cells.moved(z, codebook, candidate)
        distortion = candidate_cells.distortion(z, candidate, energy)
        before = history[-1]
        # At the fixed point rounding can raise the distortion in its last digit: then the old codebook stays.
        better = distortion < before
        codebook = _where(better, candidate, codebook)
        cells = _Cells(*(_where(better, *pair) for pair in zip(candidate_cells, cells, strict=True)))
        history.append(torch.where(better, distortion, before))
        converged = before - history[-1] <= tolerance * before
        steps.done(len(history) - 1)
    return LloydResult(codebook, history[-1], len(history) - 1, converged, torch.stack(history))


def lbg(
    z: Float[Tensor, "n d"], codebook_size: int, *, iterations: int = 100, tolerance: float | int = 1e-6
) -> LloydResult:
    """Codebook by splitting: from the mean of the samples, double by splitting, then Lloyd, at each size.

    Linde, Buzo, Gray 1980, section "Initial guess by splitting". Deterministic. A size that is no power of
    two ends on splitting only the cells that contribute most. The result is the last stage's; intermediate
    stages stop at a relative gain of 1e-3, for the next split undoes finer ones.
    Raises InputError for a size below 1 or above the number of samples, or what `lloyd` refuses.
    """
    size = arguments.count("codebook_size", codebook_size)
    if z.shape[0] < size:
        raise InputError(f"codebook_size is {size}; at most the number of samples, {z.shape[0]}, is accepted")
    z = z.detach()
    codebook = z.mean(dim=0, keepdim=True)
    while codebook.shape[0] < size:
        codebook = lloyd(z, codebook, iterations=iterations, tolerance=max(tolerance, 1e-3)).codebook
        indices = search.nearest(z, codebook)
        counts, _ = search.assignment_sums(z, indices, codebook.shape[0])
        offspring, _ = _offspring(z, codebook, indices, counts)
        codebook = torch.cat([codebook, offspring[: size - codebook.shape[0]]])
    return lloyd(z, codebook, iterations=iterations, tolerance=tolerance)
