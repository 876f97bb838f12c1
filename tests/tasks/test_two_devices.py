"""Devices, and two processes that must end with one codebook."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from codebound.engine.journal import Journal

SCRIPT = """
import hashlib, os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
import test_tokenizer_training as here
from codebound.engine import devices
launch = devices.launch
here.launch = lambda kind: launch(kind, 2)
work = here.run(Path(sys.argv[2]))
state = work.task.tokenizer.state_dict()
digest = hashlib.sha256(b"".join(state[name].numpy().tobytes() for name in sorted(state)))
(Path(sys.argv[2]) / f"rank{work.fabric.global_rank}").write_text(digest.hexdigest())
"""


def call(folder: Path, *launcher: str) -> None:
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*launcher, str(script), str(Path(__file__).parent), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.slow
def test_two_processes_have_the_same_weights_and_codebook_and_train_as_one_does(tmp_path: Path) -> None:
    import test_tokenizer_training as one

    one.run(tmp_path / "one")
    launchers = {
        "devices": [sys.executable],
        "torchrun": [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"],
    }
    for name, launcher in launchers.items():
        folder = tmp_path / name
        folder.mkdir()
        call(folder, *launcher)
        ranks = [(folder / f"rank{i}").read_text() for i in range(2)]
        assert ranks[0] == ranks[1]
        rows, alone = Journal(folder).rows(), Journal(tmp_path / "one").rows()
        assert [row["step"] for row in rows] == [row["step"] for row in alone]
        # The halves of a batch add up in another order: equal to rounding, for as long as no codeword flips.
        assert rows[1]["gradient_norm"] == pytest.approx(alone[1]["gradient_norm"], rel=1e-3)


def test_bf16_keeps_the_codebook_s_sums_in_float64(tmp_path: Path, monkeypatch) -> None:
    """Fabric's own mixed precision would round them to float32."""
    import test_tokenizer_training as one

    recipe = one.RECIPE.model_copy(update={"precision": "bf16"})
    work = one.begin(tmp_path, recipe)
    work.initialise()
    seen = []
    update = type(work.task.tokenizer.quantizer).update_
    monkeypatch.setattr(
        type(work.task.tokenizer.quantizer), "update_", lambda self, *r: seen.extend(r) or update(self, *r)
    )
    assert work.step().finite
    assert seen[0].stats[0].sums.dtype == torch.float64
    assert work.task.tokenizer.quantizer.codebook.table.dtype == torch.float32
