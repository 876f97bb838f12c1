"""PCA as a fixed encoder and decoder."""

import pytest
import torch

from codebound.errors import InputError
from codebound.nets.linear import PCA


def test_it_finds_the_axes_of_most_variance_and_inverts_on_them() -> None:
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    x = torch.randn(5000, 6, generator=generator) * torch.tensor([5.0, 3.0, 1.0, 0.1, 0.1, 0.1]) @ axes.T + 7
    encoder = PCA.fit(x, 3)
    overlap = (encoder.axes.T @ axes[:, :3]).abs()
    assert torch.allclose(overlap, torch.eye(3), atol=0.05)
    z = encoder.encode(x)
    assert z.mean(0).abs().max() < 1e-3
    assert torch.allclose(encoder.encode(encoder.decode(z)), z, atol=1e-4)
    floor = (x - encoder.decode(z)).square().sum(-1).mean()
    assert float(floor) == pytest.approx(0.03, rel=0.05)


def test_nothing_in_it_trains() -> None:
    assert not list(PCA.fit(torch.randn(50, 4), 2).parameters())


def test_more_dimensions_than_columns_or_than_rank_are_refused() -> None:
    x = torch.randn(100, 3)
    with pytest.raises(InputError, match="dim=4"):
        PCA.fit(x, 4)
    flat = torch.cat([x, x[:, :1]], dim=1)
    with pytest.raises(InputError, match=r"singular: 3 directions .* dim=4"):
        PCA.fit(flat, 4)
