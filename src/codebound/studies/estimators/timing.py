"""Time and working memory of four ways to one training step, interleaved."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from codebound.batched import linear_numpy
from codebound.batched.linear import LinearRuns, Rule, autograd_gradients, closed_form_gradients, loss
from codebound.nets.linear import polar
from codebound.quantize.estimator import StraightThrough
from codebound.quantize.seeding import kmeans_plus_plus
from codebound.studies.estimators import sources
from codebound.studies.estimators.settings import Settings

_WARM_UP = 5
_STEPS = 20  # per round and way
_MANY = 16  # runs at once, of which the batched way takes one share


def run_timing(settings: Settings, source: str, seed: int) -> dict[str, Any]:
    """Seconds per step of each way in each round; bytes that one step holds at its peak beyond what it began with."""
    problem = sources.draw(settings.model_copy(update={"fresh_samples": 2, "test_samples": 2}), source, seed)
    stream = sources.generator(source, seed, "timing")
    book = kmeans_plus_plus(problem.train @ problem.pca, settings.codebook_size, stream)
    x = problem.train[: settings.batch_size].contiguous()

    # Ways that can run here.
    ways = _ways(settings, LinearRuns(problem.pca[None], book[None]))
    absent = {name: reason for name, way in ways.items() if (reason := _try(way, x))}
    ways = {name: way for name, way in ways.items() if name not in absent}

    # The order turns round by round, so that none always follows the same neighbour.
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(settings.timing_rounds):
        first = turn % len(ways)
        for name in (*list(ways)[first:], *list(ways)[:first]):
            began = time.perf_counter()
            for _ in range(_STEPS):
                ways[name](x)
            share = _MANY if name == "manual_batched_many" else 1
            seconds[name].append((time.perf_counter() - began) / _STEPS / share)
    peaks = {name: _peak(way, x) for name, way in ways.items()}
    return {
        "seconds": seconds,
        "peak_bytes": peaks,
        "absent": absent,
        "steps_per_round": _STEPS,
        "many": _MANY,
    }


def _ways(settings: Settings, start: LinearRuns) -> dict[str, Callable[[Tensor], Any]]:
    rates = (settings.lr_encoder, settings.lr_codebook)
    beta, alpha = settings.commitment, settings.codebook_weight
    rule = Rule(StraightThrough(), *rates, beta, alpha)
    state = linear_numpy.State(start.encoder[0].numpy(), start.codebook[0].numpy())
    many = LinearRuns(*(t.expand(_MANY, -1, -1).contiguous() for t in start))

    def numpy_step(x: Tensor) -> Any:
        return linear_numpy.step(x.numpy(), state, *rates, beta, alpha)

    def torch_step(gradients: Callable[..., LinearRuns], runs: LinearRuns) -> Callable[[Tensor], Any]:
        rules = [rule] * len(runs.encoder)

        def step(x: Tensor) -> LinearRuns:
            g = gradients(x, runs, rules)
            encoder = polar(runs.encoder - rates[0] * g.encoder)
            return LinearRuns(encoder, runs.codebook - rates[1] * g.codebook)

        return step

    ways = {
        "manual_numpy": numpy_step,
        "manual_batched": torch_step(closed_form_gradients, start),
        "manual_batched_many": torch_step(closed_form_gradients, many),
        "autograd": torch_step(autograd_gradients, start),
    }
    if settings.timing_compiled:
        ways["compiled"] = torch_step(_compiled(), start)
    return ways


def _compiled() -> Callable[..., LinearRuns]:
    # A graph per number of runs would not do in a study, but this is one number.
    value = torch.compile(lambda x, w, c, rules: loss(x, LinearRuns(w, c), rules), fullgraph=True)

    def gradients(x: Tensor, runs: LinearRuns, rules: Any) -> LinearRuns:
        leaves = LinearRuns(*(t.detach().requires_grad_() for t in runs))
        return LinearRuns(*torch.autograd.grad(value(x, *leaves, rules).sum(), leaves))

    return gradients


def _try(way: Callable[[Tensor], Any], x: Tensor) -> str:
    """Warm up; the reason why it can't run here (no C++ compiler, say), or nothing."""
    logging.getLogger("torch._inductor").setLevel(logging.CRITICAL)
    try:
        for _ in range(_WARM_UP):
            way(x)
    except TorchDynamoException as error:
        return "torch.compile needs a C++ compiler" if shutil.which("c++") is None else str(error)[:200]
    return ""


def _peak(way: Callable[[Tensor], Any], x: Tensor) -> int:
    """Bytes held at most during one step: NumPy's and Python's by tracemalloc, torch's by its profiler.

    The two peaks are added, which is exact where one of the two allocates next to nothing.
    """
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        way(x)
        numpy = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with _silent(), torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        way(x)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    moves = [e for e in events if e.get("name") == "[memory]"]
    moves.sort(key=lambda e: e["ts"])
    held = np.cumsum([e["args"]["Bytes"] for e in moves]) if moves else np.zeros(1)
    return int(numpy + max(held.max(), 0))


@contextmanager
def _silent() -> Iterator[None]:
    """The profiler writes to the process's stderr, past Python."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
