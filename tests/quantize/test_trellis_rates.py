"""`Trellis.init_` comes to the rate or the error that is asked for, also where levels are fitted to what it sees."""

import math

import numpy as np
import pytest
import scipy
import torch

from codebound.data.images import photo_patches
from codebound.quantize import Trellis
from codebound.quantize.trellis_aim import AimControl, entropy_bits
from codebound.quantize.trellis_search import HALF


def drawn(source, split):
    generator = torch.Generator().manual_seed(split)
    if source == "photographs":
        patches = photo_patches(("train", "held_out")[split], 4096, size=8, generator=generator)
        coefficients = scipy.fft.dctn(patches.view(-1, 8, 8).numpy(), axes=(1, 2), norm="ortho")
        return torch.from_numpy(np.ascontiguousarray(coefficients.reshape(-1, 64)))
    z = torch.randn(1 << 14, 9, generator=generator)
    if source == "quiet or loud":
        return z[:, :8] * torch.where(z[:, 8:] < 0, 0.1, 1.0)
    if source == "laplace":
        one, other = torch.rand(2, 1 << 14, 8, generator=generator).clamp_min(1e-7).log()
        return one - other
    return z[:, :8] / torch.arange(1, 9)


def measured(quantizer, z):
    indices = quantizer.encode(z)
    error = (quantizer.decode(indices) - z).double().square().sum(1).mean()
    return entropy_bits(indices - HALF), float(error)


@pytest.mark.parametrize("bits", [0.5, 1.0, 2.3])
@pytest.mark.parametrize("source", ["spectrum", "laplace", "quiet or loud", "photographs"])
def test_the_rate_or_the_error_that_is_asked_for(source, bits):
    seen, others = drawn(source, 0), drawn(source, 1)
    quantizer = Trellis(seen.shape[1], rate=bits * seen.shape[1]).eval()
    quantizer.init_(seen)
    rate, error = measured(quantizer, seen)
    assert rate == pytest.approx(bits * seen.shape[1], rel=0.0025)
    # Other photographs are others; what is drawn from one law differs by chance.
    rate, _ = measured(quantizer, others)
    assert rate == pytest.approx(bits * seen.shape[1], rel=0.15 if source == "photographs" else 0.02)

    quantizer = Trellis(seen.shape[1], distortion=error).eval()
    quantizer.init_(seen)
    assert measured(quantizer, seen)[1] == pytest.approx(error, rel=0.0025)


@pytest.mark.parametrize("quiet", [0.5, 0.9])
def test_a_quiet_part_before_a_loud_one(quiet):
    z = drawn("spectrum", 0)[:8192, :4] * torch.where(torch.arange(8192) < quiet * 8192, 0.1, 1.0).unsqueeze(
        1
    )
    for rate in (4.0, 8.0):
        quantizer = Trellis(4, rate=rate, transform=None).eval()
        quantizer.init_(z)
        assert measured(quantizer, z)[0] == pytest.approx(rate, rel=0.0025)


@pytest.mark.parametrize("source", ["discrete", "rectified", "sparse"])
def test_more_bits_than_values_hold(source):
    """Fewer bits come, with the error of as many bits of Gaussians as 2,000 samples can tell; 8 states lose .45 dB."""
    z = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    z = {"discrete": z.sign(), "rectified": (z - 1).relu(), "sparse": torch.where(z > 2, z, 0.0)}[source]
    quantizer = Trellis(16, rate=32.0, transform=None).eval()
    quantizer.init_(z)
    rate, error = measured(quantizer, z)
    assert rate < 32 * 1.0025
    most = math.log2(2000 / 64)
    assert float(quantizer.aim) <= 16 * most
    assert error < 10**0.05 * 4**-most * float(z.var(0).sum())


def test_an_aim_follows_what_was_reached():
    """Codes whose rate, or error, is a curved function of the aim."""
    for reached, asked, error in (
        (lambda aim: 0.4 * aim**1.3, 8.0, False),
        (lambda aim: 0.7 * aim**0.6, 0.02, True),
        (lambda aim: 3 * aim**1.7, 40.0, True),
    ):
        control, aim, rounds = AimControl(asked, error, 64.0), asked, 0
        while not control.near(reached(aim)):
            aim = control.following(aim, reached(aim), alike=rounds > 0)
            rounds += 1
        assert rounds < 8


def test_an_aim_stays_where_nothing_is_gained():
    control = AimControl(5.0, True, 64.0)
    assert control.following(5.0, 0.0, alike=True) == 5.0  # constants have no error
    assert control.following(5.0, 2.0, alike=False) > 5.0
    assert control.following(10.0, 2.0, alike=True) == 10.0  # nor more of it than their variance
