"""Regularisers against the naive formulas."""

import pytest
import torch

from codebound.errors import InputError
from codebound.quantize import objectives


def test_assignment_entropy_is_the_naive_formula_with_its_gradient(monkeypatch) -> None:
    monkeypatch.setattr(objectives, "CHUNK", 30)  # several chunks
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(5, 7, 3, generator=generator, dtype=torch.float64).requires_grad_()
    c = torch.randn(6, 3, generator=generator, dtype=torch.float64).requires_grad_()
    each, mean = objectives.assignment_entropy(z, c, 0.6)
    q = (-(z.reshape(-1, 1, 3) - c).square().sum(-1) / 0.6).softmax(-1)
    wanted = torch.special.entr(q).sum(-1).mean(), torch.special.entr(q.mean(0)).sum()
    assert float(each.detach()) == pytest.approx(float(wanted[0].detach()))
    assert float(mean.detach()) == pytest.approx(float(wanted[1].detach()))
    got = torch.autograd.grad(each - mean, (z, c))
    for a, b in zip(got, torch.autograd.grad(wanted[0] - wanted[1], (z, c)), strict=True):
        assert torch.allclose(a, b, atol=1e-9)


def test_orthogonality_by_hand_and_at_its_minimum() -> None:
    assert float(objectives.orthogonality(torch.eye(4) * 3)) == pytest.approx(0.0, abs=1e-6)
    two = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert float(objectives.orthogonality(two)) == pytest.approx(0.5)
    c = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    cosine = torch.nn.functional.cosine_similarity(c.unsqueeze(1), c, dim=-1)
    wanted = (cosine.square().sum() - 50) / (50 * 49)
    assert float(objectives.orthogonality(c)) == pytest.approx(float(wanted), rel=1e-4)


def test_a_large_codebook_is_sampled() -> None:
    c = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    sampled = objectives.orthogonality(c, sample=250, generator=torch.Generator().manual_seed(1))
    assert float(sampled) == pytest.approx(float(objectives.orthogonality(c)), rel=0.1)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="temperature"):
        objectives.assignment_entropy(torch.ones(3, 2), torch.ones(4, 2), -1.0)
    with pytest.raises(InputError, match="at least one token"):
        objectives.assignment_entropy(torch.ones(0, 2), torch.ones(4, 2))
