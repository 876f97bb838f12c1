"""Nearest codeword: ours against the matrix product alone, cdist, the peer and faiss.

    make bench        or        OMP_NUM_THREADS=1 python benchmarks/search.py [--shapes 0 1 2] [--write]

One thread, interleaved, medians of processor time. Every contender finds the nearest codeword of the same vectors;
their indices are compared (float32 rounding may exchange codewords at the same distance, and nothing else). The
floor, `torch.mm` into a preallocated N×K, finds nothing: it is what the scores alone cost.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import page
import timing
import torch
from timing import Shape
from torch import Tensor

from codebound import VectorQuantizer, search

BARS = {
    "floor": 1.25,  # at most so many times the floor, where N ≥ 4096 and K ≥ 512
    "peer": 0.2,  # and the peer's eval, everywhere
}


def contenders(shape: Shape, limit_gib: float) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    """What can run at this shape, by name, and what can't, with the reason."""
    import faiss

    z, codebook = timing.draw(shape)
    scores = torch.empty(shape.n, shape.k)
    ours = VectorQuantizer(shape.d, shape.k).eval()
    ours.codebook.reset_(codebook)
    theirs = timing.peer(codebook).eval()
    index = faiss.IndexFlatL2(shape.d)
    index.add(codebook.numpy())  # pyright: ignore[reportCallIssue]
    rows = z.numpy()

    def evaluate() -> Tensor:
        with torch.no_grad():
            return ours(z).indices.squeeze(-1)

    def evaluate_theirs() -> Tensor:
        with torch.no_grad():
            return theirs(z.unsqueeze(0))[1].squeeze(0)

    work: dict[str, Callable[[], object]] = {
        "GEMM": lambda: torch.mm(z, codebook.t(), out=scores),
        "nearest": lambda: search.nearest(z, codebook),
        "uncertified": lambda: search.nearest(z, codebook, certify=False),
        "eval": evaluate,
        "faiss": lambda: torch.from_numpy(index.search(rows, 1)[1][:, 0]),  # pyright: ignore[reportCallIssue]
        "cdist": lambda: torch.cdist(z, codebook).argmin(1),
        "peer eval": evaluate_theirs,
    }
    out = {}
    if reason := timing.too_big(timing.peer_bytes(shape, training=False), limit_gib):
        del work["peer eval"]
        out["peer eval"] = reason
    return work, out


def agree(shape: Shape, found: Tensor, other: Tensor) -> float:
    """Share of rows with the same index; raises where another index is not as near to float32 rounding."""
    z, codebook = timing.draw(shape)
    rows = (found != other).nonzero().squeeze(1)
    near, far = (
        (z[rows].double() - codebook[which[rows]].double()).square().sum(1) for which in (found, other)
    )
    scale = z[rows].double().square().sum(1) + codebook[other[rows]].double().square().sum(1)
    if bool(((far - near).abs() > 1e-5 * scale).any()):
        raise SystemExit(f"{shape}: indices differ by more than rounding")
    return 1 - len(rows) / shape.n


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", type=int, nargs="*", default=range(len(timing.SHAPES)))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each contender at each shape")
    parser.add_argument("--limit-gib", type=float, default=12.0, help="what needs more memory is not run")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    timing.warm_up()
    import faiss

    faiss.omp_set_num_threads(1)
    machine = timing.machine()
    names = ["nearest", "uncertified", "eval", "faiss", "cdist", "peer eval"]
    rows, bars = [], []
    for shape in [timing.SHAPES[i] for i in arguments.shapes]:
        work, out = contenders(shape, arguments.limit_gib)
        found = timing.medians(work, arguments.rounds, arguments.seconds)
        indices = {name: value for name, (_, value) in found.items() if name != "GEMM"}
        for other in indices.values():
            agree(shape, indices["nearest"], other)  # pyright: ignore[reportArgumentType]
        floor = found["GEMM"][0]
        cells = [
            out.get(name) or f"{timing.milliseconds(found[name][0])} ({found[name][0] / floor:.2f})"
            for name in names
        ]
        rows.append([str(shape), timing.milliseconds(floor), *cells])
        bars += measured(shape, {name: seconds for name, (seconds, _) in found.items()})
        print(rows[-1], flush=True)
    text = [
        f"{machine}.",
        "Milliseconds (ratio to GEMM); shapes are N, d, K. `nearest` is the search, `uncertified` the same without "
        "the second look in float64, `eval` a forward of `VectorQuantizer` in eval.",
        timing.markdown(["shape", "GEMM", *names], rows),
        timing.bars(bars),
    ]
    print("\n\n".join(text))
    if arguments.write:
        page.write_block("benchmarks.md", "search", "\n\n".join(text))


def measured(shape: Shape, seconds: dict[str, float]) -> list[list[str]]:
    """What the bars say of this shape."""
    found = []
    if shape.n >= 4096 and shape.k >= 512:
        found.append(timing.bar("lookup / GEMM", shape, seconds["nearest"] / seconds["GEMM"], BARS["floor"]))
    if "peer eval" in seconds:
        ratio = seconds["nearest"] / seconds["peer eval"]
        found.append(timing.bar("lookup / the peer's eval", shape, ratio, BARS["peer"]))
    return found


if __name__ == "__main__":
    main()
