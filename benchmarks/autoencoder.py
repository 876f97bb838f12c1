"""One training of `choosing.py`: a source, an autoencoder, a quantizer in it, and what it reaches on held-out vectors.

A module of its own, so that the worker processes can import it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from codebound import BSQ, LFQ, Product, Residual, VectorQuantizer, recipes
from codebound.data.images import photo_patches
from codebound.metrics import CodeUsage
from codebound.nets.linear import PCA
from codebound.quantize import Quantizer, codebook_parameters
from codebound.quantize.estimator import Rotation
from codebound.quantize.update import Gradient
from codebound.theory import bounds, gaussian
from codebound.theory.entropy import differential_entropy

DIM, HIDDEN, BATCH = 8, 64, 1024
TRAIN, HELD_OUT = 2**17, 2**17
SOURCES = ("isotropic", "anisotropic", "photographs")
SPECTRUM = 2.0 ** -np.arange(DIM) * DIM / (2 - 2.0 ** (1 - DIM))  # of `anisotropic`: halves from axis to axis


class Arm(NamedTuple):
    """A quantizer, from (bits, seed, the value of its knob), and what of it is tuned."""

    make: Callable[[int, int, float], Quantizer]
    knob: str = ""  # "codebook": times the network's learning rate; "entropy": its weight
    values: tuple[float, ...] = (1.0,)


def table(**choices) -> Callable[[int, int, float], Quantizer]:
    return lambda bits, seed, _: VectorQuantizer(DIM, 2**bits, seed=seed, **choices)


def halves(bits: int, seed: int, dim: int) -> list[VectorQuantizer]:
    return [VectorQuantizer(dim, 2 ** (bits // 2), seed=seed + i) for i in range(2)]


ARMS: dict[str, Arm] = {
    "VQ, EMA": Arm(table()),
    "VQ, EMA, rotation trick": Arm(table(estimator=Rotation())),
    "VQ, gradient": Arm(table(update=Gradient()), "codebook", (1.0, 10.0)),
    "VQ, gradient, no revival": Arm(
        lambda bits, seed, _: recipes.vqvae2017(DIM, 2**bits), "codebook", (1.0, 10.0)
    ),
    "SimVQ": Arm(lambda bits, seed, _: recipes.simvq(DIM, 2**bits), "codebook", (1.0, 10.0)),
    "ViT-VQGAN (codes of length 1)": Arm(
        lambda bits, seed, _: recipes.vit_vqgan(DIM, 2**bits, code_dim=2 * DIM), "codebook", (1.0, 10.0)
    ),
    "FSQ": Arm(lambda bits, seed, _: recipes.fsq(bits)),
    "LFQ": Arm(
        lambda bits, seed, value: LFQ(bits, entropy_weight=value, group_bits=8), "entropy", (0.01, 0.1)
    ),
    "BSQ": Arm(lambda bits, seed, value: BSQ(bits, entropy_weight=value), "entropy", (0.01, 0.1)),
    "Residual, 2 stages": Arm(lambda bits, seed, _: Residual(halves(bits, seed, DIM))),
    "Product, 2 parts": Arm(lambda bits, seed, _: Product(halves(bits, seed, DIM // 2))),
}


class Source(NamedTuple):
    """One seed's vectors, of mean variance 1, and what is needed for their limits."""

    train: Tensor
    held_out: Tensor
    spectrum: np.ndarray  # variances along the principal axes; of the held-out vectors where they are real
    entropy: tuple[float, float, float] | None  # in bits: estimate, low, high; None for a Gaussian


@cache
def source(name: str, seed: int) -> Source:
    """All quantizers see the same vectors."""
    generator = torch.Generator().manual_seed(seed)
    if name != "photographs":
        spectrum = np.ones(DIM) if name == "isotropic" else SPECTRUM
        z = (
            torch.randn(TRAIN + HELD_OUT, DIM, generator=generator)
            * torch.from_numpy(spectrum).sqrt().float()
        )
        return Source(z[:TRAIN], z[TRAIN:], spectrum, None)
    train, held_out = (
        photo_patches(s, n, generator=generator) for s, n in (("train", TRAIN), ("held_out", HELD_OUT))
    )
    encoder = PCA.fit(train, DIM)
    z, fresh = encoder.encode(train), encoder.encode(held_out)
    scale = z.var(0).mean().rsqrt()
    z, fresh = z * scale, fresh * scale
    # A place drawn twice is no sign of discrete data: photographs are finite.
    found = differential_entropy(torch.unique(fresh, dim=0).double().numpy())
    spectrum = gaussian.spectrum(torch.cov(fresh.double().T).numpy())
    return Source(z, fresh, spectrum, (found.bits, found.low, found.high))


class Skip(nn.Module):
    """A linear map plus a perceptron that begins at zero."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.bend = nn.Sequential(
            nn.Linear(inputs, HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, outputs),
        )
        nn.init.orthogonal_(self.linear.weight)
        for tensor in (self.linear.bias, *self.bend[-1].parameters()):
            nn.init.zeros_(tensor)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.bend(x)


class Run(NamedTuple):
    """One training."""

    arm: str
    bits: int
    source: str
    seed: int
    steps: int
    lr: float
    value: float
    tuning: bool


class Found(NamedTuple):
    """What a run reached on vectors it has not seen."""

    distortion: float
    rate: float  # Σ log₂ K
    usage: float  # mean over the codebooks
    perplexity: float  # of K, mean over the codebooks


def train(run: Run) -> Found:
    torch.set_num_threads(1)
    vectors = source(run.source, run.seed)
    seen, unseen = vectors.train, vectors.held_out
    if run.tuning:
        seen, unseen = seen[: TRAIN * 4 // 5], seen[TRAIN * 4 // 5 :]
    torch.manual_seed(run.seed)
    arm = ARMS[run.arm]
    quantizer = arm.make(run.bits, run.seed, run.value)
    encoder, decoder = Skip(DIM, quantizer.dim), Skip(quantizer.dim, DIM)
    with torch.no_grad():
        quantizer.init_(encoder(seen[:8192]))
    codebooks = codebook_parameters(quantizer)
    own = {id(parameter) for parameter in codebooks}
    rest = [p for part in (encoder, quantizer, decoder) for p in part.parameters() if id(p) not in own]
    faster = run.value if arm.knob == "codebook" else 1.0
    groups = [{"params": rest, "lr": run.lr}, {"params": codebooks, "lr": run.lr * faster}]
    optimizer = torch.optim.Adam([group for group in groups if group["params"]])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, run.steps)
    generator = torch.Generator().manual_seed(run.seed)
    for _ in range(run.steps):
        x = seen[torch.randint(len(seen), (BATCH,), generator=generator)]
        found = quantizer(encoder(x))
        loss = (x - decoder(found.z_q)).square().sum(-1).mean() + found.loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        quantizer.update_(found)
    return judge(unseen, encoder.eval(), quantizer.eval(), decoder.eval())


@torch.no_grad()
def judge(x: Tensor, encoder: nn.Module, quantizer: Quantizer, decoder: nn.Module) -> Found:
    sizes = quantizer.codebook_sizes
    metric, error = CodeUsage(sizes), 0.0
    for part in x.split(2**14):
        found = quantizer(encoder(part))
        metric.update(found.indices)
        error += float((part - decoder(found.z_q)).square().sum(dtype=torch.float64))
    figures = metric.compute()
    share = figures["perplexity"] / torch.tensor(sizes)
    rate = sum(math.log2(size) for size in sizes)
    return Found(error / len(x), rate, float(figures["usage"].mean()), float(share.mean()))


def shannon(vectors: Source, rate: float, which: int = 0) -> float:
    """The limit; `which` 1 and 2 are the ends of the interval of an estimated one."""
    if vectors.entropy is None:
        return gaussian.water_filling(vectors.spectrum, rate).distortion
    return bounds.shannon_lower_bound(vectors.entropy[which], DIM, rate)


def gap(run: Run, found: Found) -> float:
    return gaussian.gap_db(found.distortion, shannon(source(run.source, run.seed), found.rate))


def reference(run: Run, found: Found) -> float:
    limit = gaussian.water_filling(source(run.source, run.seed).spectrum, found.rate).distortion
    return gaussian.gap_db(found.distortion, limit)
