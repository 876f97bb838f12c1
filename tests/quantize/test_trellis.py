"""`Trellis`: what it reaches beside the bound, one path through long sequences, training, and what it refuses."""

import math

import pytest
import torch

from codebound.errors import InputError
from codebound.quantize import Trellis, trellis
from codebound.quantize.trellis_aim import entropy_bits
from codebound.quantize.trellis_search import HALF
from codebound.quantize.viterbi import machine
from codebound.theory.gaussian import gap_db, spectrum, water_filling


def gaussian(count, dim, seed=0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def measured(quantizer, z):
    """Squared error and entropy in bits, of a vector each."""
    indices = quantizer.eval().encode(z)
    error = (quantizer.decode(indices) - z).double().square().sum(-1).mean()
    return float(error), entropy_bits(indices - HALF)


def gap(z, error, bits):
    """dB above the rate-distortion function of the Gaussian with z's covariance."""
    spread = spectrum(torch.cov(z.double().t(), correction=0).reshape(z.shape[1], -1).numpy())
    return gap_db(error, water_filling(spread, bits).distortion)


@pytest.mark.parametrize(
    ("states", "rate", "most"),
    [(8, 2.7, 0.47), (8, 1.0, 0.47), (8, 0.5, 0.46), pytest.param(32, 1.6, 0.345, marks=pytest.mark.slow)],
)
def test_near_the_bound_at_the_rate_asked_for(states, rate, most):
    z = gaussian(1 << 16, 1)
    quantizer = Trellis(1, rate=rate, states=states)
    quantizer.init_(z)
    error, bits = measured(quantizer, z)
    assert bits == pytest.approx(rate, rel=0.005)
    assert gap(z, error, bits) < most


def test_the_distortion_asked_for_on_a_spectrum():
    z = gaussian(1 << 13, 8) * torch.tensor([1 / (i + 1) for i in range(8)])
    z = z @ torch.linalg.qr(gaussian(8, 8, 1))[0] + 3.0
    quantizer = Trellis(8, distortion=0.05)
    quantizer.init_(z)
    error, bits = measured(quantizer, z)
    assert error == pytest.approx(0.05, rel=0.005)
    assert gap(z, error, bits) < 0.48
    code = quantizer.code
    assert code.rates.sum() == pytest.approx(bits, rel=0.02)
    assert (code.rates[:-1] >= code.rates[1:]).all()


def test_one_path_through_a_sequence_of_many_pieces():
    z = gaussian(3000, 2)
    quantizer = Trellis(2, rate=4.0, transform=None).eval()
    levels = (quantizer.encode(z) - HALF).flatten().tolist()
    following, state = machine(8, torch.device("cpu")).following.tolist(), 0
    for level in levels:
        assert level & 1 == state & 1
        state = following[state][(level >> 1) & 1]


def test_sequences_side_by_side_are_coded_as_each_alone():
    z = gaussian(2 * 700, 3).view(2, 700, 3)
    mask = torch.arange(700) < torch.tensor([[700], [431]])
    quantizer = Trellis(3, distortion=0.2).eval()
    both = quantizer.encode(z, mask=mask)
    assert torch.equal(both[0], quantizer.encode(z[0]))
    assert torch.equal(both[1, :431], quantizer.encode(z[1, :431]))


def test_dither_makes_an_error_that_does_not_depend_on_the_latents():
    z = gaussian(1 << 15, 1)
    quantizer = Trellis(1, distortion=0.2, surrogate="dither", transform=None)
    torch.manual_seed(0)
    result = quantizer(z)
    gain = 0.8
    error = result.z_q / gain - z
    assert float(error.square().mean()) == pytest.approx(float(quantizer.noise), rel=0.02)
    assert abs(float(torch.corrcoef(torch.stack([error, z]).squeeze(-1))[0, 1])) < 0.02
    assert float((result.z_q - z).square().mean()) == pytest.approx(0.2, rel=0.02)


def test_the_rate_loss_is_the_rate_and_less_of_it_means_smaller_latents():
    z = gaussian(1 << 14, 2).requires_grad_()
    quantizer = Trellis(2, rate=5.0, transform=None, loss_weights={"rate": 1.0})
    result = quantizer(z)
    assert float(result.losses["rate"].detach()) == pytest.approx(5.0, rel=0.02)
    assert torch.equal(result.loss, result.losses["rate"])
    result.loss.backward()
    assert float((z.grad * z.detach()).sum()) > 0


def sparse(count, seed):
    """Components that are nearly 0 most of the time, as coefficients of pictures are."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.where(torch.rand(count, 4, generator=generator) < 0.15, 2.5, 0.2)
    return sizes * torch.randn(count, 4, generator=generator) * torch.tensor([3.0, 2, 1, 1])


@pytest.mark.parametrize("aim", [{"rate": 2.0}, {"distortion": 3.0}])
def test_levels_are_fitted_to_latents_that_are_not_gaussian(aim):
    quantizer = Trellis(4, **aim, transform=None)
    quantizer.init_(sparse(1 << 15, 0))
    error, bits = measured(quantizer, sparse(1 << 15, 1))
    assert (bits if "rate" in aim else error) == pytest.approx(next(iter(aim.values())), rel=0.025)

    # Nearer by a decibel than the Gaussian code of the same bits is on these latents.
    plain = Trellis(4, rate=bits, transform=None)
    plain.variances.copy_(quantizer.variances)
    plain._design_()
    other, spent = measured(plain, sparse(1 << 15, 1))
    assert 10 * math.log10(other / error) + 6.02 / 4 * (spent - bits) > 1.0


def test_gaussian_latents_keep_the_levels_of_the_closed_form():
    quantizer = Trellis(2, rate=4.0)
    quantizer.init_(gaussian(1 << 14, 2))
    assert not bool(quantizer.slope.any())


def test_an_update_follows_latents_that_grow():
    quantizer = Trellis(2, rate=5.0, decay=0.5)
    quantizer.init_(gaussian(1024, 2))
    for seed in range(8):
        quantizer.update_(quantizer(3 * gaussian(1024, 2, seed) + 1))
    error, bits = measured(quantizer, 3 * gaussian(4096, 2, 99) + 1)
    assert bits == pytest.approx(5.0, rel=0.03)
    assert error == pytest.approx(9 * 2 * 10 ** (0.0455) * 2.0**-5, rel=0.08)


def test_an_update_follows_axes_that_turn():
    quantizer = Trellis(3, rate=6.0, decay=0.6)
    quantizer.init_(gaussian(2048, 3) * torch.tensor([4.0, 1.0, 0.3]))
    turn = torch.linalg.qr(gaussian(3, 3, 5))[0]
    for seed in range(25):
        quantizer.update_(quantizer(gaussian(2048, 3, seed) * torch.tensor([4.0, 1.0, 0.3]) @ turn + 2))
    z = gaussian(1 << 14, 3, 99) * torch.tensor([4.0, 1.0, 0.3]) @ turn + 2
    error, bits = measured(quantizer, z)
    assert bits == pytest.approx(6.0, rel=0.03)
    assert gap(z, error, bits) < 0.55
    axes = quantizer.transform_matrix
    assert torch.allclose(axes @ axes.t(), torch.eye(3), atol=1e-6)


@pytest.mark.parametrize("surrogate", ["straight_through", "dither"])
def test_at_a_held_rate_the_error_grows_with_the_latents(surrogate):
    # |z_q − z|² is homogeneous of degree 2 in z where the rate is held: z·∂/∂z of it is twice itself (Euler).
    z = gaussian(4096, 2).requires_grad_()
    quantizer = Trellis(2, rate=8.0, transform=None, surrogate=surrogate, holds_rate=True)
    torch.manual_seed(0)
    error = (quantizer(z).z_q - z).square().sum()
    error.backward()
    assert float((z.grad * z.detach()).sum()) == pytest.approx(2 * float(error.detach()), rel=0.02)


def test_axes_without_variance_and_constant_latents():
    z = torch.cat([gaussian(4096, 2), torch.zeros(4096, 1), torch.full((4096, 1), 5.0)], 1)
    z = torch.cat([z, z[:, :1]], 1)  # a singular covariance
    quantizer = Trellis(5, rate=6.0)
    quantizer.init_(z)
    error, bits = measured(quantizer, z)
    assert bits == pytest.approx(6.0, rel=0.01)
    assert gap(z, error, bits) < 0.48

    constant = Trellis(2, rate=3.0)
    constant.init_(torch.full((100, 2), 7.0))
    assert measured(constant, torch.full((100, 2), 7.0)) == (0.0, 0.0)


def test_axes_of_ones_own():
    axes = torch.linalg.qr(gaussian(3, 3))[0]
    z = gaussian(1024, 3) * torch.tensor([3.0, 1.0, 0.2]) @ axes
    own, found = Trellis(3, rate=6.0, transform="own"), Trellis(3, rate=6.0)
    own.set_transform_(axes)
    for quantizer in (own, found):
        quantizer.init_(z)
    assert measured(own, z)[0] == pytest.approx(measured(found, z)[0], rel=0.03)
    with pytest.raises(InputError, match="orthonormal"):
        own.set_transform_(2 * axes)
    with pytest.raises(InputError, match="transform='klt'"):
        found.set_transform_(axes)


def test_outliers_have_levels():
    z = gaussian(1000, 1)
    z[7], z[8] = 40.0, -1e4
    for aim in ({"rate": 0.4}, {"rate": 3.0}):
        quantizer = Trellis(1, **aim).eval()
        z_q = quantizer(z).z_q
        # Beside the rounding no more than the gain, which is right for the others.
        assert bool(((z_q - z).abs() < 6 + 0.02 * z.abs()).all())


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({}, "one of distortion and rate"),
        ({"rate": 1.0, "distortion": 1.0}, "one of distortion and rate"),
        ({"rate": 0.0}, "rate is 0"),
        ({"rate": 33.0}, "rate is 33"),
        ({"distortion": 0.0}, "distortion is 0"),
        ({"distortion": math.nan}, "distortion is nan"),
        ({"rate": 1.0, "states": 12}, "states is 12"),
        ({"rate": 1.0, "loss_weights": {"bits": 1.0}}, "'rate' is accepted"),
        ({"distortion": 1e-12}, "at most 16"),
    ],
)
def test_bad_arguments(arguments, match):
    with pytest.raises(InputError, match=match):
        Trellis(2, **arguments)


@pytest.mark.untyped
def test_names_that_there_are_not():
    with pytest.raises(InputError, match="transform is 'dct'"):
        Trellis(2, rate=1.0, transform="dct")
    with pytest.raises(InputError, match="surrogate is 'noise'"):
        Trellis(2, rate=1.0, surrogate="noise")
    with pytest.raises(InputError, match="holds_rate is 'no'"):
        Trellis(2, rate=1.0, holds_rate="no")


def test_nothing_to_begin_from():
    with pytest.raises(InputError, match="no finite token"):
        Trellis(2, rate=3.0).init_(torch.full((4, 2), math.nan))


def test_the_rate_is_that_of_all_tokens_and_not_of_the_first(monkeypatch):
    monkeypatch.setattr(trellis, "MEASURED", 1 << 14)
    z = gaussian(8192, 4) * torch.where(torch.arange(8192) < 4096, 0.1, 1.0).unsqueeze(1)
    quantizer = Trellis(4, rate=8.0, transform=None).eval()
    quantizer.init_(z)
    assert measured(quantizer, z)[1] == pytest.approx(8, rel=0.02)
