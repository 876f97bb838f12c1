"""Distances between sets of features, beside torchmetrics, prdc and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from codebound.errors import InputError
from codebound.metrics import distributions


def sets(n: int, m: int, d: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator)
    x = torch.randn(n, d, generator=generator) @ mixing
    y = 1.3 * torch.randn(m, d, generator=generator) @ mixing + 0.4
    return x, y


class Flat(nn.Module):
    """What torchmetrics takes features from."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.num_features = d

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).float()


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 8), (60, 90, 3)])
def test_frechet_distance_is_that_of_torchmetrics(n: int, m: int, d: int) -> None:
    x, y = sets(n, m, d)
    metric = FrechetInceptionDistance(feature=Flat(d), input_img_size=(d, 1, 1), normalize=True)
    metric.set_dtype(torch.float64)
    for features, real in ((y, True), (x, False)):
        metric.update(features[:, :, None, None], real=real)
    assert distributions.frechet(x, y) == pytest.approx(float(metric.compute()), rel=1e-4)
    assert distributions.frechet(x, x) == pytest.approx(0, abs=1e-8)


def test_frechet_distance_of_gaussians_in_closed_form() -> None:
    """Of independent coordinates: Σ (μ−ν)² + (σ−τ)²; also with fewer vectors than dimensions nothing is below zero."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200_000, 2, generator=generator) * torch.tensor([1.0, 3.0])
    y = torch.randn(200_000, 2, generator=generator) * torch.tensor([2.0, 1.0]) + torch.tensor([1.0, 0.0])
    assert distributions.frechet(x, y) == pytest.approx(1 + 1 + 4, rel=0.02)
    few = torch.randn(5, 40, generator=generator)
    assert 0 <= distributions.frechet(few, few) < 1e-4


def test_kernel_distance_is_that_of_torchmetrics() -> None:
    x, y = sets(120, 120, 6)
    metric = KernelInceptionDistance(feature=Flat(6), subsets=1, subset_size=120, normalize=True)
    for features, real in ((y, True), (x, False)):
        metric.update(features[:, :, None, None], real=real)
    assert distributions.kernel_distance(x, y) == pytest.approx(float(metric.compute()[0]), rel=1e-4)


def test_kernel_distance_is_unbiased_and_made_in_parts(monkeypatch) -> None:
    found = [distributions.kernel_distance(*(torch.randn(40, 3) for _ in range(2))) for _ in range(200)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 200**0.5
    assert min(found) < 0
    x, y = sets(50, 70, 4)
    whole = distributions.kernel_distance(x, y), distributions.cover(x, y)
    monkeypatch.setattr(distributions, "ROWS", 7)
    assert distributions.kernel_distance(x, y) == pytest.approx(whole[0])
    assert distributions.cover(x, y) == whole[1]


@pytest.mark.parametrize(("n", "m", "d", "nearest"), [(150, 90, 4, 5), (80, 200, 2, 3)])
def test_cover_is_that_of_prdc(n: int, m: int, d: int, nearest: int) -> None:
    from prdc import compute_prdc

    x, y = sets(n, m, d, seed=3)
    expected = compute_prdc(real_features=y.numpy(), fake_features=x.numpy(), nearest_k=nearest)
    found = distributions.cover(x, y, nearest)
    assert found._asdict() == pytest.approx(expected, abs=1e-4)


def test_class_score() -> None:
    sure = torch.eye(4).repeat(3, 1)
    assert distributions.class_score(sure) == pytest.approx(4)
    assert distributions.class_score(torch.full((5, 4), 0.25)) == pytest.approx(1)
    assert distributions.class_score(sure[::4]) == pytest.approx(1)  # sure, but of one class only
    p = torch.softmax(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), 1)
    from torchmetrics.image.inception import InceptionScore

    metric = InceptionScore(feature=Flat(4), splits=1)
    metric.update(p.log()[:, :, None, None])
    assert distributions.class_score(p) == pytest.approx(float(metric.compute()[0]), rel=1e-4)
    with pytest.raises(InputError, match="add up to 1"):
        distributions.class_score(torch.ones(3, 2))


def test_the_half_sample_error_is_the_spread_over_samples() -> None:
    def measure(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.stack([(x.mean() - y.mean()).double()])

    x, y = torch.randn(400, 1), torch.randn(400, 1)
    error = float(distributions.half_sample_error(measure, x, y))
    assert error == pytest.approx((2 / 400) ** 0.5, rel=0.4)
    assert float(distributions.half_sample_error(measure, x, y)) == error


def test_labellings_beside_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    one = torch.randint(5, (300,), generator=generator)
    other = torch.where(
        torch.rand(300, generator=generator) < 0.6, one, torch.randint(7, (300,), generator=generator)
    )
    expected = normalized_mutual_info_score(one, other), adjusted_rand_score(one, other)
    assert distributions.normalised_mutual_information(one, other) == pytest.approx(expected[0])
    assert distributions.adjusted_rand_index(one, other) == pytest.approx(expected[1])
    assert distributions.normalised_mutual_information(one, (one + 2) % 5) == pytest.approx(1)
    assert distributions.adjusted_rand_index(one, (one + 2) % 5) == pytest.approx(1)
    assert distributions.adjusted_rand_index(torch.zeros(4).long(), torch.zeros(4).long()) == 1


def test_what_can_not_be_compared_is_refused() -> None:
    x, y = sets(30, 30, 4)
    with pytest.raises(InputError, match=r"features of one size are needed.*\[30, 4\] and \[30, 3\]"):
        distributions.frechet(x, y[:, :3])
    with pytest.raises(InputError, match="at least 2 samples"):
        distributions.kernel_distance(x[:1], y)
    with pytest.raises(InputError, match="finite"):
        distributions.frechet(x.log(), y)
    with pytest.raises(InputError, match="more than 5 samples"):
        distributions.cover(x[:5], y)
    with pytest.raises(InputError, match="two labellings of the same things"):
        distributions.adjusted_rand_index(torch.zeros(3).long(), torch.zeros(4).long())
