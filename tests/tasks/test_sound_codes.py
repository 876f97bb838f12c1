"""What a prior of sound learns from: windows of the frames that the whole recordings have, and what is refused."""

import numpy as np
import pytest
import torch

from codebound.codec.sound_model import SoundModel
from codebound.data.sound_sets import SoundSet
from codebound.data.speech import Clip
from codebound.errors import InputError
from codebound.generators.sounds import SoundPrior
from codebound.sound.frames import FrameCode, ResidualCode
from codebound.sound.resampling import LOUDEST
from codebound.tasks.prior import TokenOptimization
from codebound.tasks.sound_prior import CropCodes, RowCodes, SoundPriorTask
from codebound.tokenizers.audio import AudioTokenizer
from codebound.tokenizers.audio_config import SeanetConfig

STAGES, SIZE, DIM, HOP, BLOCK = 2, 256, 8, 40, 12


def made(kind: str) -> AudioTokenizer:
    """A tokenizer with random codebooks: of a transform, or of a Seanet with random weights."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    books = rng.integers(-127, 128, (STAGES, SIZE, DIM)).astype(np.int8)
    if kind == "transform":
        axes = rng.integers(-300, 300, (HOP, DIM)).astype(np.int16)
        gain, steps = np.full(HOP, 0.5, dtype=np.float32), np.array([40, 20], dtype=np.int32)
        return AudioTokenizer(FrameCode(HOP, gain, axes, books, steps), block=BLOCK).eval()
    network = SeanetConfig(channels=4, strides=(5, 8), causal=kind == "causal")
    return AudioTokenizer(
        ResidualCode(books, np.array([20, 10], dtype=np.int32)), network=network, block=BLOCK
    ).eval()


def sounds(samples: int) -> SoundSet:
    waves = (
        np.random.default_rng(1).normal(0, 5000, (2, samples)).clip(-LOUDEST, LOUDEST - 1).astype(np.int16)
    )
    return SoundSet("noise", "noise", 16_000, [Clip("a", waves[0])], [Clip("b", waves[1])])


@pytest.mark.parametrize("kind", ["transform", "causal", "ahead"])
def test_a_window_has_the_frames_of_the_whole_recording(kind: str) -> None:
    tokenizer, window = made(kind), 20
    recordings = sounds(200 * HOP)
    held_out = [np.zeros((3, STAGES), dtype=np.int64)]
    codes = CropCodes(tokenizer, recordings, held_out, window, beam=2)
    batch = next(codes.batches(0, 0, 3))
    assert codes.indices(batch).shape == (3, window, STAGES)

    # Crops of it, where frames that see silence are left out, have the very frames of the whole; those would be others.
    wave = torch.from_numpy(recordings.samples.astype(np.float32))[None] / LOUDEST
    whole, edges, others = tokenizer.encode(wave, beam=2)[0], tokenizer.edges, torch.zeros(2)
    for at in range(BLOCK, 10 * BLOCK, BLOCK):
        crop = wave[:, at * HOP :][:, : codes.length]
        found = codes.indices(crop * LOUDEST)[0]
        assert torch.equal(found, whole[at + edges.before : at + edges.before + window])
        assert len(found.unique()) > 5
        differ = (tokenizer.encode(crop, beam=2)[0] != whole[at : at + sum(edges) + window]).any(1)
        others += torch.stack([differ[edges.before - 1], differ[-edges.after] if edges.after else differ[0]])
    assert others[0] > 0
    assert others[1] > 0 or not edges.after


def test_indices_that_are_none_are_refused_before_the_training() -> None:
    model = SoundModel(made("transform"))
    prior = SoundPrior.of(model.tokenizer.frame_code, width=8, heads=1, depth=1, hidden=8, window=4)
    rng = np.random.default_rng(0)
    good = [rng.integers(SIZE, size=(9, STAGES)) for _ in range(2)]
    wrong, settings = [good[0], good[1] + SIZE], TokenOptimization()
    SoundPriorTask(prior, RowCodes(good, good, 4, "rows"), settings, model)
    for train, held_out in ((wrong, good), (good, wrong)):
        with pytest.raises(InputError, match="indices must be int64 in 0 … 255"):
            SoundPriorTask(prior, RowCodes(train, held_out, 4, "rows"), settings, model)
    with pytest.raises(InputError, match="0 held out; at least 4 and 1"):
        RowCodes(good, [], 4, "rows")


def test_each_held_out_recording_is_judged_by_itself() -> None:
    """What one costs does not depend on the one before it; so many first frames are those of the first recordings."""
    model = SoundModel(made("transform"))
    prior = SoundPrior.of(model.tokenizer.frame_code, width=8, heads=1, depth=1, hidden=8, window=4)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    rng = np.random.default_rng(0)
    rows = [rng.integers(SIZE, size=(count, STAGES)) for count in (7, 5)]
    task = SoundPriorTask(prior, RowCodes(rows, rows, 4, "rows"), TokenOptimization(), model)
    found = task.held_out_bits()
    assert [len(bits) for bits in found] == [7, 5]
    assert torch.equal(found[1], prior.bits(torch.from_numpy(rows[1])))
    assert [len(bits) for bits in task.held_out_bits(9)] == [7, 2]
    assert torch.allclose(task.held_out_bits(9)[1], found[1][:2])
    other = RowCodes(rows, [np.concatenate(rows)], 4, "rows")
    assert other.digest != task.codes.digest
