"""Trainings in processes of their own: killed, and as two ranks. A training is the text of a call that begins it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from codebound.engine.journal import Journal, volatile

BEGIN = """
import hashlib, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
import adversarial_training, audio_training, prior_training
from codebound import generators
from codebound.engine.trainer import Trainer
folder = Path(sys.argv[2])
"""

KILLED = """
step = Trainer.step
def killed(self):
    result = step(self)
    if self.progress.step == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return result
Trainer.step = killed
"""

DIGEST = """
states = {name: module.state_dict() for name, module in trainer.task.modules.items()}
content = b"".join(t.numpy().tobytes() for _, state in sorted(states.items()) for t in state.values())
(folder / f"rank{trainer.fabric.global_rank}").write_text(hashlib.sha256(content).hexdigest())
"""


def killed(call: str, folder: Path, at: int) -> None:
    """Begin or resume a training in `folder`, as it is called in the script, and kill it after step `at`."""
    done = _run(BEGIN + KILLED + call, folder, str(at))
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def two_ranks(call: str, folder: Path) -> None:
    """Train on two devices; all that is trained ends the same on both."""
    folder.mkdir()
    done = _run(f"{BEGIN}trainer = {call}{DIGEST}", folder)
    assert done.returncode == 0, done.stderr.decode()
    ranks = [(folder / f"rank{i}").read_text() for i in range(2)]
    assert ranks[0] == ranks[1]


def log(folder: Path) -> list[dict]:
    """The rows of a run, without times."""
    return [{k: v for k, v in row.items() if not volatile(k)} for row in Journal(folder).rows()]


def _run(text: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    # From a file: the second rank is started as the first one was.
    script = folder.parent / f"{folder.name}.py"
    script.write_text(text)
    command = [sys.executable, str(script), str(Path(__file__).parent), str(folder), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, timeout=300)
