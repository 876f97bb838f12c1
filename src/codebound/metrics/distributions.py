"""How far a set of feature vectors is from another, and how much of it is covered: one definition of each measure.

All are functions of two sets of features; which features they are decides what the figures mean, so a figure is named
by its feature space and number of samples, never by the name of one that needs Inception's weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from codebound.errors import InputError

NEAREST = 5  # neighbours that make a ball: Naeem et al. 2020
ROWS = 1024  # of a matrix of distances that are held at once
HALVES = 40  # half-samples behind an interval


class Cover(NamedTuple):
    """What of one set lies in the other's balls (Kynkäänniemi et al. 2019; Naeem et al. 2020).

    A ball is around a vector, as large as the distance to its k-th nearest neighbour in its own set.

    Attributes:
        precision: share of samples in some ball of the reference.
        recall: share of the reference in some ball of the samples.
        density: balls of the reference that a sample lies in, divided by k; may be above 1.
        coverage: share of the reference's balls that hold a sample.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def frechet(samples: Float[Tensor, "n d"], reference: Float[Tensor, "m _"]) -> float:
    """Fréchet (1957) distance of the two sets' Gaussians: |μ−ν|² + tr(Σ + Τ − 2(ΣΤ)^½), unbiased covariances.

    Its expectation falls with the number of samples, so compare equal numbers only.

    Raises:
        InputError: fewer than 2 vectors, other dimensions, or numbers that are not finite.
    """
    x, y = _checked(samples, reference)
    sigma, tau = torch.cov(x.T).reshape(x.shape[1], -1), torch.cov(y.T).reshape(x.shape[1], -1)

    # tr (ΣΤ)^½ by the symmetric Σ^½ Τ Σ^½, which has the same eigenvalues and none below 0 but for rounding.
    values, vectors = torch.linalg.eigh(sigma)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ tau @ root).clamp_min(0).sqrt().sum()
    distance = (x.mean(0) - y.mean(0)).square().sum() + sigma.trace() + tau.trace() - 2 * cross
    return max(0.0, float(distance))  # rounding alone can take it below


def kernel_distance(samples: Float[Tensor, "n d"], reference: Float[Tensor, "m _"]) -> float:
    """Squared maximum mean discrepancy under (xᵀy/d + 1)³ (Bińkowski et al. 2018): unbiased, so it may be below 0.

    Raises:
        InputError: as `frechet`.
    """
    x, y = _checked(samples, reference)

    def kernel_sum(a: Tensor, b: Tensor, skip_own: bool) -> Tensor:
        total = a.new_zeros(())
        for start in range(0, len(a), ROWS):
            values = (a[start : start + ROWS] @ b.T / a.shape[1] + 1) ** 3
            total = total + values.sum() - (values.diagonal(start).sum() if skip_own else 0)
        return total

    n, m = len(x), len(y)
    own = kernel_sum(x, x, True) / (n * (n - 1)) + kernel_sum(y, y, True) / (m * (m - 1))
    return float(own - 2 * kernel_sum(x, y, False) / (n * m))


def class_score(probabilities: Float[Tensor, "n k"]) -> float:
    """exp of the mean divergence of p(class | sample) from its mean over the samples (Salimans et al. 2016): 1 … k.

    High where a classifier is sure of each sample and the samples are of all classes. It looks at no reference.

    Raises:
        InputError: no samples, or rows that are no probabilities.
    """
    p = probabilities.double()
    if p.ndim != 2 or not len(p) or bool((p < 0).any()) or not bool(((p.sum(1) - 1).abs() < 1e-4).all()):
        raise InputError(
            f"probabilities must be rows [n, k] that add up to 1; got {list(probabilities.shape)}"
        )
    mean = p.mean(0, keepdim=True)
    return float((torch.xlogy(p, p) - torch.xlogy(p, mean)).sum(1).mean().exp())


def cover(samples: Float[Tensor, "n d"], reference: Float[Tensor, "m _"], nearest: int = NEAREST) -> Cover:
    """Precision, recall, density and coverage of the samples.

    Raises:
        InputError: as `frechet`, or no more vectors than `nearest` in a set.
    """
    x, y = _checked(samples, reference)
    if min(len(x), len(y)) <= nearest:
        raise InputError(
            f"more than {nearest} samples and reference vectors are needed; got {len(x)} and {len(y)}"
        )
    sample_radii, radii = _radii(x, nearest), _radii(y, nearest)

    # Reference by sample, some rows at a time: who lies in whose ball.
    in_some, balls = torch.zeros(len(x), dtype=torch.bool), torch.zeros(len(x))
    recalled, covered = [], []
    for start in range(0, len(y), ROWS):
        distances = torch.cdist(y[start : start + ROWS], x)
        inside = distances < radii[start : start + ROWS, None]
        in_some |= inside.any(0).cpu()
        balls += inside.sum(0).cpu()
        recalled.append((distances < sample_radii[None]).any(1))
        covered.append(distances.amin(1) < radii[start : start + ROWS])
    return Cover(
        float(in_some.double().mean()),
        float(torch.cat(recalled).double().mean()),
        float(balls.double().mean()) / nearest,
        float(torch.cat(covered).double().mean()),
    )


def nearest_distances(samples: Float[Tensor, "n d"], reference: Float[Tensor, "m _"]) -> Float[Tensor, " n"]:
    """Of each sample, the distance to the nearest vector of the reference."""
    x, y = samples.double(), reference.double()
    return torch.cat([torch.cdist(x[i : i + ROWS], y).amin(1) for i in range(0, len(x), ROWS)])


def half_sample_error(
    measure: Callable[[Tensor, Tensor], Float[Tensor, " k"]],
    samples: Float[Tensor, "n d"],
    reference: Float[Tensor, "m _"],
    seed: int = 0,
) -> Float[Tensor, " k"]:
    """Standard error of figures of two sets: their spread over random halves of both, drawn without replacement.

    A bootstrap without replacement (delete-half jackknife; Shao & Wu 1989): a vector that is drawn twice would be its
    own nearest neighbour, and would count in unbiased estimates as if it were two.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(HALVES):
        halves = [
            torch.randperm(len(part), generator=generator)[: len(part) // 2] for part in (samples, reference)
        ]
        found.append(measure(samples[halves[0]], reference[halves[1]]))
    return torch.stack(found).std(0)


def normalised_mutual_information(one: Int64[Tensor, " n"], other: Int64[Tensor, " _"]) -> float:
    """2 I(a; b) / (H(a) + H(b)) of two labellings: 0 if independent, 1 if equal up to names."""
    joint = _table(one, other)
    joint = joint / joint.sum()
    rows, columns = joint.sum(1), joint.sum(0)
    entropies = [-float(torch.xlogy(p, p).sum()) for p in (rows, columns, joint.flatten())]
    total = entropies[0] + entropies[1]
    return 1.0 if total == 0 else 2 * (total - entropies[2]) / total


def adjusted_rand_index(one: Int64[Tensor, " n"], other: Int64[Tensor, " _"]) -> float:
    """Agreement of two labellings on pairs (Hubert & Arabie 1985): 0 in expectation if independent, 1 if equal."""
    table = _table(one, other)

    def pairs(counts: Tensor) -> float:
        return float((counts * (counts - 1) / 2).sum())

    rows, columns, both = pairs(table.sum(1)), pairs(table.sum(0)), pairs(table)
    expected = rows * columns / pairs(table.sum().reshape(1))
    return 1.0 if (rows + columns) / 2 == expected else (both - expected) / ((rows + columns) / 2 - expected)


def _table(one: Tensor, other: Tensor) -> Float[Tensor, "a b"]:
    """How often each pair of labels occurs."""
    if len(one) != len(other) or len(one) < 2:
        raise InputError(
            f"two labellings of the same things, at least 2, are needed; got {len(one)} and {len(other)}"
        )
    width = int(other.max()) + 1
    counts = (one * width + other).bincount(minlength=(int(one.max()) + 1) * width)
    return counts.double().reshape(-1, width)


def _radii(x: Float[Tensor, "n d"], nearest: int) -> Float[Tensor, " n"]:
    """The distance of each vector to its k-th nearest neighbour, itself left out."""
    parts = [torch.cdist(x[i : i + ROWS], x) for i in range(0, len(x), ROWS)]
    return torch.cat([part.kthvalue(nearest + 1, dim=1).values for part in parts])


def _checked(samples: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64.

    Raises:
        InputError: fewer than 2 vectors, other dimensions, or numbers that are not finite.
    """
    if samples.ndim != 2 or reference.ndim != 2 or samples.shape[1] != reference.shape[1]:
        raise InputError(
            f"features of one size are needed, [n, d] and [m, d]; got {list(samples.shape)} and {list(reference.shape)}"
        )
    if min(len(samples), len(reference)) < 2:
        raise InputError(
            f"at least 2 samples and 2 of the reference are needed; got {len(samples)} and {len(reference)}"
        )
    if not bool(samples.isfinite().all() and reference.isfinite().all()):
        raise InputError("features must be finite")
    return samples.double(), reference.double()
