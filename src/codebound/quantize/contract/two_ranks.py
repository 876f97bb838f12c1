"""Two processes of this Python, joined by gloo."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import cloudpickle
import torch
import torch.distributed as dist

from codebound.quantize.ranks import end_group

LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
TIMEOUT = 120.0  # seconds: a rank that waits for a call which the other never makes

Join = Callable[[], None]


class RanksFailed(RuntimeError):
    """A rank died, or did not come to an end; the message has the last of what it printed."""


def in_two_ranks(work: Callable[[int, Join], Any], limit: float = TIMEOUT) -> list[Any]:
    """What `work(rank, join)` returns in each of two processes; calling `join()` makes the process group.

    Plain subprocesses, not `multiprocessing`: nothing re-imports the caller's main module. `work` travels by
    cloudpickle, so that classes of a notebook or of a function pass too.

    Args:
        limit: seconds that both may take.

    Raises:
        RanksFailed: a process that failed, or that took longer.
    """
    # What the two processes need goes into a folder: the import path, and what they are to do.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "path.json").write_text(json.dumps(sys.path))
        (path / "work.pkl").write_bytes(cloudpickle.dumps(work))

        # Two processes of this Python, each told its rank.
        program = f"from {__name__} import _rank_main; _rank_main()"
        paths = os.pathsep.join(p for p in sys.path if p)
        # The loopback device: gloo's default is where the host's name points, which may be nowhere.
        environment = {**os.environ, "PYTHONPATH": paths, "GLOO_SOCKET_IFNAME": LOOPBACK}
        ranks = [
            subprocess.Popen(
                [sys.executable, "-c", program, folder, str(rank)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(2)
        ]

        # Wait for both; whatever happens, none of them is left behind.
        try:
            outputs = [process.communicate(timeout=limit)[0] for process in ranks]
        except subprocess.TimeoutExpired:
            raise RanksFailed(f"the two ranks did not finish in {limit:.0f} s") from None
        finally:
            for process in ranks:
                process.kill()
                process.wait()

        # A rank that died says why; else each has written what came of it.
        for rank, process in enumerate(ranks):
            if process.returncode != 0:
                raise RanksFailed(f"rank {rank} failed: {outputs[rank][-2000:]}")
        return [pickle.loads((path / f"rank{rank}.pkl").read_bytes()) for rank in range(2)]


def _rank_main() -> None:
    """What each of the two processes does; what comes of it goes into a file of the folder that it is given."""
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    sys.path[:] = json.loads((folder / "path.json").read_text())
    torch.set_num_threads(1)

    def join() -> None:
        dist.init_process_group(
            "gloo",
            init_method=(folder / "store").as_uri(),
            rank=rank,
            world_size=2,
            timeout=timedelta(seconds=TIMEOUT / 2),
        )

    result = cloudpickle.loads((folder / "work.pkl").read_bytes())(rank, join)
    end_group()
    (folder / f"rank{rank}.pkl").write_bytes(cloudpickle.dumps(result))
