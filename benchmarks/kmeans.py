"""k-means against faiss, distortion compared: Lloyd's algorithm alone, and `KMeans()` of many codewords as it is used.

    make bench        or        OMP_NUM_THREADS=1 python benchmarks/kmeans.py [--rounds 3] [--write]

One thread, interleaved, medians of processor time. Alone: same vectors, same first codebook, same number of
iterations; ours is `theory.lloyd`, which also measures the distortion after the last one (a search more than faiss)
and keeps every distortion in float64. As used: `KMeans()` draws its seeds and iterates until converged, 50 times at
most; faiss is given those seeds and iterates 50 times at most.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import page
import timing
import torch
from torch import Tensor

from codebound import search
from codebound.quantize.init import KMeans
from codebound.theory.lloyd import lloyd

ALONE = timing.Shape(100_000, 64, 1024)
AS_USED = [timing.Shape(131_072, 8, 8192), timing.Shape(65_536, 64, 8192)]
ITERATIONS = 10
BAR = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    timing.warm_up()
    import faiss

    faiss.omp_set_num_threads(1)
    machine = timing.machine()

    # Each shape: ours beside faiss, and what distortion they reach.
    rows, bars = [], []
    for shape in [ALONE, *AS_USED]:
        z, _ = timing.draw(shape)
        ours, start, iterations = _ours(z, shape)
        measured = timing.medians(
            {"ours": ours, "faiss": _faiss(z, start, iterations)}, arguments.rounds, seconds=120.0
        )
        what = "Lloyd alone, 10 iterations" if shape is ALONE else "`KMeans()`, seeds included"
        theirs = measured["faiss"][0]
        for name, (seconds, codebook) in measured.items():
            assert isinstance(codebook, Tensor)
            reached = f"{float(search.distortion(z, codebook)):.4f}"
            rows.append(
                [what, str(shape), name, timing.milliseconds(seconds), f"{seconds / theirs:.2f}", reached]
            )
        bars.append(timing.bar(f"{what} / faiss", str(shape), measured["ours"][0] / theirs, BAR))

    # The page.
    head = ["", "N, d, K", "", "ms", "ratio to faiss", "distortion"]
    text = "\n\n".join([f"{machine}.", timing.markdown(head, rows), timing.bars(bars)])
    print(text)
    if arguments.write:
        page.write_block("benchmarks.md", "kmeans", text)


def _ours(z: Tensor, shape: timing.Shape) -> tuple[Callable[[], Tensor], Tensor, int]:
    """What is timed of ours, the codebook that faiss begins with, and how many iterations both may take."""
    if shape is ALONE:
        start = z[: shape.k].clone()
        return (
            lambda: lloyd(z, start, iterations=ITERATIONS, tolerance=0.0).codebook,
            start,
            ITERATIONS,
        )
    init = KMeans()
    seeds = KMeans(iterations=0)(z, shape.k, torch.Generator().manual_seed(0))
    return lambda: init(z, shape.k, torch.Generator().manual_seed(0)), seeds, init.iterations


def _faiss(z: Tensor, start: Tensor, iterations: int) -> Callable[[], Tensor]:
    import faiss

    k, d = start.shape

    def run() -> Tensor:
        model = faiss.Kmeans(d, k, niter=iterations, max_points_per_centroid=len(z), seed=0)
        model.train(z.numpy(), init_centroids=start.numpy())  # pyright: ignore[reportCallIssue]
        return torch.from_numpy(np.array(model.centroids))

    return run


if __name__ == "__main__":
    main()
