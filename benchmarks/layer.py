"""A full training step of the vector quantizer against the peer's: time, and peak extra memory.

    make bench        or        OMP_NUM_THREADS=1 python benchmarks/layer.py [--shapes 0 1 2] [--write]

A step is: lookup, straight-through estimator, commitment loss, EMA statistics, usage, backward to the latents, and the
move of the codewords. Ours is `forward`, `backward`, `update_`; the peer's moves the codewords inside `forward` and
computes no usage. Both from the same codebook with decay 0.99 and no dead-code revival; the first step's indices and
the latents' gradients must agree. One thread, interleaved, medians of processor time.

Memory: the peak of the resident set in a process of its own over one step, less what stood before it. Arrays of the
size of the inputs and of the codebook are no "extra", so the table gives them as a number: (peak − 16 MB) in units of
4·(N·d + K·d) bytes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import page
import timing
import torch
from timing import Shape
from torch import Tensor

from codebound import VectorQuantizer
from codebound.quantize.init import Normal
from codebound.quantize.revival import Never

BARS = {"step": 1 / 6, "tiny": 1 / 2}  # of the peer's
EXTRA = 16e6


def ours(codebook: Tensor) -> VectorQuantizer:
    layer = VectorQuantizer(codebook.shape[1], codebook.shape[0], revival=Never(), init=Normal())
    layer.codebook.reset_(codebook)
    return layer.train()


def step(layer: VectorQuantizer, z: Tensor, pull: Tensor) -> tuple[Tensor, Tensor | None]:
    """One training step of ours; `pull` stands for the decoder's gradient."""
    z.grad = None
    found = layer(z)
    ((found.z_q * pull).sum() + found.loss).backward()
    layer.update_(found)
    return found.indices.squeeze(-1), z.grad


def peer_step(layer: torch.nn.Module, z: Tensor, pull: Tensor) -> tuple[Tensor, Tensor | None]:
    """The peer's. Its commitment is a mean over D too, so its weight is D times ours."""
    z.grad = None
    z_q, indices, loss = layer(z.unsqueeze(0))
    ((z_q.squeeze(0) * pull).sum() + loss.sum() * z.shape[1]).backward()
    return indices.squeeze(0), z.grad


def forward_only(layer: torch.nn.Module, z: Tensor) -> object:
    return layer(z)


def times(shape: Shape, arguments: argparse.Namespace) -> tuple[list[str], list[list[str]]]:
    """A row of the table, and what the bar says."""
    z, codebook = timing.draw(shape)
    z.requires_grad_()
    pull = torch.randn(shape.n, shape.d, generator=torch.Generator().manual_seed(1)) / shape.n
    scores = torch.empty(shape.n, shape.k)
    flat = z.detach()
    layer, plain = ours(codebook), ours(codebook)
    work: dict[str, Callable[[], object]] = {
        "GEMM": lambda: torch.mm(flat, codebook.t(), out=scores),
        "forward": lambda: forward_only(plain, z),
        "step": lambda: step(layer, z, pull),
    }
    reason = timing.too_big(timing.peer_bytes(shape, training=True), arguments.limit_gib)
    if reason is None:
        theirs, their_plain = timing.peer(codebook).train(), timing.peer(codebook).train()
        same(shape, step(ours(codebook), z, pull), peer_step(timing.peer(codebook).train(), z, pull))
        work["peer forward"] = lambda: forward_only(their_plain, z.unsqueeze(0))
        work["peer step"] = lambda: peer_step(theirs, z, pull)
    found = {name: t for name, (t, _) in timing.medians(work, arguments.rounds, arguments.seconds).items()}
    names = ["GEMM", "forward", "step", "peer forward", "peer step"]
    cells = [timing.milliseconds(found[name]) if name in found else str(reason) for name in names]
    if reason is not None:
        return [str(shape), *cells, "–"], []
    ratio = found["step"] / found["peer step"]
    most = BARS["step"] if shape.n >= 4096 and shape.k >= 512 else BARS["tiny"]
    return [str(shape), *cells, f"{ratio:.2f}"], [timing.bar("step / the peer's step", shape, ratio, most)]


def same(shape: Shape, mine: tuple[Tensor, Tensor | None], theirs: tuple[Tensor, Tensor | None]) -> None:
    """Indices agree but for rounding, and gradients where indices do."""
    rows = mine[0] == theirs[0]
    assert mine[1] is not None
    assert theirs[1] is not None
    if float(rows.double().mean()) < 0.999 or not torch.allclose(
        mine[1][rows], theirs[1][rows], rtol=1e-3, atol=1e-6
    ):
        raise SystemExit(f"{shape}: ours and the peer's steps differ: this would compare different work")


def peak(shape: Shape) -> int:
    """Bytes that one step adds to the peak of the resident set; for a fresh process on Linux."""
    z, codebook = timing.draw(shape)
    layer = ours(codebook)
    z.requires_grad_()
    pull = torch.ones(shape.n, shape.d)
    small = torch.randn(64, shape.d, requires_grad=True)
    step(ours(torch.randn(32, shape.d)), small, torch.ones(64, shape.d))  # libraries load and threads start
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    step(layer, z, pull)
    return resident("VmHWM") - before


def resident(field: str) -> int:
    """Bytes, from Linux's account of this process; `ru_maxrss` would be inherited from the parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def memory(shape: Shape) -> list[str]:
    """A row of the memory table."""
    command = [sys.executable, __file__, "--peak", *map(str, shape)]
    extra = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    unit = 4 * (shape.n * shape.d + shape.k * shape.d)
    arrays = max(0.0, extra - EXTRA) / unit
    theirs = timing.peer_bytes(shape, training=True)
    return [str(shape), f"{extra / 1e6:.0f}", f"{unit / 1e6:.1f}", f"{arrays:.1f}", f"{theirs / 1e6:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", type=int, nargs="*", default=range(len(timing.SHAPES)))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each contender at each shape")
    parser.add_argument("--limit-gib", type=float, default=12.0, help="what needs more memory is not run")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    parser.add_argument("--peak", type=int, nargs=3, metavar=("N", "D", "K"), help="print one peak, in bytes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    timing.warm_up()
    if arguments.peak:
        print(peak(Shape(*arguments.peak)))
        return
    machine = timing.machine()
    shapes = [timing.SHAPES[i] for i in arguments.shapes]
    rows, bars = [], []
    for shape in shapes:
        row, found = times(shape, arguments)
        rows.append(row)
        bars += found
        print(row, flush=True)
    head = ["shape", "GEMM", "forward", "step", "peer forward", "peer step", "step / peer step"]
    memory_head = ["shape", "peak", "inputs + codebook", "such arrays beyond 16 MB", "peer (24·N·K bytes)"]
    text = [
        f"{machine}.",
        "Milliseconds; shapes are N, d, K; the peer's memory is computed, and where it does not fit the table says so.",
        timing.markdown(head, rows),
        timing.bars(bars),
        "Memory of one step, MB:",
        timing.markdown(memory_head, [memory(shape) for shape in shapes]),
    ]
    print("\n\n".join(text))
    if arguments.write:
        page.write_block("benchmarks.md", "layer", "\n\n".join(text))


if __name__ == "__main__":
    main()
