"""A set of 20,000 JPEGs, 6.2 GiB decoded, under a memory of 1 GiB."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import large_set
import pytest
import torch
import yaml
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
RUN = {
    "codebook_size": 64, "dim": 4, "width": 8, "depth": 1, "crop": 32, "steps": 60, "batch_size": 32, "held_out": 64,
    "init_tokens": 2048, "log_every": 5, "evaluate_every": 20, "checkpoint_every": 10, "warmup": 2, "keep": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("large")
    large_set.generate(path)
    broken = large_set.drawn_in_step(path, 5)
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    return path


def read(folder: Path, workers: int) -> dict[str, Any]:
    """What a process saw that read 300 batches."""
    command = [sys.executable, large_set.__file__, str(folder), str(workers)]
    result = subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD, timeout=900, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_memory_order_and_an_unreadable_file(folder: Path) -> None:
    results = [read(folder, workers) for workers in (0, 1, 3)]
    broken = large_set.drawn_in_step(folder, 5).relative_to(folder).as_posix()
    for result in results:
        assert result["kind"] == "StreamedCrops"
        assert len(set(result["batches"])) == large_set.STEPS
        assert result["later"] == result["batches"][large_set.LATER :]
        everywhere, fair = result["memory"]
        assert 100 * 2**20 < fair <= everywhere <= 1.5 * 2**30
        (message,) = result["warnings"]
        assert broken in message
    for name in ("batches", "held_out", "digest"):
        assert results[0][name] == results[1][name] == results[2][name]


def test_a_training_that_is_killed_goes_on_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    settings = tmp_path / "run.yaml"
    settings.write_text(yaml.safe_dump(RUN))

    def begin(name: str, *more: str) -> subprocess.Popen[bytes]:
        arguments = [
            "train",
            str(settings),
            "--data",
            f"folder:{folder}",
            "--out",
            str(tmp_path / name),
            *more,
        ]
        code = f"import sys; from codebound.cli import main; sys.argv[1:] = {arguments!r}; main()"
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, env=ONE_THREAD)

    def checkpoint(name: str) -> Path | None:
        return max((tmp_path / name / "checkpoints").glob("step-*.safetensors"), default=None)

    assert begin("whole").wait(600) == 0
    # Killed as soon as a new checkpoint is there, twice; the third time it goes on to the end.
    seen = {None}
    for more in ((), ("--resume",)):
        killed, deadline = begin("killed", *more), time.time() + 300
        while checkpoint("killed") in seen and killed.poll() is None and time.time() < deadline:
            time.sleep(0.02)
        seen.add(checkpoint("killed"))
        assert killed.poll() is None
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
    assert begin("killed", "--resume").wait(600) == 0
    assert len(seen) == 3
    whole, resumed = (load_file(path) for path in map(checkpoint, ("whole", "killed")) if path is not None)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
