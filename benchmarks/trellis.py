"""What trellis codes reach, in bytes of files and decoded again, and how fast: every figure of docs/vectors.md.

    OMP_NUM_THREADS=1 python benchmarks/trellis.py gaussian | spectra | fixed | photographs | speed

`photographs` and `speed` need faiss (`pip install 'codebound[bench]'`).
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from codebound import BitTrellis, Trellis
from codebound.codec import compress_vectors, decompress_vectors
from codebound.data.images import photo_patches
from codebound.theory.gaussian import gap_db, spectrum, water_filling
from codebound.theory.trellis import granular_gap_db, granular_moment


def gaussian(count: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def in_a_file(z: Tensor, quantizer: Trellis) -> tuple[float, float]:
    """Squared error per vector of what comes back from a file, and the file's bits per vector."""
    data = compress_vectors(z, quantizer)
    error = (decompress_vectors(data).double() - z.double()).square().sum(1).mean()
    return float(error), 8 * len(data) / len(z)


def above(z: Tensor, error: float, bits: float) -> float:
    """dB above the rate-distortion function of a Gaussian with z's own covariance."""
    spread = spectrum(torch.cov(z.double().t(), correction=0).reshape(z.shape[1], -1).numpy())
    return gap_db(error, water_filling(spread, bits).distortion)


def run_gaussian(count: int = 1 << 18) -> None:
    """N(0, 1): dB above D(R), and beside it what the closed form says."""
    print(f"N(0, 1), {count:,} samples a file: rate got, dB above D(R); closed form in dB")
    for states in (8, 32, 256):
        cells = []
        for rate in (0.5, 1.0, 1.7, 2.0, 3.0, 4.0):
            z = gaussian(count, 1, int(10 * rate))
            quantizer = Trellis(1, rate=rate, states=states)
            quantizer.init_(z)
            error, bits = in_a_file(z, quantizer.eval())
            cells.append(f"{bits:.4f}: {above(z, error, bits):.3f}")
        print(
            f"{states:4d} states  {'   '.join(cells)}   ({granular_gap_db(granular_moment(states)):.3f})",
            flush=True,
        )


def run_spectra(count: int = 1 << 15) -> None:
    """Eight dimensions of unequal variances, 256 states: dB above water-filling."""
    for name, powers in {"1/i²": 2.0, "1/i": 1.0, "2^−i": None}.items():
        variances = [2.0**-i if powers is None else (i + 1) ** -powers for i in range(8)]
        z = gaussian(count, 8) * torch.tensor(variances).sqrt()
        cells = []
        for rate in (1, 2, 4):
            quantizer = Trellis(8, rate=8.0 * rate, states=256)
            quantizer.init_(z)
            error, bits = in_a_file(z, quantizer.eval())
            cells.append(f"{bits / 8:.4f}: {above(z, error, bits):.3f}")
        print(f"variances {name}: bits per dimension, dB above D(R)  {'   '.join(cells)}", flush=True)


def run_fixed() -> None:
    """A fixed number of bits, vectors of 256: dB above D(R) on fresh vectors."""
    for bits, state_bits in ((1, 8), (1, 12), (2, 8), (2, 12)):
        quantizer = BitTrellis(256, bits, state_bits)
        quantizer.init_(gaussian(512, 256))
        z = gaussian(256, 256, 1)
        error = float((quantizer.eval()(z).z_q - z).square().mean() / z.square().mean())
        print(f"{bits} bit, L = {state_bits}: {gap_db(error, 4.0**-bits):.3f} dB", flush=True)


def run_photographs() -> None:
    """8×8 patches of photographs, the code fitted on some, measured on others, beside faiss at equal bytes."""
    import faiss

    generator = torch.Generator().manual_seed(0)
    train = photo_patches("train", 60_000, size=8, generator=generator)
    test = photo_patches("held_out", 60_000, size=8, generator=generator)
    total = float((test - train.mean(0)).square().sum(1).mean())
    for bits in (0.5, 1, 2):
        size = int(64 * bits) // 8
        for states in (8, 256):
            quantizer = Trellis(64, rate=64.0 * bits, states=states)
            quantizer.init_(train)
            quantizer.eval()
            error, got = in_a_file(test, quantizer)
            reached = 10 * math.log10(total / error)
            said = f"{bits} bit: trellis of {states} states {reached:.2f} dB at {got / 64:.3f} bit"
            print(said, flush=True)
        for name in (f"PQ{size}", f"OPQ{size},PQ{size}"):
            index = faiss.index_factory(64, name)
            index.train(train.numpy())
            again = torch.from_numpy(index.sa_decode(index.sa_encode(test.numpy())))
            error = float((again - test).square().sum(1).mean())
            books = 64 * 256 * 4 + (64 * 64 * 4 if "O" in name else 0)
            rate = bits + 8 * books / test.numel()
            print(
                f"{bits} bit: {name} {10 * math.log10(total / error):.2f} dB at {rate:.3f} bit with codebooks",
                flush=True,
            )


def run_speed() -> None:
    """Millions of values a second of processor time, one thread: encode and decode, in turns with faiss's PQ."""
    import faiss

    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    z = gaussian(1 << 13, 128)
    contenders: dict[str, Callable[[], object]] = {}
    for states in (8, 256):
        quantizer = Trellis(128, rate=128.0, states=states, transform=None).eval()
        indices = quantizer.encode(z)
        contenders[f"trellis of {states} states, levels"] = lambda q=quantizer: q.encode(z)
        contenders[f"trellis of {states} states, from levels"] = lambda q=quantizer, i=indices: q.decode(i)
        data = compress_vectors(z, quantizer)
        contenders[f"trellis of {states} states, from a file"] = lambda d=data: decompress_vectors(d)
    index = faiss.index_factory(128, "PQ16")  # one bit a value
    index.train(z.numpy())
    codes = index.sa_encode(z.numpy())
    contenders["PQ16 encode"] = lambda: index.sa_encode(z.numpy())
    contenders["PQ16 decode"] = lambda: index.sa_decode(codes)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(5):
        for name, work in contenders.items():
            began = time.process_time()
            work()
            times[name].append(time.process_time() - began)
    for name, seen in times.items():
        print(f"{name}: {z.numel() / sorted(seen)[2] / 1e6:.2f} M values/s", flush=True)


if __name__ == "__main__":
    parts = {
        "gaussian": run_gaussian,
        "spectra": run_spectra,
        "fixed": run_fixed,
        "photographs": run_photographs,
        "speed": run_speed,
    }
    for part in sys.argv[1:] or parts:
        parts[part]()
