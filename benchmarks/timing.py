"""What the benchmarks share: shapes, the peer, interleaved medians, tables."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from codebound.search import nearest


class Shape(NamedTuple):
    """N vectors of d numbers, K codewords."""

    n: int
    d: int
    k: int

    def __str__(self) -> str:
        return f"{self.n}, {self.d}, {self.k}"


SHAPES = [
    Shape(128, 8, 256),
    Shape(16384, 8, 1024),
    Shape(32768, 64, 512),
    Shape(8192, 256, 1024),
    Shape(16384, 64, 16384),
    Shape(8192, 32, 65536),
    Shape(4096, 18, 262144),
]
SHORTEST = 2e-3  # seconds of a sample: shorter work is repeated within it
GIB = 2**30


def draw(shape: Shape, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Vectors and codewords from N(0, I)."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(shape.n, shape.d, generator=generator)
    return z, torch.randn(shape.k, shape.d, generator=generator)


def warm_up() -> None:
    """Search for a second, as any training does: from then on the compiled search is used, where Numba is installed."""
    z, codebook = draw(Shape(16384, 8, 1024))
    for _ in range(40):
        nearest(z, codebook)


def peer(codebook: Tensor) -> Any:
    """vector-quantize-pytorch's `VectorQuantize` with these codewords, set to do no more work than ours.

    Straight-through, EMA at 0.99, commitment 0.25; no dead-code search (ours has one), no k-means.
    """
    from vector_quantize_pytorch import VectorQuantize

    k, d = codebook.shape
    layer = VectorQuantize(
        dim=d,
        codebook_size=k,
        decay=0.99,
        commitment_weight=0.25,
        rotation_trick=False,
        threshold_ema_dead_code=0,
    )
    for buffer in (layer._codebook.embed, layer._codebook.embed_avg):
        buffer.data.copy_(codebook.unsqueeze(0))
    return layer


def peer_bytes(shape: Shape, training: bool) -> int:
    """Memory of the peer: distances, their arguments and an int64 one-hot; its float copy in training."""
    return (24 if training else 16) * shape.n * shape.k


def too_big(needed: int, limit_gib: float) -> str | None:
    """What the table says where memory does not suffice."""
    if needed <= limit_gib * GIB:
        return None
    return f"not run: {needed / GIB:.0f} GiB, over the limit of {limit_gib:g}"


def medians(
    contenders: Mapping[str, Callable[[], object]], rounds: int, seconds: float
) -> dict[str, tuple[float, object]]:
    """Median seconds of one call of each contender, and what its last call returned.

    One call of each to warm up, then rounds in which each has its turn. A contender drops out when it has
    spent `seconds`, but not before its first timed round. Processor time, which other programs on the machine
    disturb least; everything runs on one thread.
    """
    repeats, samples, results = {}, {name: [] for name in contenders}, {}
    for name, work in contenders.items():
        results[name] = work()
        began = time.process_time()
        work()
        repeats[name] = max(1, round(SHORTEST / max(time.process_time() - began, 1e-7)))
    for _ in range(rounds):
        for name, work in contenders.items():
            if sum(samples[name]) * repeats[name] > seconds:
                continue
            began = time.process_time()
            for _ in range(repeats[name]):
                results[name] = work()
            samples[name].append((time.process_time() - began) / repeats[name])
    return {name: (statistics.median(samples[name]), results[name]) for name in contenders}


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bar(name: str, shape: object, measured: float, most: float) -> list[str]:
    """A row of a table of bars: what must not be exceeded, what was measured, and whether it is met."""
    return [name, str(shape), f"{most:.3g}", f"{measured:.3g}", "yes" if measured <= most else "**no**"]


def bars(rows: list[list[str]]) -> str:
    """The table of bars."""
    return markdown(["bar", "shape", "at most", "measured", "met"], rows)


def milliseconds(seconds: float) -> str:
    """Three digits."""
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"


def machine() -> str:
    """Where the numbers come from, and how busy it was."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return f"{model}, one thread of {os.cpu_count()}; torch {torch.__version__}; load before the run {load}"
