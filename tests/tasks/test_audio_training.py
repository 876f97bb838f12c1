"""The audio tokenizer as a task: losses fall, codes stay, and what a discriminator adds."""

from collections.abc import Callable
from pathlib import Path

import audio_training
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from processes import killed, log
from safetensors.torch import load_file

from codebound import config
from codebound.data.sound_pack import PACK
from codebound.data.sound_sets import SoundSet, open_sounds
from codebound.engine.checkpoints import Checkpoints
from codebound.engine.recipe import Recipe
from codebound.engine.trainer import Trainer
from codebound.errors import InputError
from codebound.nets.sound_discriminator import (
    JoinedDiscriminator,
    PeriodDiscriminator,
    SoundDiscriminator,
    SpectralDiscriminator,
)
from codebound.nets.spectral import SpectralDecoder
from codebound.runs.audio import Settings, untrained
from codebound.sound.frames import whole_latents
from codebound.sound.resampling import LOUDEST
from codebound.tasks.audio import AudioTask
from codebound.tasks.audio_adversarial import AudioAdversarialTask, features_apart, untrained_discriminator
from codebound.tokenizers.audio_fitting import FrameCodeSettings
from codebound.tokenizers.audio_streams import LATENT_UNIT

SIZES = {"hop": 160, "dim": 16, "stages": 4, "codebook_size": 32}


@pytest.fixture(scope="module")
def sounds() -> SoundSet:
    return open_sounds(f"folder:{PACK}", 16_000)


def trainer(sounds: SoundSet, steps: int, adversary: bool, network: str = "spectral") -> Trainer:
    more = {"adversarial": 0.05, "features": 0.1, "begin": 0.5} if adversary else {}
    settings = Settings(
        warmup=2,
        mel=0.1,
        seconds=0.5,
        fit_frames=400,
        network=network,
        steps=steps,
        **audio_training.NETWORKS[network],
        **SIZES,
        **more,
    )
    torch.manual_seed(0)
    tokenizer, code = untrained(settings), FrameCodeSettings(iterations=3, **SIZES)
    if adversary:
        judges = JoinedDiscriminator(
            [
                SpectralDiscriminator((256, 512), width=4, layers=2),
                PeriodDiscriminator((2, 5), width=4, layers=2),
            ]
        )
        task = AudioAdversarialTask(tokenizer, judges, sounds, settings, code, steps)
    else:
        task = AudioTask(tokenizer, sounds, settings, code)
    made = Trainer(Fabric(accelerator="cpu", devices=1), task, Recipe(steps=steps, batch_size=2, average=0.9))
    made.initialise()
    return made


def test_losses_fall_and_codes_stay(sounds: SoundSet) -> None:
    training = trainer(sounds, 30, adversary=False)
    tokenizer = training.task.tokenizer
    before = tokenizer.codebooks.clone()
    batch = (sounds.batch(7, 0, 4, training.task.length, vary=False), torch.tensor([4, 2, 3, 4]))
    with torch.no_grad():
        first = training.task.losses(batch, 0).losses["tokenizer"]
        for _ in range(30):
            with torch.enable_grad():
                assert training.step().finite
        assert training.task.losses(batch, 0).losses["tokenizer"] < 0.99 * first
    assert torch.equal(tokenizer.codebooks, before)
    assert before.abs().amax(-1).min() > 0


def test_a_seanet_and_its_codebooks_learn(sounds: SoundSet) -> None:
    training = trainer(sounds, 40, adversary=False, network="seanet")
    task, tokenizer = training.task, training.task.tokenizer
    before, first = tokenizer.codebooks.clone(), training.evaluate()
    assert before.abs().amax(-1).min() > 0
    rows = [training.step().values for _ in range(40)]
    assert sum(row["loss"] for row in rows[-5:]) < 0.9 * sum(row["loss"] for row in rows[:5])
    assert all("codebooks" in row and "window_usage" in row for row in rows)
    assert training.evaluate()["mel"] < first["mel"]
    assert not torch.equal(tokenizer.codebooks, before)

    # Codebooks of whole numbers are as near to the latents as those of floats.
    crops = sounds.batch(7, 0, 2, task.length, vary=False)
    with torch.no_grad(), training.averaged():
        task.codes.settle()
        z = tokenizer.seanet.encode(crops / LOUDEST)
        near = task.codes.quantizer.eval().decode(task.codes.quantizer.encode(z))
        task.codes.quantizer.train()
        code = tokenizer.frame_code
        found = code.decode(code.search(whole_latents((z * LATENT_UNIT).flatten(0, 1).double().numpy())))
    error = (z.flatten(0, 1) - torch.from_numpy(found) / LATENT_UNIT).square().sum()
    assert error < 1.05 * (z - near).square().sum()
    assert error < 0.5 * z.square().sum()


def test_depths_are_drawn_for_the_whole_batch(sounds: SoundSet) -> None:
    """Two devices, which take every second crop, draw different depths; any start of the batches gives the same."""
    task = trainer(sounds, 2, adversary=False).task
    batches = task.batches(0, 3, 24)
    crops, depths = next(batches)
    assert crops.shape == (24, task.length)
    assert set(depths.tolist()) == {2, 3, 4}
    assert not torch.equal(depths[::2], depths[1::2])
    later = next(batches)
    again = next(task.batches(0, 4, 24))
    assert all(torch.equal(a, b) for a, b in zip(later, again, strict=True))
    assert not torch.equal(later[1], depths)


def test_a_kernel_has_a_middle() -> None:
    with pytest.raises(InputError, match=r"kernel.*odd"):
        Settings(kernel=6)
    with pytest.raises(InputError, match="kernel is 6; odd"):
        SpectralDecoder(32, 4, kernel=6)


def test_an_untrained_network_changes_nothing(sounds: SoundSet) -> None:
    tokenizer = trainer(sounds, 2, adversary=False).task.tokenizer
    z = torch.from_numpy(tokenizer.frame_code.decode(np.ones((20, 4), dtype=np.int64))).float()[None]
    inner = slice(4 * tokenizer.hop, -4 * tokenizer.hop)
    assert torch.allclose(tokenizer(z)[:, inner], tokenizer.linear(z)[:, inner], atol=1e-5)


def test_the_discriminator_acts_from_its_beginning_on(sounds: SoundSet) -> None:
    training = trainer(sounds, 8, adversary=True)
    judges = training.task.discriminator
    before = [p.detach().clone() for p in judges.parameters()]
    for step in range(8):
        result = training.step()
        assert result.finite
        same = all(torch.equal(a, b) for a, b in zip(before, judges.parameters(), strict=True))
        assert same == (step < 4)
        assert ("caught" in result.values) == (step >= 4)


@pytest.mark.parametrize("kind", [SpectralDiscriminator, PeriodDiscriminator])
def test_features_of_equal_sounds_are_equal(kind: Callable[..., SoundDiscriminator]) -> None:
    torch.manual_seed(0)
    judges = kind((256,) if kind is SpectralDiscriminator else (7,), width=4, layers=2)
    x = torch.randn(2, 4000)
    assert features_apart(judges(x), judges(x)).item() == 0
    assert features_apart(judges(x), judges(0.5 * x)).item() > 0.05


def test_a_period_sees_every_so_many_th_sample() -> None:
    """A change of one sample changes scores of its own phase alone; any length has rows of whole periods."""
    torch.manual_seed(0)
    judges = PeriodDiscriminator((5,), width=4, layers=2)
    x = torch.randn(1, 1003)
    y = x.clone()
    y[0, 502] += 1
    changed = (judges(x).scores[0] != judges(y).scores[0]).flatten(0, 2).any(0)
    assert changed.tolist() == [False, False, True, False, False]
    assert judges(torch.randn(2, 3)).scores[0].shape == (2, 1, 1, 5)
    with pytest.raises(InputError, match="periods is 0"):
        PeriodDiscriminator((0,))


def test_discriminators_of_a_setting() -> None:
    assert len(untrained_discriminator(["stft"]).judges) == 3
    assert len(untrained_discriminator(["period"]).judges) == 5
    assert len(untrained_discriminator(["stft", "period", "stft"]).judges) == 8
    for wrong in (["mel"], []):
        with pytest.raises(InputError, match="discriminators"):
            config.build(Settings, {"discriminators": wrong})


@pytest.mark.parametrize("network", ["spectral", "seanet"])
def test_a_resumed_adversarial_training_is_the_whole_one(sounds: SoundSet, network: str) -> None:
    """State after 3 and after 6 steps taken up in fresh trainers: the same weights, bit for bit, at the end."""
    whole = trainer(sounds, 8, adversary=True, network=network)
    for _ in range(8):
        whole.step()
    part = trainer(sounds, 8, adversary=True, network=network)
    for first, end in ((0, 3), (3, 6), (6, 8)):
        for _ in range(first, end):
            part.step()
        state = part.state()
        part = trainer(sounds, 8, adversary=True, network=network)
        part.resume(state)
    for name, module in whole.task.modules.items():
        other = part.task.modules[name].state_dict()
        assert all(torch.equal(tensor, other[key]) for key, tensor in module.state_dict().items()), name


@pytest.mark.slow
@pytest.mark.parametrize("network", ["spectral", "seanet"])
def test_killed_five_times_it_is_the_uninterrupted_run(tmp_path: Path, network: str) -> None:
    """Weights, averages, optimizers and figures end the same to the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        audio_training.run(tmp_path / "whole", network)
        # Before and after the discriminator acts, and on both sides of a checkpoint.
        for at in (2, 5, 8, 13, 19):
            killed(f"audio_training.run(folder, {network!r})", tmp_path / "broken", at)
        audio_training.run(tmp_path / "broken", network)
    finally:
        torch.set_num_threads(threads)
    one, other = (
        load_file(Checkpoints(tmp_path / name / "checkpoints").files()[0]) for name in ("whole", "broken")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    rows = log(tmp_path / "whole")
    assert rows == log(tmp_path / "broken")
    assert any("caught" in row for row in rows)
