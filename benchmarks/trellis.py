"""What trellis codes reach, in bytes of files and decoded again, and how fast: every figure of docs/vectors.md.

OMP_NUM_THREADS=1 python benchmarks/trellis.py gaussian | spectra | fixed | photographs | speed
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from codebound import BitTrellis, Trellis
from codebound.codec import compress_vectors, decompress_vectors, inspect_vectors
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
    """A fixed number of bits, vectors of 128: dB above D(R) on fresh vectors, and the encoder's processor time."""
    for bits, state_bits, count in (
        (1, 8, 2048),
        (2, 8, 2048),
        (1, 12, 1024),
        (2, 12, 1024),
        (2, 16, 256),
        (1, 16, 256),
    ):
        # To train 2¹⁶ values would take most of an hour.
        table = "trained" if state_bits <= 12 else "quantiles"
        quantizer = BitTrellis(128, bits, state_bits, table=table)
        quantizer.init_(gaussian(4096, 128))
        z = gaussian(count, 128, 1)
        start = time.process_time()
        z_q = quantizer.eval()(z).z_q
        took = (time.process_time() - start) / z.numel()

        # Of the error what depends on how large these samples happen to be is left out.
        error, excess = (z_q - z).double().square().flatten(), z.double().square().flatten() - 1
        slope = ((error - error.mean()) * excess).mean() / excess.square().mean()
        gap = gap_db(float(error.mean() - slope * excess.mean()), 4.0**-bits)
        print(f"{bits} bit, L = {state_bits}, {table}: {gap:.3f} dB, {1e6 * took:.0f} µs a value", flush=True)


def scalar(z: Tensor, quantizer: Trellis, bits: float) -> float:
    """Squared error per vector of uniform scalars on the quantizer's axes, with centroids, at an entropy of `bits`."""
    y = ((z - quantizer.mean) @ quantizer.transform_matrix.t()).double()

    def at(step: float) -> tuple[float, float]:
        entropy = error = 0.0
        for column in y.t():
            cell = (column / step).round().long()
            _, own, counts = cell.unique(return_inverse=True, return_counts=True)
            centroid = torch.zeros(len(counts), dtype=torch.float64).index_add(0, own, column) / counts
            error += float((column - centroid[own]).square().mean())
            entropy += float(torch.special.entr(counts / len(column)).sum()) / math.log(2)
        return entropy, error

    low, high = 1e-4, 10.0
    for _ in range(25):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if at(middle)[0] > bits else (low, middle)
    return at(high)[1]


def run_photographs() -> None:
    """8×8 patches of photographs not seen before, beside uniform scalars with ideal entropy codes at equal bits."""
    generator = torch.Generator().manual_seed(0)
    train = photo_patches("train", 10_000, size=8, generator=generator)
    test = photo_patches("held_out", 10_000, size=8, generator=generator)
    total = float((test - train.mean(0)).square().sum(1).mean())
    for bits in (0.5, 1, 2):
        quantizer = Trellis(64, rate=64.0 * bits)
        quantizer.init_(train)
        # Axes and means are left out of the bits: scalars need the same.
        error, got = in_a_file(test, quantizer.eval())
        got -= 8 * inspect_vectors(compress_vectors(test, quantizer)).header_bytes / len(test)
        plain = scalar(test, quantizer, got)
        figures = [10 * math.log10(total / each) for each in (error, plain)]
        print(
            f"{got / 64:.3f} bits a value: 8 states {figures[0]:.2f} dB, scalars {figures[1]:.2f} dB",
            flush=True,
        )


def run_speed() -> None:
    """Millions of values a second of processor time on one thread, at two bits: medians of three rounds."""
    torch.set_num_threads(1)
    z = gaussian(1 << 11, 128)
    for states in (8, 256):
        quantizer = Trellis(128, rate=256.0, states=states, transform=None).eval()
        indices, data = quantizer.encode(z), compress_vectors(z, quantizer)
        contenders: dict[str, Callable[[], object]] = {
            "to levels": lambda q=quantizer: q.encode(z),
            "from levels": lambda q=quantizer, i=indices: q.decode(i),
            "to a file": lambda q=quantizer: compress_vectors(z, q),
            "from a file": lambda d=data: decompress_vectors(d),
        }
        for name, work in contenders.items():
            seen = []
            for _ in range(3):
                began = time.process_time()
                work()
                seen.append(time.process_time() - began)
            print(f"{states} states, {name}: {z.numel() / sorted(seen)[1] / 1e6:.2f} M values/s", flush=True)


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
