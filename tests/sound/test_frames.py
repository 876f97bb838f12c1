"""Transform, companding and search in whole numbers."""

import numpy as np
import pytest

from codebound.errors import InputError
from codebound.sound import mdct
from codebound.sound.frames import FrameCode, FrameSplitter, compand


def small_code(seed: int = 0, hop: int = 16, dim: int = 6, stages: int = 3, size: int = 8) -> FrameCode:
    """A code with random arrays."""
    rng = np.random.default_rng(seed)
    return FrameCode(
        hop,
        np.full(hop, 3.0, dtype=np.float32),
        rng.integers(-1024, 1024, (hop, dim)).astype(np.int16),
        rng.integers(-127, 128, (stages, size, dim)).astype(np.int8),
        np.array([40, 20, 10][:stages], dtype=np.int32),
    )


def frames(samples: np.ndarray, hop: int) -> np.ndarray:
    splitter = FrameSplitter(hop)
    return np.concatenate([splitter.push(samples), splitter.flush()])


def added_up(parts: np.ndarray, hop: int) -> np.ndarray:
    """Overlapping windowed frames as samples."""
    out = np.zeros((len(parts) + 1) * hop)
    for at, part in enumerate(parts):
        out[at * hop : (at + 2) * hop] += part
    return out[hop:]


@pytest.mark.parametrize("hop", [8, 320, 960])
def test_the_transform_is_inverted(hop: int) -> None:
    samples = np.random.default_rng(0).integers(-(1 << 15), 1 << 15, 5 * hop + 3).astype(np.float64)
    x = mdct.forward(frames(samples, hop), hop)
    again = added_up(x @ mdct.inverse_matrix(hop), hop)[: len(samples)]
    assert np.abs(again * (1 << 15) - samples).max() < 4


def test_the_loudest_frames_are_whole_numbers_that_float64_holds() -> None:
    hop = 320
    signs = np.sign(np.random.default_rng(0).normal(size=(50, 2 * hop)))
    x = mdct.forward(signs * (1 << 15), hop)
    exact = (signs * (1 << 15) * mdct.window(hop)).astype(object)
    half = hop // 2
    a, b, c, d = exact[:, :half], exact[:, half:hop], exact[:, hop : hop + half], exact[:, hop + half :]
    folded = np.concatenate([-c[:, ::-1] - d, a - b[:, ::-1]], axis=1)
    sums = folded[:2].dot(mdct.cosines(hop).astype(int).astype(object))
    assert np.array_equal(x[:2], np.rint((sums / mdct.SCALE).astype(float)))
    assert max(abs(s) for s in sums.ravel()) < 1 << 53


def test_splitting_covers_every_length() -> None:
    for samples in range(1, 50):
        assert len(frames(np.ones(samples), 16)) == mdct.frames_of(samples, 16)


def test_companding_is_a_power() -> None:
    x = np.array([-1e6, -1.0, 0.0, 3.0, 1e4])
    assert np.allclose(compand(x), np.sign(x) * np.abs(x) ** 0.625, atol=0.5)


def test_the_search_finds_the_nearest_and_a_beam_no_worse() -> None:
    code = small_code()
    z = code.latents(np.rint(np.random.default_rng(2).normal(0, 9000, (200, 32))))
    greedy, wide = code.search(z), code.search(z, beam=4)
    first = ((z[:, None] - 40.0 * code.codebooks[0]) ** 2).sum(-1).argmin(1)
    assert (greedy[:, 0] == first).mean() > 0.97  # the search sees residuals rounded to steps
    errors = [np.square(z - code.decode(found)).sum() for found in (greedy, wide)]
    assert errors[1] <= errors[0]
    assert np.array_equal(code.search(z, 2), greedy[:, :2])


def test_frames_are_searched_each_by_itself() -> None:
    code = small_code(1)
    z = code.latents(np.rint(np.random.default_rng(3).normal(0, 9000, (300, 32))))
    whole = code.search(z, beam=3)
    assert np.array_equal(whole, np.concatenate([code.search(z[at : at + 1], beam=3) for at in range(300)]))


def test_arrays_that_do_not_fit_are_refused() -> None:
    code = small_code()
    with pytest.raises(InputError, match="don't fit together"):
        FrameCode(code.hop + 2, code.gain, code.axes, code.codebooks, code.steps)
    with pytest.raises(InputError, match="steps below 1"):
        FrameCode(code.hop, code.gain, code.axes, code.codebooks, code.steps * 0)
    with pytest.raises(InputError, match="steps are 39999 in sum; up to 32768"):
        FrameCode(
            code.hop, code.gain, code.axes, code.codebooks, (code.steps * 0 + 40_000 // len(code.steps))
        )
