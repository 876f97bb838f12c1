"""Every quantizer on one Gaussian, beside the bound: python tools/site/plane.py [NAME …]

Writes docs/results/plane.json: for each point its rate, its distance from the rate-distortion function on 100,000 fresh
vectors of N(0, I₈) (mean and 95 % interval over seeds), and the code that makes it. With names only their points anew.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import codebound
from codebound import codec
from codebound.quantize import FSQ, Product, Quantizer, Residual, Scaled, Trellis, VectorQuantizer
from codebound.reporting.statistics import mean_interval
from codebound.theory import bounds, converse, finite, gaussian
from codebound.theory.trellis import entropy_constrained_scalar

FILE = Path(__file__).parents[2] / "docs" / "results" / "plane.json"
DIM, SEEDS, TRAIN, FRESH, STEPS, BATCH = 8, 3, 16_384, 100_000, 200, 8_192


def sample(count: int, seed: int) -> Tensor:
    """Vectors of N(0, I₈)."""
    return torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed))


def trained(make: Callable[[], Quantizer]) -> Callable[[int], tuple[float, float]]:
    """k-means start and 200 EMA updates on fresh batches; (bits per component, squared error per vector) afterwards."""

    def measure(seed: int) -> tuple[float, float]:
        torch.manual_seed(seed)
        quantizer = make()
        quantizer.init_(sample(TRAIN, 1000 * seed + 1))
        for step in range(STEPS):
            quantizer.update_(quantizer(sample(BATCH, 1000 * seed + 2 + step)))
        return nominal(quantizer), error(quantizer, seed)

    return measure


def error(quantizer: Quantizer, seed: int) -> float:
    """Squared error per vector on fresh data."""
    z = sample(FRESH, 10**6 + seed)
    quantizer.eval()
    with torch.no_grad():
        return float((quantizer.decode(quantizer.encode(z)) - z).double().square().sum(1).mean())


def nominal(quantizer: Quantizer) -> float:
    """log2 of the number of codewords, per component: what a fixed-rate code of these indices costs."""
    return sum(math.log2(size) for size in quantizer.codebook_sizes) / DIM


def scalar_grid(levels: int) -> Callable[[int], tuple[float, float]]:
    """FSQ at the scale, of 40, that is best on training vectors; odd levels, whose codes lie around 0."""

    def measure(seed: int) -> tuple[float, float]:
        z = sample(TRAIN, 1000 * seed + 1)
        made = [Scaled(FSQ([levels] * DIM), 0.5 + 0.1 * i) for i in range(40)]
        best = min(made, key=lambda q: float((q.eval()(z).z_q - z).square().sum()))
        return nominal(best), error(best, seed)

    return measure


def trellis(bits: float, states: int) -> Callable[[int], tuple[float, float]]:
    """A whole file of a trellis code: all of its bytes count."""

    def measure(seed: int) -> tuple[float, float]:
        quantizer = Trellis(DIM, rate=bits * DIM, states=states)
        quantizer.init_(sample(TRAIN, 1000 * seed + 1))
        z = sample(FRESH, 10**6 + seed)
        data = codec.compress_vectors(z, quantizer)
        again = torch.as_tensor(codec.decompress_vectors(data))
        return 8 * len(data) / z.numel(), float((again - z).double().square().sum(1).mean())

    return measure


def entropy_coded(bits: float) -> Callable[[int], tuple[float, float]]:
    """The best entropy-coded scalar quantizer, in closed form; its entropy is its rate."""

    def measure(seed: int) -> tuple[float, float]:
        return bits, DIM * entropy_constrained_scalar(bits).distortion

    return measure


def arms() -> dict[str, list[tuple[str, Callable[[int], tuple[float, float]]]]]:
    """For each kind of quantizer its points: (the code that makes it, what measures it)."""
    vq = [
        (f"VectorQuantizer(8, {k})", trained(lambda k=k: VectorQuantizer(DIM, k)))
        for k in (4, 16, 64, 256, 1024, 4096)
    ]
    residual = [
        (f"Residual([VectorQuantizer(8, 256) for _ in range({n})])",
         trained(lambda n=n: Residual([VectorQuantizer(DIM, 256, seed=i) for i in range(n)])))
        for n in (2, 3, 4)
    ]  # fmt: skip
    product = [
        (f"Product([VectorQuantizer({d}, {k}) for _ in range({DIM // d})])",
         trained(lambda d=d, k=k: Product([VectorQuantizer(d, k, seed=i) for i in range(DIM // d)])))
        for d, k in ((1, 2), (1, 4), (1, 8), (2, 16), (2, 64), (4, 256))
    ]  # fmt: skip
    grid = [(f"Scaled(FSQ([{n}] * 8), scale)", scalar_grid(n)) for n in (3, 5, 7, 9)]
    trellises = [
        (f"Trellis(8, rate={8 * bits:g}, states={states})", trellis(bits, states))
        for states in (8, 256) for bits in (0.5, 1.0, 2.0, 3.0)
    ]  # fmt: skip
    scalars = [
        (f"entropy_constrained_scalar({bits})", entropy_coded(bits))
        for bits in (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
    ]
    return {
        "VectorQuantizer": vq, "Residual": residual, "Product": product, "FSQ": grid,
        "Trellis": trellises, "scalars, entropy coded": scalars,
    }  # fmt: skip


def limits() -> dict[str, list[list[float]]]:
    """[bits per component, dB above the rate-distortion function]: no codebook of 8 dimensions is below the first."""
    sizes = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
    rates = [math.log2(size) / DIM for size in sizes]
    known = [bounds.best_known(DIM, size) for size in sizes]
    return {
        "converse": [
            point(r, converse.converse(DIM, n).certified) for r, n in zip(rates, sizes, strict=True)
        ],
        "random codebook": [
            point(r, finite.best_codeword_variance(DIM, n).distortion)
            for r, n in zip(rates, sizes, strict=True)
        ],
        "best known": [point(r, k.distortion) for r, k in zip(rates, known, strict=True) if k is not None],
    }


def point(bits: float, distortion: float) -> list[float]:
    """A distortion per vector as a point of the plane."""
    return [round(bits, 4), round(gaussian.gap_db(distortion, gaussian.distortion_rate(bits * DIM, DIM)), 4)]


def measured(name: str, code: str, measure: Callable[[int], tuple[float, float]]) -> dict[str, Any]:
    """One point over the seeds; what is a closed form has no interval."""
    found = [measure(seed) for seed in range(1 if name.startswith("scalars") else SEEDS)]
    bits = sum(rate for rate, _ in found) / len(found)
    gaps = [gaussian.gap_db(d, gaussian.distortion_rate(rate * DIM, DIM)) for rate, d in found]
    entry: dict[str, Any] = {"kind": name, "code": code, "bits": round(bits, 4)}
    if len(gaps) == 1:
        return {**entry, "db": round(gaps[0], 4), "low": None, "high": None, "seeds": 0}
    interval = mean_interval(gaps)
    return {**entry, "db": round(interval.mean, 4), "low": round(interval.low, 4), "high": round(interval.high, 4),
            "seeds": len(gaps)}  # fmt: skip


def main(names: list[str]) -> None:
    """Measure what is asked for and keep the rest."""
    old = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {"points": []}
    chosen = arms()
    points = [p for p in old["points"] if names and p["kind"] not in names]
    for name in names or chosen:
        for code, measure in chosen[name]:
            points.append(measured(name, code, measure))
            print(points[-1], flush=True)
    points.sort(key=lambda p: (list(chosen).index(p["kind"]), p["bits"]))
    page = {"source": "N(0, I₈)", "command": "python tools/site/plane.py", "version": codebound.__version__,
            "fresh": FRESH, "limits": limits(), "points": points}  # fmt: skip
    FILE.write_text(json.dumps(page, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
