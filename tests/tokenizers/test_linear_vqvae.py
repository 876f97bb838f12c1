"""The linear-Gaussian VQ-VAE."""

import pytest
import torch

from codebound import VectorQuantizer
from codebound.data.linear_gaussian import LinearGaussian
from codebound.errors import InputError
from codebound.nets.linear import PCA
from codebound.quantize.update import Gradient
from codebound.tokenizers.linear import LinearVQVAE


@pytest.fixture
def model() -> LinearVQVAE:
    source = LinearGaussian.draw("isotropic", 16, 4, seed=0)
    quantizer = VectorQuantizer(4, 32, update=Gradient())
    return LinearVQVAE(PCA(torch.tensor(source.principal_axes.copy(), dtype=torch.float32)), quantizer)


@pytest.fixture
def x() -> torch.Tensor:
    source = LinearGaussian.draw("isotropic", 16, 4, seed=0)
    return source.sample(2000, generator=torch.Generator().manual_seed(1))


def test_reconstruction_is_the_codes_distortion_and_the_dropped_dimensions(model, x) -> None:
    model.quantizer.init_(model.network.encode(x))
    out = model.eval()(x)
    z = model.network.encode(x)
    distortion = (z - out.quantized.z_q).square().sum(-1).mean()
    floor = (x - model.network.decode(z)).square().sum(-1).mean()
    assert float(out.reconstruction) == pytest.approx(float(distortion + floor), rel=1e-4)
    assert torch.equal(model.decode(model.encode(x)), out.x_hat)


def test_the_codebook_receives_its_gradient_from_the_codebook_term_alone(model, x) -> None:
    model.quantizer.init_(model.network.encode(x))
    table = model.quantizer.codebook.table
    out = model(x)
    assert table.grad is None
    assert not out.reconstruction.requires_grad  # straight through a fixed encoder: a constant
    out.loss.backward()
    assert table.grad.abs().max() > 0
    through_loss = table.grad.clone()
    table.grad = None
    model(x).quantized.losses["codebook"].backward()
    assert torch.allclose(table.grad, through_loss)


def test_sizes_must_fit(model) -> None:
    with pytest.raises(InputError, match="4 latent dimensions, the quantizer 5"):
        LinearVQVAE(model.network, VectorQuantizer(5, 8))
