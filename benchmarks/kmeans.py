"""k-means against faiss: same vectors, same first codebook, same number of iterations, distortion compared.

    make bench        or        OMP_NUM_THREADS=1 python benchmarks/kmeans.py

One thread, interleaved, medians of processor time. Ours is `theory.lloyd`, which also measures the distortion after
the last iteration (one search more than faiss) and keeps every distortion in float64.
"""

from __future__ import annotations

import argparse

import numpy as np
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

    print(timing.machine())
    found = timing.medians({"ours": ours, "faiss": theirs}, arguments.rounds, seconds=60.0)
    table = []
    for name, (seconds, codebook) in found.items():
        assert isinstance(codebook, Tensor)
        reached = float(search.distortion(z, codebook))
        table.append(
            [name, timing.milliseconds(seconds), f"{seconds / found['faiss'][0]:.2f}", f"{reached:.4f}"]
        )
    print(f"\n({n}, {d}, {k}), {arguments.iterations} iterations, milliseconds\n")
    print(timing.markdown(["", "time", "ratio to faiss", "distortion"], table))
    met = found["ours"][0] <= BAR * found["faiss"][0]
    print("\nThe bar is met." if met else f"\nmissed: more than {BAR} × faiss")


if __name__ == "__main__":
    main()
