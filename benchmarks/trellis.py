"""What trellis codes reach, in bytes of files and decoded again, and how fast: every figure of docs/vectors.md.

OMP_NUM_THREADS=1 python benchmarks/trellis.py PART [--write], PART of: gaussian, spectra, rates, fixed, short,
photographs, embeddings, speed
"""

from __future__ import annotations

import itertools
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from timing import machine, markdown, medians
from torch import Tensor

from codebound import BitTrellis, Trellis
from codebound.codec import compress_vectors, decompress_vectors, vector_blocks
from codebound.data.images import photo_patches
from codebound.quantize import trellis_search, viterbi
from codebound.quantize.trellis_aim import entropy_bits
from codebound.studies.half_decibel import codes, sources
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
    for states in (8, 32, 256, 1024):
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


def run_spectra(count: int = 1 << 17) -> None:
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


def run_rates(values: int = 1 << 18) -> None:
    """Rate and error as asked for: on the vectors that `init_` saw, on others, and what `init_` takes in seconds."""
    for name, draw in {
        "N(0, 1/i²)": lambda split, count: gaussian(count, 8, split) / torch.arange(1, 9),
        "Laplace": lambda split, count: sources.draw("laplace", split, count, 1).train,
        "quiet or loud": quiet_or_loud,
        "DCT of photographs": dct_of_photographs,
    }.items():
        dim = draw(0, 2).shape[1]
        seen, others = (draw(split, values // dim) for split in (0, 1))
        for bits in (0.5, 1.0, 2.3):
            cells, reached = [], {}
            for kind in ("rate", "distortion"):
                # As much error is asked for as the code of the asked rate had, so that both are about the same code.
                asked = bits * dim if kind == "rate" else reached["distortion"]
                quantizer = Trellis(dim, **{kind: asked}).eval()
                began = time.process_time()
                quantizer.init_(seen)
                took = time.process_time() - began
                off, errors = [], []
                for z in (seen, others):
                    indices = quantizer.encode(z)
                    errors.append(float((quantizer.decode(indices) - z).double().square().sum(1).mean()))
                    got = entropy_bits(indices - trellis_search.HALF) if kind == "rate" else errors[-1]
                    off.append(f"{100 * (got / asked - 1):+.2f} %")
                reached["distortion"] = errors[0]
                account = quantizer.code.rates if kind == "rate" else quantizer.code.distortions
                off.append(f"{100 * (float(account.sum()) / asked - 1):+.2f} %")
                own = int((quantizer.slope > 0).sum())
                cells.append(
                    f"{kind} {off[0]} seen, {off[1]} others, {off[2]} for Gaussians, {own} fitted, {took:.1f} s"
                )
            print(f"{name}, {bits} bits a value: {'; '.join(cells)}", flush=True)


def quiet_or_loud(split: int, count: int) -> Tensor:
    """Vectors of 8 components, half of them ten times as loud as the others, in an order of chance."""
    z = gaussian(count, 9, split)
    return z[:, :8] * torch.where(z[:, 8:] < 0, 0.1, 1.0)


def dct_of_photographs(split: int, count: int) -> Tensor:
    """Other photographs in each split."""
    drawn = sources.draw("photographs", 0, count, count)
    return (drawn.train, drawn.test)[split]


def run_fixed() -> None:
    """A fixed number of bits, vectors of 128 and 256: dB above D(R) on fresh vectors, and the encoder's time."""
    for dim, state_bits, bits in itertools.product((128, 256), (8, 12, 16), (1, 2)):
        quantizer = BitTrellis(dim, bits, state_bits)
        quantizer.init_(gaussian(524_288 // dim, dim))
        z = gaussian(262_144 // dim, dim, 1)
        start = time.process_time()
        z_q = quantizer.eval()(z).z_q
        took = (time.process_time() - start) / z.numel()

        # Of the error what depends on how large these samples happen to be is left out.
        error, excess = (z_q - z).double().square().flatten(), z.double().square().flatten() - 1
        slope = ((error - error.mean()) * excess).mean() / excess.square().mean()
        gap = gap_db(float(error.mean() - slope * excess.mean()), 4.0**-bits)
        name = f"{dim} components, {bits} bit, L = {state_bits}, {quantizer.table}"
        print(f"{name}: {gap:.3f} dB, {1e6 * took:.1f} µs a value", flush=True)


def run_short(count: int = 1 << 15) -> None:
    """A fixed number of bits for short vectors: variance over error on fresh vectors, by state bits."""
    for bits, dim in itertools.product((1, 2, 3, 4), (4, 6, 8, 12, 16, 24, 32, 64)):
        found = []
        for state_bits in (2, 3, 4, 6, 8, 9, 10, 12):
            if state_bits % bits or not 2 * bits <= state_bits <= dim * bits:
                continue
            quantizer = BitTrellis(dim, bits, state_bits)
            quantizer.init_(gaussian(2 * count // dim, dim))
            z = gaussian(count // dim, dim, 1)
            error = float((quantizer.eval()(z).z_q - z).square().mean() / z.square().mean())
            found.append(f"L = {state_bits} {-10 * np.log10(error):.2f}")
        print(f"{dim} components, {bits} bit: {', '.join(found)} dB", flush=True)


def run_photographs() -> None:
    """8×8 patches of photographs not seen before, beside scalars with ideal entropy codes at equal bits."""
    generator = torch.Generator().manual_seed(0)
    train = photo_patches("train", 10_000, size=8, generator=generator)
    test = photo_patches("held_out", 10_000, size=8, generator=generator)
    energy = (test - train.mean(0)).square().sum(1).mean()
    for bits in (0.5, 1, 2):
        # Axes and means are left out of the bits: scalars need the same.
        ours = codes.trellis(train, test, bits, 0, states=8)
        plain = codes.scalars(train, test, ours.bits, 0)
        figures = [
            gap_db(float(energy), float((each.rows - test).square().sum(1).mean())) for each in (ours, plain)
        ]
        print(
            f"{ours.bits:.3f} bits a value: 8 states {figures[0]:.2f} dB, scalars {figures[1]:.2f} dB",
            flush=True,
        )


def run_embeddings(count: int = 100_352, queries: int = 1000) -> None:
    """EfficientNet features of photographs at 2 bits a value, all bytes counted, and neighbours among the decoded ones.

    Codes are fitted to the features of some photographs and measured on those of others. The collection is both.
    """
    import faiss

    faiss.omp_set_num_threads(1)
    source = sources.draw("features", 0, count, 25_088 + queries)
    train, rows = source.train, source.test[:-queries]
    every, asked = torch.cat([train, rows]), source.test[-queries:].numpy()
    truth = neighbours(every, asked)
    dim = every.shape[1]
    energy = float((rows - rows.mean(0)).square().sum(1).mean())
    print(f"{len(every):,} vectors of {dim}, {len(rows):,} of them held out")
    for name, code in {
        "Trellis, 8 states": partial(codes.trellis, states=8),
        "Trellis, 256 states": partial(codes.trellis, states=256),
        "BitTrellis, 12 state bits": codes.bit_trellis,
        "faiss PQ": partial(codes.faiss_product, rotation=False),
        "faiss OPQ": partial(codes.faiss_product, rotation=True),
        "faiss SQ4": partial(codes.faiss_scalar, kind="QT_4bit"),
    }.items():
        began = time.process_time()
        coded = code(train[:65_536], every, 4.0 if "SQ4" in name else 2.0, 0)
        took = time.process_time() - began
        bits = coded.bits + 8 * coded.model_bytes / every.numel()
        error = float((coded.rows[-len(rows) :] - rows).square().sum(1).mean())
        found = neighbours(coded.rows, asked)
        recall = sum(len(set(a) & set(b)) for a, b in zip(truth, found, strict=True)) / (10 * queries)
        print(
            f"{name}: {bits:.3f} bits a value with the model ({coded.bits:.3f} without), "
            f"{gap_db(energy, error):.2f} dB on the held-out part, recall@10 {recall:.3f}, {took:.0f} s",
            flush=True,
        )


def neighbours(rows: Tensor, asked: np.ndarray) -> list[list[int]]:
    """The ten nearest of the rows to each query."""
    import faiss

    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows.numpy())
    return index.search(asked, 10)[1].tolist()


SPEED = """
{machine}.

{vectors:,} vectors of 128 from N(0, I) at 2 bits a value, on their own axes: millions of values a second, and what a
call takes in memory beside its input and its result. `faiss PQ` has 32 codebooks of 256, as many bytes a vector; its
codes are {pq:.2f} dB above the bound, those of 8, 32 and 256 states .46, .33 and .21.

{table}

{bars}
"""


def run_speed(count: int = 1 << 13) -> None:
    """To levels and back, and to files and back, on one thread, beside faiss's PQ: into docs/benchmarks.md."""
    import faiss
    from page import write_block

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    before, z = machine(), gaussian(count, 128)
    work: dict[str, Callable[[], object]] = {}
    for states in (8, 32, 256):
        quantizer = Trellis(128, rate=256.0, states=states, transform=None).eval()
        indices, data = quantizer.encode(z), compress_vectors(z, quantizer)
        encode = partial(quantizer.encode, z)
        work[f"{states} states, compiled: to levels"] = encode
        if states < 256:
            work[f"{states} states, PyTorch: to levels"] = partial(in_pytorch, encode)
        if states == 8:
            work["from levels"] = partial(quantizer.decode, indices)
            work["8 states, compiled: to a file"] = partial(compress_vectors, z, quantizer)
            work["compiled: from a file"] = partial(decompress_vectors, data)
            work["Python: from a file"] = partial(in_pytorch, work["compiled: from a file"])

    # As many bits in faiss, its codebooks trained on other vectors.
    pq: Any = faiss.ProductQuantizer(128, 32, 8)  # its stubs are those of the C++ methods
    pq.train(gaussian(1 << 14, 128, 1).numpy())
    codes = pq.compute_codes(z.numpy())
    error = (torch.from_numpy(pq.decode(codes)) - z).double().square().mean()
    work["faiss PQ: to codes"] = partial(pq.compute_codes, z.numpy())
    work["faiss PQ: from codes"] = partial(pq.decode, codes)

    took = {name: z.numel() / seconds / 1e6 for name, (seconds, _) in medians(work, 5, 8.0).items()}
    rows = [[name, f"{took[name]:.1f}", f"{peak(call) / 2**20:.0f} MiB"] for name, call in work.items()]
    least = {
        "8 states, PyTorch: to levels": 6,
        "8 states, compiled: to levels": 30,
        "from levels": 20,
        "compiled: from a file": 20,
        "256 states, compiled: to levels": 1,
    }
    bars = [
        [name, str(bar), f"{took[name]:.1f}", "yes" if took[name] >= bar else "**no**"]
        for name, bar in least.items()
    ]
    text = SPEED.format(
        machine=before,
        vectors=count,
        pq=gap_db(float(error), 4.0**-2),
        table=markdown(["", "M values/s", "memory"], rows),
        bars=markdown(["bar", "at least", "measured", "met"], bars),
    )
    print(text)
    if "--write" in sys.argv:
        write_block("benchmarks.md", "vectors", text)


def in_pytorch(work: Callable[[], object]) -> object:
    """The same without the compiled search."""
    with ExitStack() as stack:
        for module in (viterbi, trellis_search, vector_blocks):
            stack.enter_context(patch.object(module, "compiled_for", lambda tensor, states: None))
        return work()


def peak(work: Callable[[], object]) -> int:
    """Bytes that a call needs at once beside what it returns, measured in a process of its own."""
    receiver, sender = os.pipe()
    if os.fork() == 0:
        began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result = work()
        size = result.nbytes if hasattr(result, "nbytes") else len(result)  # pyright: ignore
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began
        os.write(sender, str(max(0, 1024 * grown - size)).encode())
        os._exit(0)
    os.wait()
    return int(os.read(receiver, 100))


if __name__ == "__main__":
    parts = {
        "gaussian": run_gaussian,
        "spectra": run_spectra,
        "rates": run_rates,
        "fixed": run_fixed,
        "short": run_short,
        "photographs": run_photographs,
        "embeddings": run_embeddings,
        "speed": run_speed,
    }
    for part in [name for name in sys.argv[1:] if name != "--write"] or parts:
        parts[part]()
