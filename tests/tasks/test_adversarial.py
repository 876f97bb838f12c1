"""A tokenizer against a discriminator: who learns from what, from when on, and what a NaN does."""

from pathlib import Path

import prior_training as pictures
import pytest
import torch
from adversarial_training import RECIPE, begin, run
from processes import killed, log, two_ranks
from safetensors.torch import load_file

from codebound.engine import loop
from codebound.engine.checkpoints import Checkpoints
from codebound.engine.journal import Journal
from codebound.engine.trainer import Trainer
from codebound.errors import InputError
from codebound.nets.discriminator import PatchDiscriminator
from codebound.tasks.adversarial import LARGEST_WEIGHT, AdversarialTask


def task_of(trainer: Trainer) -> AdversarialTask:
    assert isinstance(trainer.task, AdversarialTask)
    return trainer.task


def test_the_adversary_acts_from_a_share_of_the_run_on() -> None:
    task = task_of(begin())
    shares = [task.acting(step) for step in range(20)]
    assert shares[:10] == [0.0] * 10
    assert all(0 < share <= 1 for share in shares[10:])
    assert shares[10:] == sorted(shares[10:])
    assert shares[-1] == 1
    assert task_of(begin(adversarial=0.0)).acting(19) == 0
    assert task_of(begin(begin=0.0, ramp=0.0)).acting(0) == 1


def test_before_it_acts_the_tokenizer_learns_as_without_it() -> None:
    losses = begin().task.losses(next(begin().task.batches(0, 0, 8)), 0)
    assert torch.equal(losses.losses["tokenizer"], begin(adversarial=0.0).task.losses(
        next(begin().task.batches(0, 0, 8)), 0).losses["tokenizer"])  # fmt: skip
    assert "deceived" not in losses.values


def test_the_weight_is_the_ratio_of_the_gradients_at_the_last_layer() -> None:
    task = task_of(begin(adversarial=0.5))
    found = task.losses(next(task.batches(0, 19, 8)), 19)
    x = task.tokenizer.to_network(next(task.batches(0, 19, 8)))
    # Power iterations of the discriminator go on with each pass: compare at a loose tolerance.
    result = task.tokenizer(x)
    last = [p for p in task.tokenizer.decoder.parameters() if p.ndim > 1][-1]
    (one,) = torch.autograd.grad(result.loss, last, retain_graph=True)
    (other,) = torch.autograd.grad(-task.discriminator(result.x_hat).mean(), last)
    expected = 0.5 * min(float(one.norm() / other.norm()), LARGEST_WEIGHT)
    assert float(found.values["adversarial_weight"]) == pytest.approx(expected, rel=0.05)


def test_the_discriminator_learns_to_tell_and_moves_alone() -> None:
    trainer = begin(
        RECIPE.model_copy(update={"steps": 200}),
        adversarial=0.0,
        lr=0.0,
        codebook_lr=0.0,
        discriminator_lr=1e-2,
    )
    values = [trainer.step().values for _ in range(40)]
    assert values[-1]["score_real"] > values[-1]["score_made"] + 0.2
    assert values[-1]["discriminator"] < values[0]["discriminator"]
    task = task_of(trainer)
    assert float(task.scores.means[0]) > float(task.scores.means[1])


def test_a_gradient_of_the_discriminator_that_is_not_finite_moves_nothing() -> None:
    trainer = begin(begin=0.0)
    trainer.step()
    task = task_of(trainer)
    before = {name: [p.clone() for p in m.parameters()] for name, m in task.modules.items()}
    scores = task.scores.means.clone()
    first = next(iter(task.discriminator.parameters()))
    handle = first.register_hook(lambda gradient: gradient * float("nan"))
    assert not trainer.step().finite
    for name, module in task.modules.items():
        assert all(torch.equal(p, q) for p, q in zip(module.parameters(), before[name], strict=True)), name
    assert torch.equal(task.scores.means, scores)
    handle.remove()
    assert trainer.step().finite


@pytest.mark.parametrize("settings", [{}, {"adversary": "logistic", "lecam": 0.1, "begin": 0.1}])
def test_a_resume_is_exact_with_both_optimizers(tmp_path: Path, settings: dict) -> None:
    run(tmp_path / "whole", **settings)
    # Stopped after step 13, whose last checkpoint is of step 12: the adversary acts already.
    trainer = begin(**settings)
    step = trainer.step

    def stopped():
        if trainer.progress.step == 13:
            raise RuntimeError
        return step()

    trainer.step = stopped  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        loop.fit(
            trainer,
            Checkpoints(tmp_path / "broken" / "checkpoints", 3),
            Journal(tmp_path / "broken"),
            loop.Hooks(),
        )
    run(tmp_path / "broken", **settings)
    same(tmp_path / "whole", tmp_path / "broken")


def same(whole: Path, broken: Path) -> None:
    """The last checkpoint and the figures of two runs are the same to the last bit."""
    one, other = (load_file(Checkpoints(f / "checkpoints").files()[0]) for f in (whole, broken))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert log(whole) == log(broken)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_killed_five_times_it_is_the_uninterrupted_run(tmp_path: Path, one_thread) -> None:
    run(tmp_path / "whole", begin=0.3, lecam=0.1)
    # Before and after the adversary acts, and on both sides of a checkpoint.
    for at in (2, 5, 8, 13, 19):
        killed("adversarial_training.run(folder, begin=0.3, lecam=0.1)", tmp_path / "broken", at)
    run(tmp_path / "broken", begin=0.3, lecam=0.1)
    same(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.slow
def test_two_ranks_end_with_the_same_networks_and_train_as_one_does(tmp_path: Path, one_thread) -> None:
    # From a codebook that is there: k-means would begin from the same latents in another order.
    settings = "begin=0.1, lecam=0.1, discriminator_lr=0.03"
    learned = "prior_training.tokenizer().train()"
    two_ranks(f"adversarial_training.run(folder, devices=2, begun={learned}, {settings})", tmp_path / "two")
    begun = pictures.tokenizer.__wrapped__().train()
    run(tmp_path / "one", begun=begun, begin=0.1, lecam=0.1, discriminator_lr=0.03)
    rows, alone = log(tmp_path / "two"), log(tmp_path / "one")
    assert [row["step"] for row in rows] == [row["step"] for row in alone]

    # The halves of a batch add up in another order: equal to rounding, for as long as no codeword flips.
    for row, other in zip(rows[1:8], alone[1:8], strict=True):
        for name in ("gradient_norm_tokenizer", "gradient_norm_discriminator", "adversarial_weight"):
            assert (name in row) == (name in other)
            if name in row:
                assert row[name] == pytest.approx(other[name], rel=1e-3)
    assert any(row.get("adversarial_weight", 8) < 7.9 for row in rows[1:8]), (
        "the weight is always at its limit"
    )


def test_with_frozen_codes_only_the_decoder_moves(tmp_path: Path) -> None:
    tokenizer = pictures.tokenizer()
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    images = pictures.pictures().images[:8]
    indices = tokenizer.encode(images)
    trainer = begin(begun=tokenizer, freeze=True, begin=0.0)
    for _ in range(3):
        assert trainer.step().finite
    with trainer.averaged():
        assert torch.equal(tokenizer.eval().encode(images), indices)
        moved = {
            name for name, value in tokenizer.state_dict().items() if not torch.equal(value, before[name])
        }
    assert moved
    assert all(name.startswith("decoder.") for name in moved)
    pictures.tokenizer.cache_clear()


@pytest.mark.slow
def test_what_efficientnet_sees_has_a_gradient() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    from codebound.metrics import EffnetDistance

    distance = EffnetDistance()
    x = torch.rand(2, 3, 32, 32, requires_grad=True)
    y = torch.rand(2, 3, 32, 32)
    distance.between(x, y).sum().backward()
    assert float(x.grad.abs().sum()) > 0
    assert torch.equal(distance.between(x, y).detach(), distance(x, y))


def test_what_is_no_discriminator_is_refused() -> None:
    for options in ({"channels": 2}, {"channels": 1, "layers": 0}, {"channels": 3, "width": 0}):
        with pytest.raises(InputError, match="a discriminator takes"):
            PatchDiscriminator(**options)
    assert PatchDiscriminator(3, layers=2)(torch.zeros(2, 3, 16, 24)).shape == (2, 1, 4, 6)
    assert PatchDiscriminator(1, spectral=False)(torch.zeros(1, 1, 8, 8)).shape == (1, 1, 1, 1)
