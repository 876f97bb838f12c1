"""The engine with a task that it was not made for: two networks, two optimizers, one against the other."""

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import two_networks
from safetensors.torch import load_file
from two_networks import RECIPE, Duel

from codebound.engine.checkpoints import Checkpoints
from codebound.engine.devices import check_precision, launch
from codebound.engine.journal import Journal, volatile
from codebound.engine.optimize import Optimizers
from codebound.engine.recipe import Recipe, Schedule
from codebound.engine.task import OptimizerPlan, ParameterGroup, Score
from codebound.engine.trainer import Trainer
from codebound.errors import InputError

HERE = Path(__file__).parent

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
import two_networks
from codebound.engine.trainer import Trainer
step = Trainer.step
def killed(self):
    result = step(self)
    if self.progress.step == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return result
Trainer.step = killed
two_networks.run(Path(sys.argv[2]))
"""

TWO_RANKS = """
import hashlib, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
import two_networks
trainer = two_networks.run(Path(sys.argv[2]), devices=2, blur=0.0)
states = [trainer.task.modules[name].state_dict() for name in sorted(trainer.task.modules)]
content = b"".join(t.numpy().tobytes() for state in states for t in state.values())
(Path(sys.argv[2]) / f"rank{trainer.fabric.global_rank}").write_text(hashlib.sha256(content).hexdigest())
"""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def log(folder: Path) -> list[dict]:
    return [{k: v for k, v in row.items() if not volatile(k)} for row in Journal(folder).rows()]


def same(one: Path, other: Path) -> None:
    """Bit for bit: both networks, the average, both optimizers, generators; and the log."""
    a, b = (load_file(Checkpoints(f / "checkpoints").files()[0]) for f in (one, other))
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    assert log(one) == log(other)


def killed(folder: Path, at: int) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(HERE), str(folder), str(at)]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.mark.slow
def test_two_networks_killed_once_are_the_uninterrupted_run(tmp_path: Path) -> None:
    two_networks.run(tmp_path / "whole")
    killed(tmp_path / "broken", 15)
    two_networks.run(tmp_path / "broken")
    same(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.slow
def test_two_networks_killed_ten_times_are_the_uninterrupted_run(tmp_path: Path) -> None:
    two_networks.run(tmp_path / "whole")
    draw = torch.Generator().manual_seed(1)
    for step in sorted((1 + torch.randperm(39, generator=draw)[:10]).tolist()):
        killed(tmp_path / "broken", step)
    two_networks.run(tmp_path / "broken")
    same(tmp_path / "whole", tmp_path / "broken")


def test_two_ranks_end_with_the_same_networks_and_train_as_one_does(tmp_path: Path) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    script = tmp_path / "script.py"
    script.write_text(TWO_RANKS)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(HERE), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    ranks = [(folder / f"rank{i}").read_text() for i in range(2)]
    assert ranks[0] == ranks[1]
    # The halves of a batch add up in another order: equal to rounding.
    two_networks.run(tmp_path / "one", blur=0.0)
    rows, alone = Journal(folder).rows(), Journal(tmp_path / "one").rows()
    assert [row["step"] for row in rows] == [row["step"] for row in alone]
    for name in ("gradient_norm_generator", "gradient_norm_discriminator"):
        assert rows[3][name] == pytest.approx(alone[3][name], rel=1e-3)
    assert rows[-1]["distance"] == pytest.approx(alone[-1]["distance"], rel=1e-2)


ENDS = """
import sys
import torch
import torch.distributed as dist
from codebound.engine.devices import launch
fabric = launch("cpu", 4)
gathered = [torch.empty(1) for _ in range(4)]
dist.group.WORLD.allgather(gathered, torch.tensor([1.0]))
"""


@pytest.mark.slow
def test_a_process_ends_in_peace_right_after_a_collective(tmp_path: Path) -> None:
    """Without `end_group`, a quarter of such processes ended in SIGABRT."""
    script = tmp_path / "script.py"
    script.write_text(ENDS)
    command = [sys.executable, str(script)]
    for _ in range(8):
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        assert b"terminate" not in done.stderr, done.stderr.decode()


def test_each_loss_moves_its_own_network_only() -> None:
    task = Duel()
    optimizers = Optimizers(task.optimizers(), 10)
    losses = task.losses(next(task.batches(0, 0, 16)), 0).losses
    generator = torch.autograd.grad(losses["generator"], list(task.generator.parameters()), retain_graph=True)
    discriminator = torch.autograd.grad(
        losses["discriminator"], list(task.discriminator.parameters()), retain_graph=True
    )
    optimizers.backward(losses, 1.0)
    for module, gradients in ((task.generator, generator), (task.discriminator, discriminator)):
        for parameter, gradient in zip(module.parameters(), gradients, strict=True):
            assert torch.equal(parameter.grad, gradient)


def test_a_gradient_that_is_not_finite_stops_both_networks() -> None:
    trainer = Trainer(launch("cpu"), Duel(poison=2), RECIPE)
    trainer.initialise()
    trainer.step()
    trainer.step()
    before = {name: [p.clone() for p in m.parameters()] for name, m in trainer.task.modules.items()}
    assert not trainer.step().finite
    assert trainer.task.moved == 2 * 16
    for name, module in trainer.task.modules.items():
        assert all(torch.equal(p, q) for p, q in zip(module.parameters(), before[name], strict=True))
    assert trainer.step().finite
    assert not torch.equal(next(iter(trainer.task.discriminator.parameters())), before["discriminator"][0])


def test_the_best_checkpoint_is_the_one_with_the_lowest_score_where_lower_is_better(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        two_networks.run(tmp_path)
    distances = {row["step"]: row["distance"] for row in log(tmp_path) if row.get("distance") is not None}
    (best,) = Checkpoints(tmp_path / "checkpoints").files("best")
    del distances[0]  # the start is no checkpoint to keep
    assert int(best.name[5:13]) == min(distances, key=distances.__getitem__)


def test_only_what_the_task_names_is_averaged(tmp_path: Path) -> None:
    trainer = Trainer(launch("cpu"), Duel(), RECIPE)
    trainer.initialise()
    for _ in range(3):
        trainer.step()
    present = {name: m[0].weight.clone() for name, m in trainer.task.modules.items()}
    with trainer.averaged():
        assert not torch.equal(trainer.task.generator[0].weight, present["generator"])
        assert torch.equal(trainer.task.discriminator[0].weight, present["discriminator"])
    assert torch.equal(trainer.task.generator[0].weight, present["generator"])


def test_the_log_names_each_optimizer(tmp_path: Path) -> None:
    two_networks.run(tmp_path)
    row = Journal(tmp_path).rows()[-1]
    assert row["lr_generator"] < row["lr_discriminator"]
    assert {
        "gradient_norm_generator",
        "gradient_norm_discriminator",
        "judge",
        "points_per_s",
        "data_wait",
    } <= row.keys()
    assert 0 <= row["data_wait"] <= 1


@pytest.mark.untyped
def test_compiled_networks_train_to_the_same_weights_up_to_rounding(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"steps": 3})
    plain = Trainer(launch("cpu"), Duel(), recipe)
    compiled = Trainer(launch("cpu"), Duel(), recipe.model_copy(update={"compile": True}))
    for trainer in (plain, compiled):
        trainer.initialise()
        torch.manual_seed(5)
        for _ in range(3):
            assert trainer.step().finite
    assert compiled.state()["modules"].keys() == plain.state()["modules"].keys()
    for one, other in zip(
        plain.task.generator.parameters(), compiled.task.generator.parameters(), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-5)


def test_learning_rates_warm_up_and_fall() -> None:
    schedule = Schedule(peak=1.0, warmup=10)
    assert schedule.at(0, 100) == pytest.approx(0.1)
    assert schedule.at(50, 100) == pytest.approx(0.5)
    assert schedule.at(99, 100) < 1e-3


def test_a_parameter_in_two_groups_is_refused() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    plan = OptimizerPlan([ParameterGroup([parameter], Schedule(peak=0.1))])
    with pytest.raises(InputError, match="two groups"):
        Optimizers({"one": plan, "other": plan}, 10)


def test_scores_know_their_direction() -> None:
    assert Score("psnr", "higher").improves(2.0, 1.0)
    assert Score("loss", "lower").improves(1.0, 2.0)
    assert not Score("loss", "lower").improves(None, 2.0)
    assert Score("loss", "lower").improves(1e30, Score("loss", "lower").worst)


@pytest.mark.parametrize("values", [{"steps": 0}, {"average": 1.0}, {"batch_size": 0}, {"accumulate": 0}])
def test_recipes_out_of_range_are_refused(values: dict) -> None:
    with pytest.raises(InputError, match=next(iter(values))):
        Recipe(**values)


@pytest.mark.parametrize(
    ("device", "devices", "message"),
    [("gpu", 1, "accepted: auto, cpu, cuda, mps"), ("cpu", 0, "at least 1")],
)
def test_devices_that_are_not_there_are_refused(device: str, devices: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        launch(device, devices)


def test_precision() -> None:
    check_precision("32", torch.device("cpu"))
    check_precision("bf16", torch.device("cuda"))
    with pytest.raises(InputError, match="accepted: 32, bf16"):
        check_precision("16", torch.device("cpu"))
