"""Checks that need machinery: the compiler's front end, the exporter, two processes. Seconds each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import cloudpickle
import torch
import torch.distributed as dist
from torch import Tensor

from codebound.quantize.contract.case import (
    Case,
    SkipCheck,
    difference,
    expect,
    expect_equal,
    expect_same_result,
    state,
)

STEPS = 50  # revival windows end, and masses decay
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
TIMEOUT = 120.0  # seconds: a rank that waits for a call which the other never makes


def compiles(case: Case) -> None:
    """`torch.compile(fullgraph=True)` gives what eager gives, with gradients, in training and in eval."""
    for training in (False, True):
        if training:
            case.need_deterministic()

        # The whole forward must be one graph.
        quantizer = case.ready(training)
        torch._dynamo.reset()
        compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")

        # Eager and compiled runs on equal inputs give equal results.
        mask = torch.arange(len(case.z)) % 4 != 0
        leaves = [case.z.clone().requires_grad_() for _ in range(2)]
        expected, actual = quantizer(leaves[0], mask=mask), compiled(leaves[1], mask=mask)
        what = f"compiled, {'training' if training else 'eval'}"
        expect_same_result(actual, expected, what, case.exact)

        # And equal gradients, where there are any.
        total = expected.z_q.sum() + expected.loss
        if total.requires_grad:
            total.backward()
            (actual.z_q.sum() + actual.loss).backward()
            for leaf, name in zip(leaves, ("eager", "compiled"), strict=True):
                expect(leaf.grad is not None, f"{what}: no gradient in the {name} run")
            gradients: list[Tensor] = [leaf.grad for leaf in leaves if leaf.grad is not None]
            expect_equal(gradients[1], gradients[0], f"{what}, gradient", exact=False)
    torch._dynamo.reset()


def exports(case: Case) -> None:
    """`torch.export` of the eval forward for any number of tokens, and the exported program gives the same."""
    quantizer = case.ready()
    tokens = torch.export.Dim("tokens", min=2)
    program = torch.export.export(quantizer, (case.z,), dynamic_shapes=({0: tokens},)).module()
    for z in (case.z, case.z[:17]):
        expect_same_result(program(z), quantizer(z), f"exported, {len(z)} tokens", case.exact)


def two_ranks(case: Case) -> None:
    """Two gloo ranks, built before the process group is, equal one process on the joined batch."""
    case.need_deterministic()
    failures = run_two_ranks([case])
    expect(not failures, "; ".join(failures.values()))


def run_two_ranks(cases: Sequence[Case]) -> dict[int, str]:
    """Run all cases in one pair of processes; what failed, by the case's number.

    Plain subprocesses, not `multiprocessing`: nothing re-imports the caller's main module. The quantizers
    travel by cloudpickle, so that classes of a notebook or of a function pass too.
    """
    # What the two processes need goes into a folder: the import path, and the cases as they are.
    if not dist.is_available():
        raise SkipCheck("torch.distributed is not available")
    limit = TIMEOUT + 30.0 * len(cases)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "path.json").write_text(json.dumps(sys.path))
        (path / "cases.pkl").write_bytes(cloudpickle.dumps(list(cases)))

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
            return dict.fromkeys(range(len(cases)), f"the two ranks did not finish in {limit:.0f} s")
        finally:
            for process in ranks:
                process.kill()
                process.wait()

        # A rank that died says why; else each has written which cases failed in it.
        for rank, process in enumerate(ranks):
            if process.returncode != 0:
                return dict.fromkeys(range(len(cases)), f"rank {rank} failed: {outputs[rank][-2000:]}")
        failures = [json.loads((path / f"rank{rank}.json").read_text()) for rank in range(2)]
    return {int(i): message for part in failures for i, message in part.items()}


def _rank_main() -> None:
    """What each of the two processes does; its failures go into a file of the folder that it is given."""
    # Every case in this process alone: what the two together must come to. Quantizers are built before the group.
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    sys.path[:] = json.loads((folder / "path.json").read_text())
    torch.set_num_threads(1)
    cases: list[Case] = cloudpickle.loads((folder / "cases.pkl").read_bytes())
    alone = [_run(case, None) for case in cases]

    # Join the other rank.
    dist.init_process_group(
        "gloo",
        init_method=(folder / "store").as_uri(),
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=TIMEOUT / 2),
    )

    # Each case again on this rank's part of the batches; the first step with another state is reported.
    failures = {}
    for i, (case, expected) in enumerate(zip(cases, alone, strict=True)):
        for step, (actual, one) in enumerate(zip(_run(case, rank), expected, strict=True)):
            problem = difference(actual, one, case.exact)
            if problem is not None and i not in failures:
                when = "init_" if step == 0 else f"update {step}"
                failures[i] = f"rank {rank} after {when}: expected the state of one process; {problem}"
    dist.destroy_process_group()
    (folder / f"rank{rank}.json").write_text(json.dumps(failures))


def _run(case: Case, rank: int | None) -> list[dict[str, Tensor]]:
    """States after `init_` and after each step; a rank sees its part (two fifths or three) of each batch."""

    def part(batch: Tensor) -> Tensor:
        cut = 2 * len(batch) // 5
        return batch if rank is None else batch[:cut] if rank == 0 else batch[cut:]

    # Initialise and train; the state is kept after every step.
    quantizer = case.fresh()
    torch.manual_seed(case.seed)
    quantizer.init_(part(case.latents))
    states = [state(quantizer)]
    for batch in case.batches(STEPS):
        quantizer.update_(quantizer(part(batch)))
        states.append(state(quantizer))
    return states
