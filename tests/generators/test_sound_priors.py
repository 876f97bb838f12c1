"""A prior over frames of sound: judged and sampled by one rule, whatever the length."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from codebound.errors import InputError
from codebound.generators import SoundPrior
from codebound.sound.frames import FrameCode

K, STAGES, DIM, HOP, WINDOW = 5, 3, 4, 8, 6


@pytest.fixture(scope="module")
def prior() -> SoundPrior:
    """With weights that matter: as they begin, all indices are equally likely."""
    rng = np.random.default_rng(0)
    code = FrameCode(
        HOP,
        np.ones(HOP, dtype=np.float32),
        rng.integers(-9, 9, (HOP, DIM)).astype(np.int16),
        rng.integers(-127, 128, (STAGES, K, DIM)).astype(np.int8),
        np.array([40, 20, 10], dtype=np.int32),
    )
    torch.manual_seed(0)
    made = SoundPrior.of(code, width=16, depth=2, heads=2, hidden=8, window=WINDOW, tokenizer="codes")
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.5)
        made.words.normal_()
    return made.eval()


def drawn(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, K, (frames, STAGES)))


def start_of(frame: int) -> int:
    """Where the window of a frame begins, as the class says it."""
    half = WINDOW // 2
    return 0 if frame < WINDOW else (frame - half) // half * half


@pytest.mark.parametrize("frames", [1, 5, 6, 7, 8, 9, 10, 40, 77])
def test_bits_are_those_of_each_frame_in_its_window(prior: SoundPrior, frames: int) -> None:
    indices = drawn(frames)
    expected = [prior.costs(indices[None, start_of(t) : t + 1])[0, -1] for t in range(frames)]
    found = prior.bits(indices)
    assert found.shape == (frames, STAGES)
    torch.testing.assert_close(found, torch.stack(expected) / math.log(2), rtol=1e-4, atol=1e-4)


def test_probabilities_of_an_index_sum_to_one(prior: SoundPrior) -> None:
    indices = drawn(12)
    for stage in range(STAGES):
        total = 0.0
        for value in range(K):
            other = indices.clone()
            other[-1, stage] = value
            total += 2.0 ** -float(prior.bits(other)[-1, stage])
        assert total == pytest.approx(1, abs=1e-5)


def test_an_index_knows_nothing_behind_it(prior: SoundPrior) -> None:
    one, other = drawn(20), drawn(20)
    other[15, 1] = (other[15, 1] + 1) % K
    a, b = prior.bits(one), prior.bits(other)
    torch.testing.assert_close(a[:15], b[:15])
    torch.testing.assert_close(a[15, :1], b[15, :1])
    assert not torch.allclose(a[16:], b[16:])


@pytest.mark.parametrize("known", [0, 1, 4, 6, 7, 20])
def test_samples_follow_the_rule_of_bits(prior: SoundPrior, known: int) -> None:
    """The likeliest index is drawn at temperature 0: by `bits`, no other one is likelier there."""
    given = drawn(known, seed=1) if known else None
    made = prior.sample(23, known=given, temperature=0.0)[0]
    whole = made if given is None else torch.cat([given, made])
    bits = prior.bits(whole)
    for frame in range(known, len(whole)):
        for stage in range(STAGES):
            other = whole[: frame + 1].clone()
            other[frame, stage] = (other[frame, stage] + 1) % K
            assert bits[frame, stage] <= prior.bits(other)[frame, stage] + 1e-4


def test_a_sample_depends_on_its_number_alone(prior: SoundPrior) -> None:
    three = prior.sample(15, count=3, seed=4)
    assert torch.equal(prior.sample(15, seed=4, first=2)[0], three[2])
    assert torch.equal(prior.sample(9, count=3, seed=4), three[:, :9])
    assert not torch.equal(three[0], three[1])
    assert not torch.equal(prior.sample(15, seed=5)[0], three[0])
    only = prior.sample(15, top_k=1, seed=4)
    assert torch.equal(only, prior.sample(15, temperature=0.0))


def test_at_first_all_indices_are_equally_likely() -> None:
    assert torch.allclose(
        SoundPrior(2, 8, 3, width=8, heads=1).bits(torch.zeros(3, 2).long()), torch.tensor(3.0)
    )


def test_in_training_it_answers_without_dropout(prior: SoundPrior) -> None:
    other = SoundPrior.from_config({**prior.config(), "dropout": 0.5})
    other.load_state_dict(prior.state_dict())
    other.train()
    other.heads.eval()
    assert torch.equal(other.bits(drawn(30)), prior.bits(drawn(30)))
    assert torch.equal(other.sample(9, seed=3), prior.sample(9, seed=3))
    assert (other.training, other.body.training, other.heads.training) == (True, True, False)


def test_a_folder_and_back(prior: SoundPrior, tmp_path: Path) -> None:
    prior.save_pretrained(tmp_path / "model", card="A test.")
    again = SoundPrior.from_pretrained(tmp_path / "model")
    assert torch.equal(again.bits(drawn(9)), prior.bits(drawn(9)))
    assert "A test." in (tmp_path / "model" / "README.md").read_text()
    again.check_tokenizer("codes")
    with pytest.raises(InputError, match="of the codes codes, not of others"):
        again.check_tokenizer("others")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda p: p.bits(drawn(4)[:, :2]), r"indices must have shape \[t, 3\]"),
        (lambda p: p.bits(drawn(4) + K), "int64 in 0 … 4"),
        (lambda p: p.bits(drawn(0)), "t > 0"),
        (lambda p: p.sample(3, first=-1), "first is -1"),
        (
            lambda p: SoundPrior.from_config({**p.config(), "stages": 10**9}),
            "stages=1000000000|stages is not",
        ),
        (lambda p: SoundPrior.from_config({**p.config(), "width": 10**9}), "width"),
        (lambda p: SoundPrior(2, 8, 3, hidden=10**9), "hidden is 1000000000"),
        (lambda p: p.sample(0), "frames"),
        (lambda p: p.sample(3, temperature=-1.0), "temperature"),
        (lambda p: p.sample(3, seed=-1), "seed"),
        (lambda p: p.sample(3, known=drawn(4) - 1), "int64 in 0 … 4"),
        (lambda p: SoundPrior(2, 8, 3, window=7), "window is 7; an even number"),
        (lambda p: SoundPrior(0, 8, 3), "stages"),
    ],
)
def test_what_is_refused(prior: SoundPrior, call, said: str) -> None:
    with pytest.raises(InputError, match=said):
        call(prior)


@pytest.mark.untyped
def test_what_is_no_tensor_is_refused(prior: SoundPrior) -> None:
    for wrong in (lambda: prior.bits([[1, 2, 3]]), lambda: prior.sample(3, known=[[1, 2, 3]])):
        with pytest.raises(InputError, match="indices must be a tensor of int64; got list"):
            wrong()
