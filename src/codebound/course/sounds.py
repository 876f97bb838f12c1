"""Tasks about sound: rate, coding gain, lapped transforms, noise under masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from codebound.course.exercise import expect, require, task
from codebound.theory import gaussian


@task("sound", "understanding")
def bits_per_second(answer: Callable[..., float]) -> None:
    """The nominal rate of residual codebooks: `bits_per_second(sample_rate, hop, stages, codebook_size)`."""
    hint = "A frame every `hop` samples, an index of log2 K bits for each stage."
    expect(answer(16_000, 320, 8, 1024), 4000.0, hint)
    expect(answer(24_000, 240, 3, 256), 2400.0, hint)


@task("sound", "extension")
def scale_invariant_sdr(answer: Callable[..., float]) -> None:
    """In dB, of arrays: `scale_invariant_sdr(reference, decoded)`."""
    reference = np.array([1.0, -1.0, 2.0, 0.0])
    rest = np.array([1.0, 1.0, 0.0, 2.0])  # at right angles to it
    hint = "Project `decoded` on the reference; the ratio is of the projection's energy to the rest's."
    expect(answer(reference, reference + 0.1 * rest), 20.0, hint)
    for factor in (0.5, -3.0):
        same = f"{factor:g} times as loud is the same ratio: what is compared is the projection, not the reference."
        expect(answer(reference, factor * (reference + 0.1 * rest)), 20.0, same)


@task("sound", "theory")
def coding_gain_db(answer: Callable[[np.ndarray], float]) -> None:
    """What a transform to components of these variances gains over plain samples: `coding_gain_db(variances)`."""
    expect(answer(np.array([2.0, 2.0, 2.0])), 0.0, "A flat spectrum has nothing to gain.", absolute=1e-6)
    expect(
        answer(np.array([4.0, 1.0])),
        10 * math.log10(1.25),
        "10·log10 of the arithmetic over the geometric mean of the variances.",
    )


@task("sound", "implementation")
def lapped(answer: Callable[..., np.ndarray]) -> None:
    """MDCT with a sine window, silence of a hop before and after: `lapped(x, hop)`, of shape [hops + 1, hop]."""
    hop = 6
    x = np.random.default_rng(0).normal(size=4 * hop)
    found = np.asarray(answer(x, hop))
    require(
        found.shape == (5, hop), f"4 hops give 5 frames of {hop} coefficients; the shape is {found.shape}."
    )
    n, k = np.arange(2 * hop) + 0.5, np.arange(hop) + 0.5
    basis = math.sqrt(2 / hop) * np.cos(np.pi / hop * (n[:, None] + hop / 2) * k)
    window = np.sin(np.pi / (2 * hop) * n)
    padded = np.concatenate([np.zeros(hop), x, np.zeros(hop)])
    frames = np.stack([padded[i * hop : (i + 2) * hop] for i in range(5)])

    # The mistakes that happen have names of their own.
    other = math.sqrt(2 / hop) * np.cos(np.pi / hop * n[:, None] * k)
    require(
        not np.allclose(found, (frames * window) @ other),
        "The cosine's phase lacks N/2: without it the mirrors don't cancel.",
    )
    require(not np.allclose(found, frames @ basis), "The window is missing.")
    ratio = np.linalg.norm(found) / np.linalg.norm((frames * window) @ basis)
    hint = "With the factor √(2/N) the transform keeps the energy"
    require(abs(ratio - 1) < 1e-3 or not np.allclose(found / ratio, (frames * window) @ basis), f"{hint}.")
    expect(found, (frames * window) @ basis, f"{hint}; frame i holds samples from (i − 1)·N on, 2N of them.")


@task("sound", "research")
def noise_by_masks(answer: Callable[..., Any]) -> None:
    """The noise that makes Σ noise / mask smallest at so many bits: `noise_by_masks(variances, masks, bits)`."""
    for variances, masks, bits in (
        ((4.0, 4.0), (1.0, 1.0), 2.0),
        ((8.0, 2.0, 1.0), (1.0, 0.1, 2.0), 3.0),
        ((1.0, 9.0), (4.0, 1.0), 1.0),
    ):
        v, m = np.array(variances), np.array(masks)
        filled = gaussian.water_filling(v / m, bits)
        found = np.asarray(answer(v, m, bits), dtype=float)
        require(
            (found <= v * (1 + 1e-6)).all(),
            "Noise above a component's variance costs more than sending nothing.",
        )
        rate = float(0.5 * np.log2(v / np.maximum(found, 1e-30)).sum())
        require(
            abs(rate - bits) < 1e-2,
            f"Variances {variances}: ½·Σ log2(variance/noise) is {rate:.3g}, not {bits:g}.",
        )
        hint = "In units of its mask each component is a Gaussian of variance v/m: water-filling there, then times m."
        expect(found, np.minimum(filled.distortions, v / m) * m, hint, relative=1e-3)
