"""The prior of frames: it codes what it was fitted to in fewer bits, exactly, and survives the disk."""

from pathlib import Path

import numpy as np
import pytest

from codebound.coding.range_coder import Decoder, Encoder, Meter
from codebound.errors import InputError
from codebound.priors.frame_fitting import FrameFitSettings, examples, fit_frame_prior, stage_bits
from codebound.priors.frame_prior import FramePrior, first_inputs, groups, halvings, load_frame_prior
from codebound.sound.frames import FrameCode

SIZE, STAGES, DIM = 24, 3, 5


@pytest.fixture(scope="module")
def code() -> FrameCode:
    rng = np.random.default_rng(0)
    return FrameCode(
        16,
        np.ones(16, dtype=np.float32),
        rng.integers(-999, 999, (16, DIM)).astype(np.int16),
        rng.integers(-127, 128, (STAGES, SIZE, DIM)).astype(np.int8),
        np.array([90, 50, 30], dtype=np.int32),
    )


def sticky(count: int, frames: int, seed: int) -> np.ndarray:
    """Stage 0 often stays, stage 1 follows it, stage 2 is anything."""
    rng = np.random.default_rng(seed)
    out = np.zeros((count, frames, STAGES), dtype=np.int64)
    for segment in out:
        value = rng.integers(SIZE)
        for frame in segment:
            value = rng.integers(SIZE) if rng.random() < 0.2 else value
            frame[:] = value, (value * 5 + rng.integers(2)) % SIZE, rng.integers(SIZE)
    return out


@pytest.fixture(scope="module")
def prior(code: FrameCode) -> FramePrior:
    return fit_frame_prior(sticky(200, 40, 0), code, FrameFitSettings(steps=400, hidden=48, batch_size=8))


def test_it_finds_what_there_is_to_find(code: FrameCode, prior: FramePrior) -> None:
    bits = stage_bits(prior, sticky(40, 40, 1), code)
    # 0.2·log2(24) + entropy of a fifth is 1.64 bits: what a perfect model needs for stage 0; 1 bit for stage 1.
    assert bits[0] < 3.0
    assert bits[1] < 1.6
    assert np.log2(SIZE) - 0.1 < bits[2] < np.log2(SIZE) + 0.3


@pytest.mark.parametrize("frames", [1, 2, 3, 40, 77, 150])
@pytest.mark.parametrize("stages", [1, 3])
def test_there_and_back(code: FrameCode, prior: FramePrior, frames: int, stages: int) -> None:
    indices = sticky(1, frames, frames)[0][:, :stages]
    encoder, meter = Encoder(), Meter()
    for coder in (encoder, meter):
        assert np.array_equal(prior.code(coder, indices, code), indices)
    stream = encoder.payload()
    assert 8 * len(stream) <= meter.bits + 64
    decoder = Decoder(stream)
    assert np.array_equal(prior.code(decoder, np.zeros_like(indices), code), indices)
    decoder.check_end()


def test_every_frame_is_coded_once_and_sees_known_ones() -> None:
    for frames in range(1, 70):
        done: list[int] = []
        for distance, at in halvings(frames):
            known = np.full((frames, 1), -(1 << 20), dtype=np.int32)
            known[done] = 1 << 20
            seen = first_inputs(known, at, distance)[:, [0, 2, 4, 6]]
            assert (seen >= 0).all()  # nothing that is not known yet
            done += at.tolist()
        assert sorted(done) == list(range(frames))


def test_examples_are_what_coding_sees(code: FrameCode, prior: FramePrior) -> None:
    """The mean of what examples say is what the coder's meter says."""
    segments = sticky(3, 33, 5)
    total = 0.0
    _, members = groups(SIZE)
    for network, (inputs, values) in zip(prior.networks, examples(segments, code), strict=True):
        hidden = network.hidden(inputs)
        rows = np.arange(len(values))
        total += 16 - np.log2(network.of_groups(hidden)[rows, values // members]).mean()
        total += 16 - np.log2(network.of_members(hidden, values // members)[rows, values % members]).mean()
    assert total == pytest.approx(stage_bits(prior, segments, code).sum(), rel=1e-9)


def test_to_a_folder_and_back(tmp_path: Path, prior: FramePrior) -> None:
    prior.save(tmp_path)
    assert load_frame_prior(tmp_path).digest() == prior.digest()
    weights = tmp_path / "prior.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(InputError, match="is damaged"):
        load_frame_prior(tmp_path)
