"""Training the image tokenizer: exact resume, damaged checkpoints, steps that are not finite."""

import copy
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from codebound.data.crops import pyramid
from codebound.data.image_sets import Crops
from codebound.data.images import photographs
from codebound.engine import loop, trainer
from codebound.engine.checkpoints import Checkpoints
from codebound.engine.devices import launch
from codebound.engine.journal import Journal, volatile
from codebound.engine.recipe import Recipe
from codebound.engine.task import Figures
from codebound.errors import InputError
from codebound.quantize import Residual, VectorQuantizer
from codebound.quantize.revival import Resample
from codebound.quantize.update import EMA, Gradient
from codebound.tasks.tokenizer import TokenizerOptimization, TokenizerTask
from codebound.tokenizers import ImageTokenizer

RECIPE = Recipe(steps=24, batch_size=4, log_every=2, evaluate_every=8, checkpoint_every=5)
OPTIMIZATION = TokenizerOptimization(lr=1e-3, codebook_lr=1e-3, init_tokens=128, warmup=4)


class TestTask(TokenizerTask):
    """The tokenizer's task; its "PSNR" is a number that depends on the weights."""

    __test__ = False

    def evaluate(self) -> Figures:
        x = self.tokenizer.to_network(self.images.held_out)
        return {"psnr": -self.tokenizer(x).reconstruction.item()}


@cache
def crops() -> Crops:
    pictures = [pyramid(p, 16, 3) for p in photographs("held_out")]
    return Crops("test", "crops", pictures[:3], pictures[3:], 16, 8)


def begin(folder: Path, recipe: Recipe = RECIPE, gradient: bool = False) -> trainer.Trainer:
    torch.manual_seed(0)
    # Windows of two steps and a high threshold: codewords are revived within these few steps.
    revival = Resample(threshold=0.5, window=4.0)
    vq = VectorQuantizer(4, 32, update=Gradient() if gradient else EMA(), revival=revival)
    tokenizer = ImageTokenizer(vq, width=8, depth=1)
    return trainer.Trainer(launch("cpu"), TestTask(tokenizer, crops(), OPTIMIZATION), recipe)


def run(folder: Path, recipe: Recipe = RECIPE, gradient: bool = False) -> trainer.Trainer:
    """Train to the end."""
    work = begin(folder, recipe, gradient)
    loop.fit(work, Checkpoints(folder / "checkpoints", 3), Journal(folder), loop.Hooks())
    return work


def log(folder: Path) -> list[dict]:
    return [{k: v for k, v in row.items() if not volatile(k)} for row in Journal(folder).rows()]


def newest(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(Checkpoints(folder / "checkpoints").files()[0])


def same(one: Path, other: Path) -> None:
    """Bit for bit: weights, averages, optimizer, codebook, generators; and the log."""
    a, b = newest(one), newest(other)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    assert log(one) == log(other)


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
import test_tokenizer_training as here
from codebound.engine import checkpoints
from codebound.engine import trainer
at, where = int(sys.argv[3]), sys.argv[4]
step, save = trainer.Trainer.step, checkpoints.Checkpoints.save
def killed_step(self):
    found = step(self)
    if where == "step" and self.progress.step == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return found
def killed_save(self, number, state, best=False):
    if where == "save" and number >= at:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / ".unfinished-step").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return save(self, number, state, best=best)
trainer.Trainer.step, checkpoints.Checkpoints.save = killed_step, killed_save
here.run(Path(sys.argv[2]), gradient=sys.argv[5] == "gradient")
"""


def killed(folder: Path, at: int, where: str, update: str = "ema") -> None:
    arguments = [str(Path(__file__).parent), str(folder), str(at), where, update]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@contextmanager
def one_thread_only() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def one_thread():
    with one_thread_only():
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The uninterrupted run; it is only read."""
    folder = tmp_path_factory.mktemp("training") / "whole"
    with one_thread_only():
        run(folder)
    return folder


def test_killed_in_a_checkpoint_and_resumed_is_the_uninterrupted_run(whole: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    killed(broken, 15, "save")
    assert (
        log(broken)[-1]["step"] == 14
    )  # beyond the last checkpoint, of step 10: these rows are written again
    run(broken)
    same(whole, broken)
    steps = [row["step"] for row in log(broken)]
    assert steps == sorted(set(steps))
    assert steps == [0, *range(2, 25, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_killed_at_ten_random_steps(tmp_path: Path, update: str) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole, gradient=update == "gradient")
    draw = torch.Generator().manual_seed(0)
    at = sorted((1 + torch.randperm(23, generator=draw)[:10]).tolist())
    for step in at:
        killed(broken, step, "step", update)
    run(broken, gradient=update == "gradient")
    same(whole, broken)


def test_codewords_are_revived_in_these_trainings(tmp_path: Path) -> None:
    """Otherwise the tests above would say nothing of revival and of the moments that are zeroed with it."""
    run(tmp_path, gradient=True)
    assert sum(row.get("revived") or 0 for row in log(tmp_path)) > 0


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    whole: Path, tmp_path: Path, damage: str
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(whole, broken)
    files = Checkpoints(broken / "checkpoints").files()
    last, before = files[0], files[1]
    content = bytearray(last.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    last.write_bytes({"truncated": content[:-100], "flipped": content, "empty": b""}[damage])
    for best in (broken / "checkpoints").glob(f"best-{last.name[5:13]}*"):
        best.unlink()
    with pytest.warns(UserWarning, match=f"checkpoint .*{last.name} is damaged"):
        run(broken)
    assert before.exists()
    same(whole, broken)


def test_the_last_three_checkpoints_and_the_best_are_kept(whole: Path) -> None:
    steps = Checkpoints(whole / "checkpoints").files()
    assert [int(path.name[5:13]) for path in steps] == [24, 20, 16]
    scores = {row["step"]: row["psnr"] for row in log(whole) if "psnr" in row and row["step"] > 0}
    best = Checkpoints(whole / "checkpoints").files("best")
    assert [int(path.name[5:13]) for path in best] == [max(scores, key=scores.__getitem__)]


def moments_of(work: trainer.Trainer) -> list[torch.Tensor]:
    states = work.optimizers.state_dict()["tokenizer"]["state"].values()
    return [moment for state in states for moment in state.values()]


def test_a_step_that_is_not_finite_moves_nothing_and_is_reported(tmp_path: Path, monkeypatch) -> None:
    work = begin(tmp_path)
    work.initialise()
    forward = ImageTokenizer.forward

    def broken(self, x):
        found = forward(self, x)
        return found._replace(loss=found.loss * float("nan"))

    work.step()
    before = {k: v.clone() for k, v in work.task.tokenizer.state_dict().items()}
    moments = [v.clone() for v in moments_of(work)]
    monkeypatch.setattr(ImageTokenizer, "forward", broken)
    assert not work.step().finite
    assert all(torch.equal(v, before[k]) for k, v in work.task.tokenizer.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(moments, moments_of(work), strict=True))
    monkeypatch.setattr(ImageTokenizer, "forward", forward)
    assert work.step().finite
    assert (work.progress.step, work.progress.skipped, work.progress.in_a_row) == (3, 1, 0)


def test_several_in_a_row_stop_the_training_with_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch
) -> None:
    step, forward = trainer.Trainer.step, ImageTokenizer.forward

    def breaks(self):
        if self.progress.step >= 12:
            monkeypatch.setattr(
                ImageTokenizer,
                "forward",
                lambda s, x: (f := forward(s, x))._replace(loss=f.loss * float("inf")),
            )
        return step(self)

    monkeypatch.setattr(trainer.Trainer, "step", breaks)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(loop.DivergenceError, match=r"10 steps in a row .* checkpoint is .*step-00000010"):
            run(tmp_path)
    assert sum("not finite; the step was skipped" in str(w.message) for w in said) == 10
    assert log(tmp_path)[-1]["skipped"] == 10
    assert all(torch.isfinite(t).all() for t in newest(tmp_path).values() if t.is_floating_point())


def test_latents_that_are_not_finite_count_as_a_bad_step(tmp_path: Path) -> None:
    work = begin(tmp_path)
    work.initialise()
    with torch.no_grad():
        work.task.tokenizer.encoder[0].weight[0, 0, 0, 0] = float("nan")
    assert not work.step().finite


def test_ctrl_c_leaves_a_checkpoint_of_the_present_step(whole: Path, tmp_path: Path, monkeypatch) -> None:
    step = trainer.Trainer.step
    broken = tmp_path / "broken"

    def interrupted(self):
        found = step(self)
        if self.progress.step == 7:
            signal.raise_signal(signal.SIGINT)
        return found

    monkeypatch.setattr(trainer.Trainer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(broken)
    monkeypatch.setattr(trainer.Trainer, "step", step)
    assert "step-00000007" in Checkpoints(broken / "checkpoints").files()[0].name
    run(broken)
    same(whole, broken)


def test_weights_are_averaged_and_given_back(tmp_path: Path) -> None:
    work = begin(tmp_path)
    work.initialise()
    start = {k: v.detach().clone() for k, v in work.task.tokenizer.named_parameters()}
    work.step()
    now = {k: v.detach().clone() for k, v in work.task.tokenizer.named_parameters()}
    with work.averaged():
        for name, value in work.task.tokenizer.named_parameters():
            expected = start[name] + (now[name] - start[name]) * (1 - 1 / 10)
            assert torch.allclose(value, expected, atol=1e-6)
    assert all(torch.equal(v, now[k]) for k, v in work.task.tokenizer.named_parameters())


def test_the_gradient_of_a_revived_codeword_starts_anew(tmp_path: Path) -> None:
    work = begin(tmp_path, gradient=True)
    work.initialise()
    table = work.task.tokenizer.quantizer.codebook.table
    for _ in range(24):
        work.step()
        before = work.task.tokenizer.quantizer.codebook.window_counts.sum()
        if before == 0:  # a window has just ended
            break
    moments = work.optimizers.state("tokenizer", table)
    rows = (moments["exp_avg_sq"] == 0).all(-1)
    assert rows.any()
    assert torch.equal(
        work.average.means["tokenizer"]["quantizer.codebook.table"][rows], table.detach()[rows]
    )


def test_each_kind_of_parameter_has_its_rate(tmp_path: Path) -> None:
    groups = begin(tmp_path, gradient=True).task.optimizers()["tokenizer"].groups
    assert [group.weight_decay for group in groups] == [1e-4, 0.0, 0.0]
    assert [group.schedule.warmup for group in groups] == [4, 4, 100]
    counts = [sum(p.numel() for p in group.parameters) for group in groups]
    assert counts[2] == 4 * 32
    assert sum(counts) == sum(p.numel() for p in begin(tmp_path, gradient=True).task.tokenizer.parameters())


@pytest.mark.parametrize("values", [{"lr": -1.0}, {"clip": float("nan")}, {"init_tokens": 0}])
def test_settings_out_of_range_are_refused(values: dict) -> None:
    with pytest.raises(InputError, match=next(iter(values))):
        TokenizerOptimization(**values)


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    whole, parts = begin(tmp_path), begin(tmp_path, RECIPE.model_copy(update={"accumulate": 2}))
    for work in (whole, parts):
        work.initialise()
        work.step()
    for one, other in zip(whole.task.tokenizer.parameters(), parts.task.tokenizer.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    table, other_table = (w.task.tokenizer.quantizer.codebook.table for w in (whole, parts))
    assert torch.equal(table, other_table)  # sums in float64: no trace of how the batch was divided


def test_a_checkpoint_of_the_first_version_is_taken_up(tmp_path: Path) -> None:
    work = begin(tmp_path)
    work.initialise()
    work.step()
    state = work.state()
    first = {
        "model": state["modules"]["tokenizer"],
        "average": state["average"]["tokenizer"],
        "optimizer": state["optimizers"]["tokenizer"],
        "random": state["random"],
        "progress": state["progress"],
    }
    first = copy.deepcopy(first)
    later = work.step().values
    again = begin(tmp_path)
    again.resume(first)
    assert again.step().values == later


@pytest.mark.parametrize(
    ("change", "message"), [({"version": 99}, "version 99"), ({"kind": "prior"}, "of a prior")]
)
def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    work = begin(tmp_path)
    with pytest.raises(InputError, match=message):
        work.resume({**work.state(), **change})


def test_a_batch_that_can_not_be_shared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batch_size=4 is no multiple of 3"):
        begin(tmp_path, RECIPE.model_copy(update={"accumulate": 3}))


def test_a_stage_that_depth_dropout_leaves_out_is_no_broken_latent() -> None:
    torch.manual_seed(0)
    stages = [VectorQuantizer(4, 16, seed=i) for i in range(3)]
    tokenizer = ImageTokenizer(Residual(stages, depth_dropout=1.0), width=8, depth=1)
    work = trainer.Trainer(launch("cpu"), TestTask(tokenizer, crops(), OPTIMIZATION), RECIPE)
    work.initialise()
    work.task.tokenizer.train()
    assert [work.step().finite for _ in range(6)] == [True] * 6
