"""The linear path beside the networks: an orthonormal block transform to begin with."""

import pytest
import torch

from codebound import VectorQuantizer
from codebound.nets.patch import block_basis
from codebound.tokenizers import ImageTokenizer


@pytest.mark.parametrize(("channels", "size"), [(1, 1), (1, 4), (3, 2), (3, 8)])
def test_the_basis_is_orthonormal_and_complete(channels: int, size: int) -> None:
    count = channels * size**2
    basis = block_basis(channels, size, count).flatten(1).double()
    assert torch.allclose(basis @ basis.T, torch.eye(count, dtype=torch.float64), atol=1e-6)
    assert torch.equal(block_basis(channels, size, count + 2)[count:], torch.zeros(2, channels, size, size))


def test_the_first_functions_are_the_smoothest() -> None:
    basis = block_basis(3, 8, 3)
    assert torch.allclose(basis[0], basis[0].flatten()[0].expand(3, 8, 8))  # the mean of luminance
    slopes = basis[1:].sum(1)  # then one along each side
    assert any(torch.allclose(slope, slope[:1].expand(8, 8), atol=1e-6) for slope in slopes)
    assert any(torch.allclose(slope, slope[:, :1].expand(8, 8), atol=1e-6) for slope in slopes)
    kept = block_basis(1, 8, 64) * torch.linspace(0, 1, 8).repeat(8, 1)
    energy = kept.sum((1, 2, 3)).square()
    assert energy[:10].sum() > 0.99 * energy.sum()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_tokenizer_with_a_linear_path_begins_as_the_transform(channels: int) -> None:
    torch.manual_seed(0)
    dim = channels * 16
    tokenizer = ImageTokenizer(
        VectorQuantizer(dim, 8), channels=channels, width=8, depth=1, linear=True
    ).eval()
    x = torch.rand(2, channels, 12, 20)
    z = tokenizer.encoder(tokenizer.to_network(x))
    assert torch.allclose((tokenizer.decoder(z) + 1) / 2, x, atol=1e-5)
    assert torch.allclose(z.square().sum(), (2 * x - 1).square().sum(), rtol=1e-5)


def test_both_paths_are_trained() -> None:
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(VectorQuantizer(4, 8), width=8, depth=1, linear=True)
    x = tokenizer.to_network(torch.rand(2, 3, 16, 16))
    optimizer = torch.optim.SGD(tokenizer.parameters(), lr=1e-4)
    for _ in range(3):  # the networks begin at zero: their inner layers move from the second step on
        optimizer.zero_grad()
        tokenizer(x).loss.backward()
        optimizer.step()
    for name in ("encoder.network.0", "encoder.linear", "decoder.network.0", "decoder.linear"):
        assert tokenizer.get_submodule(name).get_parameter("weight").grad.abs().max() > 0, name
