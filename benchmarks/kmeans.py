"""k-means against faiss: same vectors, same first codebook, same number of iterations, distortion compared.

    make bench        or        OMP_NUM_THREADS=1 python benchmarks/kmeans.py [--write]

One thread, interleaved, medians of processor time. Ours is `theory.lloyd`, which also measures the distortion after
the last iteration (one search more than faiss) and keeps every distortion in float64.
"""

from __future__ import annotations

import argparse

import numpy as np
import page
import timing
import torch
from torch import Tensor

from codebound import search
from codebound.theory.lloyd import lloyd

BAR = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", type=int, nargs=3, default=(100_000, 64, 1024), metavar=("N", "D", "K"))
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    import faiss

    faiss.omp_set_num_threads(1)
    n, d, k = arguments.shape
    z = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    start, rows = z[:k].clone(), z.numpy()

    def ours() -> Tensor:
        return lloyd(z, start, iterations=arguments.iterations, tolerance=0.0).codebook

    def theirs() -> Tensor:
        model = faiss.Kmeans(d, k, niter=arguments.iterations, max_points_per_centroid=n, seed=0)
        model.train(rows, init_centroids=start.numpy())  # pyright: ignore[reportCallIssue]
        return torch.from_numpy(np.array(model.centroids))

    machine = timing.machine()
    found = timing.medians({"ours": ours, "faiss": theirs}, arguments.rounds, seconds=60.0)
    table = []
    for name, (seconds, codebook) in found.items():
        assert isinstance(codebook, Tensor)
        reached = float(search.distortion(z, codebook))
        table.append(
            [name, timing.milliseconds(seconds), f"{seconds / found['faiss'][0]:.2f}", f"{reached:.4f}"]
        )
    text = [
        f"{machine}.",
        f"({n}, {d}, {k}), {arguments.iterations} iterations, milliseconds:",
        timing.markdown(["", "time", "ratio to faiss", "distortion"], table),
        timing.bars(
            [timing.bar("k-means / faiss", f"{n}, {d}, {k}", found["ours"][0] / found["faiss"][0], BAR)]
        ),
    ]
    print("\n\n".join(text))
    if arguments.write:
        page.write_block("benchmarks.md", "kmeans", "\n\n".join(text))


if __name__ == "__main__":
    main()
