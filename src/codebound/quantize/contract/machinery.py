"""Checks that need machinery: the compiler's front end, the exporter, two processes. Seconds each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

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
from codebound.quantize.contract.two_ranks import TIMEOUT, Join, RanksFailed, in_two_ranks

STEPS = 50  # revival windows end, and masses decay


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
    # No token is 0: all unit codewords are as near to it, and an exported search has no second look.
    batch = torch.where(case.z.any(-1, keepdim=True), case.z, case.latents[:1])
    tokens = torch.export.Dim("tokens", min=2)
    program = torch.export.export(quantizer, (batch,), dynamic_shapes=({0: tokens},)).module()
    for z in (batch, batch[:17]):
        expect_same_result(program(z), quantizer(z), f"exported, {len(z)} tokens", case.exact)


def two_ranks(case: Case) -> None:
    """Two gloo ranks, built before the process group is, equal one process on the joined batch."""
    case.need_deterministic()
    failures = run_two_ranks([case])
    expect(not failures, "; ".join(failures.values()))


def run_two_ranks(cases: Sequence[Case]) -> dict[int, str]:
    """Run all cases in one pair of processes; what failed, by the case's number."""
    if not dist.is_available():
        raise SkipCheck("torch.distributed is not available")
    try:
        failures = in_two_ranks(partial(_failures, list(cases)), TIMEOUT + 30.0 * len(cases))
    except RanksFailed as error:
        return dict.fromkeys(range(len(cases)), str(error))
    return {i: message for part in failures for i, message in part.items()}


def _failures(cases: Sequence[Case], rank: int, join: Join) -> dict[int, str]:
    """What one of the two ranks sees fail, by the case's number."""
    # Every case in this process alone: what the two together must come to. Quantizers are built before the group.
    alone = [_run(case, None) for case in cases]
    join()

    # Each case again on this rank's part of the batches; the first step with another state is reported.
    failures = {}
    for i, (case, expected) in enumerate(zip(cases, alone, strict=True)):
        for step, (actual, one) in enumerate(zip(_run(case, rank), expected, strict=True)):
            problem = difference(actual, one, case.exact)
            if problem is not None and i not in failures:
                when = "init_" if step == 0 else f"update {step}"
                failures[i] = f"rank {rank} after {when}: expected the state of one process; {problem}"
    return failures


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
