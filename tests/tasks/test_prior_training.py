"""Training a prior: it learns, resumes exactly, and two processes train as one."""

from pathlib import Path

import prior_training as here
import pytest
import torch
from processes import killed, log, two_ranks
from safetensors.torch import load_file

from codebound.engine.checkpoints import Checkpoints
from codebound.errors import InputError
from codebound.generators import AutoregressivePrior, LlamaPrior, MaskedPrior
from codebound.tasks.codes import PictureCodes
from codebound.tasks.prior import PriorTask, nominal_bits, order_zero_bits

KINDS = [AutoregressivePrior, LlamaPrior, MaskedPrior]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_what_classes_look_like(tmp_path: Path, kind) -> None:
    recipe = here.RECIPE.model_copy(update={"steps": 60, "average": 0.0})
    task = here.run(tmp_path, kind, recipe).task
    assert isinstance(task, PriorTask)
    rows = [row["bits_per_token"] for row in log(tmp_path) if row.get("bits_per_token") is not None]
    assert rows[0] == pytest.approx(nominal_bits(task.codes), rel=0.1)
    assert rows[-1] < 0.9 * order_zero_bits(task.codes)
    # A picture costs less given its own class than given another.
    tokens, labels = task.codes.held_out
    indices = task.prior.eval().layout.unflatten(tokens)
    assert task.prior.bits(indices, labels).mean() < task.prior.bits(indices, (labels + 1) % 3).mean() - 5
    assert task.prior.bits(indices, labels).mean() < task.prior.bits(indices).mean()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_five_times_it_is_the_uninterrupted_run(tmp_path: Path, kind) -> None:
    here.run(tmp_path / "whole", kind, dropout=0.1)
    for at in (2, 5, 6, 11, 19):
        call = f"prior_training.run(folder, generators.{kind.__name__}, dropout=0.1)"
        killed(call, tmp_path / "broken", at)
    here.run(tmp_path / "broken", kind, dropout=0.1)
    one, other = (
        load_file(Checkpoints(tmp_path / f / "checkpoints").files()[0]) for f in ("whole", "broken")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert log(tmp_path / "whole") == log(tmp_path / "broken")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_end_with_the_same_prior_and_train_as_one_does(tmp_path: Path, kind) -> None:
    two_ranks(f"prior_training.run(folder, generators.{kind.__name__}, devices=2)", tmp_path / "two")
    # What is random in a step is a function of (seed, step), so the halves of a batch add up to it.
    here.run(tmp_path / "one", kind)
    for row, alone in zip(log(tmp_path / "two"), log(tmp_path / "one"), strict=True):
        assert row["step"] == alone["step"]
        for name in ("gradient_norm", "bits_per_token"):
            if alone.get(name) is not None:
                assert row[name] == pytest.approx(alone[name], rel=1e-3)


def test_batches_are_functions_of_seed_and_step_and_some_classes_are_hidden() -> None:
    task = here.begin(AutoregressivePrior, class_dropout=0.5).task
    stream, later = task.batches(3, 0, 40), task.batches(3, 1, 40)
    next(stream)
    for one, other in zip(next(stream), next(later), strict=True):
        assert torch.equal(one, other)
    _, labels, draws = next(later)
    hidden = labels == 3
    assert 8 < int(hidden.sum()) < 32
    shown = here.pictures().labels(3, 2, 40)
    assert torch.equal(labels[~hidden], shown[~hidden])
    assert draws.shape == (40, 17)


def test_pictures_of_other_channels_are_refused() -> None:
    from codebound.data.image_sources import PictureRequest, open_images

    with pytest.raises(InputError, match="pictures of 3 channels; the tokenizer has 1"):
        PictureCodes(here.tokenizer(), open_images("photos", PictureRequest(crop=8, held_out=4)))
