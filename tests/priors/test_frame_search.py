"""The search that weighs errors against bits: worth what it says, exact, and the plain one where bits are free."""

import numpy as np
import pytest

from codebound.coding.range_coder import Encoder, Meter
from codebound.priors import frame_search
from codebound.priors.frame_fitting import FrameFitSettings, fit_frame_prior
from codebound.priors.frame_prior import FramePrior
from codebound.priors.frame_search import search, search_paths, slope
from codebound.sound.frames import ResidualCode

SIZE, STAGES, DIM = 24, 3, 5


def made(steps: list[int], size: int = SIZE) -> ResidualCode:
    rng = np.random.default_rng(0)
    books = rng.integers(-127, 128, (len(steps), size, DIM)).astype(np.int8)
    return ResidualCode(books, np.array(steps, dtype=np.int32))


def latents(frames: int, seed: int) -> np.ndarray:
    """Each is near the one before it."""
    drawn = np.random.default_rng(seed).normal(0, 2500, (frames, DIM))
    for at in range(1, frames):
        drawn[at] = 0.9 * drawn[at - 1] + 0.44 * drawn[at]
    return np.rint(drawn).astype(np.float32)


@pytest.fixture(scope="module")
def code() -> ResidualCode:
    return made([40, 20, 10])


@pytest.fixture(scope="module")
def prior(code: ResidualCode) -> FramePrior:
    segments = np.stack([code.search(latents(60, seed)) for seed in range(60)])
    return fit_frame_prior(segments, code, FrameFitSettings(steps=150, hidden=24, batch_size=8))


def metered(prior: FramePrior, code: ResidualCode, indices: np.ndarray) -> float:
    meter = Meter()
    prior.code(meter, indices, code)
    return meter.bits


@pytest.mark.parametrize("trade", [0.3, 1.0, 3.0])
def test_it_is_worth_what_it_weighs(code: ResidualCode, prior: FramePrior, trade: float) -> None:
    """Less error + λ·bits than the plain search, by the coder's own count; fewer bits, more error."""
    sums = np.zeros((2, 2))
    for seed in range(100, 110):
        z = latents(70, seed)
        plain = code.search(z, beam=4)
        weighed = search(z, code, prior, stages=STAGES, trade=trade, beam=4)
        for number, indices in enumerate((plain, weighed)):
            sums[number] += np.square(z - code.decode(indices)).sum(), metered(prior, code, indices)
    weight = trade * slope(code, STAGES)
    (plain_error, plain_bits), (error, bits) = sums
    assert error + weight * bits < plain_error + weight * plain_bits
    assert bits < plain_bits
    assert error > plain_error


@pytest.mark.parametrize("frames", [1, 2, 70])
def test_it_counts_the_bits_that_the_coder_takes(code: ResidualCode, prior: FramePrior, frames: int) -> None:
    """With one partial sum every context is what the coder will see: each of its two digits is less than 1/256 off."""
    z = latents(frames, 1)
    paths = search_paths(z, code, prior, stages=STAGES, trade=1.0, beam=1)
    indices, counted = paths.indices[:, 0], paths.spent[:, 0].sum() / 256
    assert 0 <= counted - metered(prior, code, indices) < 2 * indices.size / 256
    encoder = Encoder()
    prior.code(encoder, indices, code)
    assert abs(8 * len(encoder.payload()) - counted) < 64 + 2 * indices.size / 256
    assert np.array_equal(paths.error[:, 0], np.square(z - code.decode(indices)).sum(1))


@pytest.mark.parametrize("beam", [1, 4, 9])
def test_free_bits_are_the_plain_search(beam: int) -> None:
    """Steps of one unit: what is left is whole in them, so that scores know all."""
    code = made([1, 1, 1])
    segments = np.random.default_rng(0).integers(0, SIZE, (4, 9, STAGES))
    prior = fit_frame_prior(segments, code, FrameFitSettings(steps=1, hidden=8))
    z = np.rint(latents(150, 2) / 20).astype(np.float32)
    for stages in (1, 3):
        found = search(z, code, prior, stages=stages, trade=0.0, beam=beam)
        assert np.array_equal(found, code.search(z, stages, beam))


def test_frames_at_once_change_nothing(
    code: ResidualCode, prior: FramePrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for chunk in (1, 7, 150):
        monkeypatch.setattr(frame_search, "CHUNK", chunk)
        found.append(search(latents(150, 3), code, prior, stages=STAGES, trade=1.0, beam=4))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_the_slope_is_that_of_a_gaussian_source() -> None:
    """Where the last stage takes (1 − ρ)/ρ of what it leaves, a further bit takes 2 ln 2 / d of that."""
    code = made([40, 20], size=32)
    taken = np.square(20.0 * code.codebooks[1]).sum(1).mean()
    left = taken / (32 ** (2 / DIM) - 1)
    assert slope(code, 2) == pytest.approx(2 * np.log(2) / DIM * left, rel=3e-3)
