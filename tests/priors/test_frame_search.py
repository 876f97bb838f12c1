"""The search that weighs errors against bits: worth what it says, exact, and the plain one where bits are free."""

import numpy as np
import pytest

from codebound.coding.integers import TOTAL
from codebound.coding.range_coder import Encoder
from codebound.priors import frame_search
from codebound.priors.frame_fitting import FrameFitSettings, fit_frame_prior
from codebound.priors.frame_prior import FramePrior, halvings
from codebound.priors.frame_search import search, search_paths, slopes
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


class Lengths:
    """A coder that writes down what each symbol takes."""

    def __init__(self) -> None:
        self.bits: list[np.ndarray] = []

    def code(
        self, frequencies: np.ndarray, symbols: np.ndarray, rows: np.ndarray | None = None
    ) -> np.ndarray:
        assert rows is None
        self.bits.append(-np.log2(frequencies[np.arange(len(symbols)), symbols] / TOTAL))
        return symbols


def frame_bits(prior: FramePrior, code: ResidualCode, indices: np.ndarray) -> np.ndarray:
    """What the coder takes for each frame: group and member of each stage."""
    coder, found = Lengths(), np.zeros(len(indices))
    prior.code(coder, indices, code)
    steps = [at for _, at in halvings(len(indices))] + [np.arange(len(indices))] * (indices.shape[1] - 1)
    for at, group, member in zip(steps, coder.bits[::2], coder.bits[1::2], strict=True):
        found[at] += group + member
    return found


@pytest.mark.parametrize("trade", [0.3, 1.0, 3.0])
def test_it_is_worth_what_it_weighs(code: ResidualCode, prior: FramePrior, trade: float) -> None:
    """Less error + λ·bits than the plain search, by the coder's own count; fewer bits, more error."""
    sums = np.zeros((2, 3))
    for seed in range(100, 110):
        z = latents(70, seed)
        weight = trade * slopes(z, code, STAGES)
        plain = code.search(z, beam=4)
        weighed = search(z, code, prior, stages=STAGES, trade=trade, beam=4)
        for number, indices in enumerate((plain, weighed)):
            error, bits = np.square(z - code.decode(indices)).sum(1), frame_bits(prior, code, indices)
            sums[number] += (error + weight * bits).sum(), error.sum(), bits.sum()
    (plain_cost, plain_error, plain_bits), (cost, error, bits) = sums
    assert cost < plain_cost
    assert bits < plain_bits
    assert error > plain_error


@pytest.mark.parametrize("frames", [1, 2, 70])
def test_it_counts_the_bits_that_the_coder_takes(code: ResidualCode, prior: FramePrior, frames: int) -> None:
    """With one partial sum every context is what the coder will see: each of its two digits is less than 1/256 off."""
    z = latents(frames, 1)
    paths = search_paths(z, code, prior, stages=STAGES, trade=1.0, beam=1)
    indices, counted = paths.indices[:, 0], paths.spent[:, 0].sum() / 256
    assert 0 <= counted - frame_bits(prior, code, indices).sum() < 2 * indices.size / 256
    encoder = Encoder()
    prior.code(encoder, indices, code)
    assert abs(8 * len(encoder.payload()) - counted) < 64 + 2 * indices.size / 256
    assert np.array_equal(paths.error[:, 0], np.square(z - code.decode(indices)).sum(1))


@pytest.mark.parametrize(("size", "beam"), [(SIZE, 1), (SIZE, 4), (SIZE, 9), (5, 9)])
def test_free_bits_are_the_plain_search(size: int, beam: int) -> None:
    """Steps of one unit: what is left is whole in them, and scores know all. Also of fewer codewords than paths."""
    code = made([1, 1, 1], size)
    segments = np.random.default_rng(0).integers(0, size, (4, 9, STAGES))
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


def test_the_slope_is_that_of_a_gaussian_source(code: ResidualCode) -> None:
    """D falls by 2^(−2R/d): by 2 ln 2 / d of itself with a bit."""
    z = latents(20, 4)
    left = np.square(z - code.decode(code.search(z, 2))).sum(1)
    bit = 1e-6
    assert slopes(z, code, 2) == pytest.approx(left * (1 - 2 ** (-2 * bit / DIM)) / bit, rel=1e-5)
