"""Tasks about whole models: hierarchies, adversarial training, priors, judging."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codebound.course.exercise import expect, require, task
from codebound.search import nearest
from codebound.theory import gaussian


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@task("hierarchies", "understanding")
def bits_of_pyramid(answer: Callable[..., float]) -> None:
    """Of one square map with levels of these sides: `bits_of_pyramid(sides, codebook_size)`."""
    expect(answer((1, 2, 4), 16), 84.0, "A level of side s has s² indices of log2 K bits.")


@task("hierarchies", "extension")
def coarse_bits(answer: Callable[..., float]) -> None:
    """Bits by which the block mean gets more than a fine coefficient: `coarse_bits(n, coarse, fine)`."""
    for n, coarse, fine in ((4, 1.0, 1.0), (16, 0.5, 2.0)):
        expect(
            answer(n, coarse, fine),
            0.5 * math.log2(1 + n * coarse / fine),
            "½·log2 of the ratio of the variances.",
        )


@task("hierarchies", "theory")
def two_scale_distortion(answer: Callable[..., float]) -> None:
    """Of a block of n places at `bits` for the whole block: `two_scale_distortion(n, coarse, fine, bits)`."""
    for n, coarse, fine, bits in ((4, 1.0, 1.0, 8.0), (4, 2.0, 0.1, 1.0)):
        wanted = gaussian.water_filling(np.array([n * coarse + fine] + [fine] * (n - 1)), bits).distortion
        hint = (
            f"n={n}, {bits} bits: water-filling over n·λc + λf once and λf n − 1 times; is any under water?"
        )
        expect(answer(n, coarse, fine, bits), wanted, hint, relative=1e-3)


@task("hierarchies", "implementation")
def two_scales(answer: Callable[..., Tensor]) -> None:
    """`two_scales(z, coarse_words, fine_words)`: 2×2 means of a map [h, w, d] first, then what is left."""
    z, coarse, fine = _normal(4, 6, 3), _normal(8, 3, seed=1), 0.5 * _normal(8, 3, seed=2)
    means = z.unflatten(0, (2, 2)).unflatten(2, (3, 2)).mean((1, 3))
    rough = coarse[nearest(means.flatten(0, 1), coarse)].view(2, 3, 3)
    rough = rough.repeat_interleave(2, 0).repeat_interleave(2, 1)
    rest = z - rough
    wanted = rough + fine[nearest(rest.flatten(0, 1), fine)].view_as(z)
    found = answer(z, coarse, fine)
    require(tuple(found.shape) == (4, 6, 3), "The reproduction has the map's shape.")
    hint = "The codeword of a mean stands at all four places; the fine stage sees z minus that codeword, not the mean."
    expect(found, wanted, hint, absolute=1e-4)


@task("hierarchies", "research")
def split_bits(answer: Callable[..., Any]) -> None:
    """`split_bits(n, coarse, fine, bits)`: whole bits for the mean and for each of the others, the best split."""
    for n, coarse, fine, bits in ((4, 4.0, 1.0, 9), (4, 1.0, 0.05, 4), (3, 0.0, 1.0, 6)):

        def error(mean: int, other: int, n: int = n, coarse: float = coarse, fine: float = fine) -> float:
            return (n * coarse + fine) * 4.0**-mean + (n - 1) * fine * 4.0**-other

        mean, other = (int(b) for b in answer(n, coarse, fine, bits))
        require(
            min(mean, other) >= 0 and mean + (n - 1) * other <= bits,
            f"{mean} + {n - 1}·{other} is not within {bits}.",
        )
        best = min(error(bits - (n - 1) * b, b) for b in range(bits // (n - 1) + 1))
        hint = f"n={n}, {bits} bits: ({mean}, {other}) leaves {error(mean, other):.4g}, the best split {best:.4g}."
        require(error(mean, other) <= best * (1 + 1e-9), hint)


@task("adversarial", "understanding")
def price_of_realism_db(answer: float) -> None:
    """What drawing from the posterior costs at most, in dB."""
    expect(answer, 10 * math.log10(2), "Twice the squared error, in dB.", relative=5e-3)


@task("adversarial", "extension")
def least_hinge_loss(answer: Callable[..., float]) -> None:
    """The discriminator's least loss for two discrete distributions: `least_hinge_loss(p, q)`."""
    one, other = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.5, 0.5])
    expect(answer(one, one), 2.0, "Equal distributions can't be told apart: 2.")
    expect(answer(one, other), 1.0, "2 − Σ|p − q|.")


@task("adversarial", "theory")
def realistic_distortion(answer: Callable[..., float]) -> None:
    """Of a Gaussian decoded by drawing from the posterior: `realistic_distortion(variance, rate_bits)`."""
    for variance, rate in ((1.0, 1.0), (4.0, 0.0)):
        expect(answer(variance, rate), 2 * variance * 4.0**-rate, "Twice the least distortion at that rate.")


@task("adversarial", "implementation")
def hinge_losses(answer: Callable[..., Any]) -> None:
    """`hinge_losses(real, fake)`: the discriminator's loss, and the decoder's part."""
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, 0.5, 0.0])
    wanted = [(0 + 0.5 + 2) / 3 + (0 + 1.5 + 1) / 3, 0.5]
    expect(answer(real, fake)[0], wanted[0], "mean max(0, 1 − real) + mean max(0, 1 + fake).")
    expect(
        answer(real, fake)[1],
        wanted[1],
        "The decoder wants scores up: minus the mean of fake, without a hinge.",
    )


@task("adversarial", "research")
def adaptive_weight(answer: Callable[..., Any]) -> None:
    """VQ-GAN's balance, for tensors with a graph: `adaptive_weight(loss, deceived, last)`."""
    last = torch.tensor([1.0, 2.0], requires_grad=True)
    loss, deceived = 3 * last[0] + 4 * last[1], 0.5 * last[0]
    found = answer(loss, deceived, last)
    expect(
        found, 10.0, "Norm of the one gradient over the norm of the other, at the last layer.", relative=1e-2
    )
    require(not getattr(found, "requires_grad", False), "The weight is a number: detach it.")
    require(last.grad is None, "Use torch.autograd.grad: backward would add to the layer's gradient.")
    (loss + deceived).backward()  # the graph must still be there


@task("priors", "understanding")
def bits_of(answer: Callable[..., float]) -> None:
    """`bits_of(probabilities)`: what a sequence costs whose indices had these probabilities."""
    expect(answer([0.5, 0.25, 1.0]), 3.0, "Bits of independent choices add up: −Σ log2 p.")


@task("priors", "extension")
def guided(answer: Callable[..., Tensor]) -> None:
    """Logits under guidance: `guided(unconditional, conditional, strength)`."""
    one, other = _normal(5), _normal(5, seed=1)
    expect(answer(one, other, 1.0), other, "Strength 1 is the conditional model itself.", absolute=1e-6)
    expect(answer(one, other, 0.0), one, "Strength 0 is the unconditional one.", absolute=1e-6)
    expect(answer(one, other, 3.0), one + 3 * (other - one), "Go on in the same direction.", absolute=1e-5)


@task("priors", "theory")
def bits_wasted(answer: Callable[..., float]) -> None:
    """Above the entropy, when indices from q are coded for p: `bits_wasted(q, p)`."""
    expect(
        answer(np.array([0.5, 0.5]), np.array([0.5, 0.5])),
        0.0,
        "The right model wastes nothing.",
        absolute=1e-9,
    )
    expect(
        answer(np.array([1.0, 0.0]), np.array([0.25, 0.75])), 2.0, "KL(q‖p), q first; 0·log 0 counts as 0."
    )


@task("priors", "implementation")
def top_p(answer: Callable[..., Any]) -> None:
    """`top_p(probabilities, mass)`: the smallest set of likeliest words with at least this mass, renormalised."""
    p = np.array([0.1, 0.4, 0.2, 0.3])
    expect(answer(p, 0.6), [0, 4 / 7, 0, 3 / 7], "0.4 is not enough for 0.6, 0.4 + 0.3 is.")
    expect(answer(p, 0.3), [0, 1, 0, 0], "The likeliest word is always kept.")
    expect(answer(p, 1.0), p, "All mass keeps all words.")


@task("priors", "research")
def conditional_entropy(answer: Callable[..., float]) -> None:
    """Plug-in entropy of an index given its left neighbour: `conditional_entropy(grid, codebook_size)`."""
    expect(
        answer(np.array([[0, 1, 0, 1, 0, 1]]), 2), 0.0, "Here the left neighbour tells all.", absolute=1e-9
    )
    grid = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 0]])
    pairs = np.zeros((2, 2))
    np.add.at(pairs, (grid[:, :-1], grid[:, 1:]), 1)
    joint, left = pairs.ravel() / pairs.sum(), pairs.sum(1) / pairs.sum()
    wanted = -sum(x * math.log2(x) for x in joint if x) + sum(x * math.log2(x) for x in left if x)
    expect(answer(grid, 2), wanted, "H(left, index) − H(left), of pairs within a row.")


@task("judging", "understanding")
def psnr_of(answer: Callable[[float], float]) -> None:
    """`psnr_of(mse)`: in dB, for pictures in [0, 1]."""
    expect(answer(0.001), 30.0, "−10·log10 of the mean squared error.")


@task("judging", "extension")
def bits_per_pixel(answer: Callable[..., float]) -> None:
    """`bits_per_pixel(file_bytes, height, width)`."""
    expect(answer(3200, 100, 512), 0.5, "A byte has 8 bits; colour does not count: pixels are places.")


@task("judging", "theory")
def smaller_psnr(answer: Callable[..., float]) -> None:
    """`smaller_psnr(errors)`.

    Of the mean of PSNRs and the PSNR of the mean error the one that is never larger: its value.
    """
    errors = np.array([0.01, 0.001, 0.0001])
    expect(
        answer(errors),
        -10 * math.log10(float(errors.mean())),
        "−log is convex: its mean is above it at the mean.",
    )


@task("judging", "implementation")
def paired_interval(answer: Callable[..., Any]) -> None:
    """`paired_interval(one, other)`: mean and 95 % interval of other − one over seeds: (mean, low, high)."""
    one, other = np.array([1.0, 2.0, 4.0]), np.array([1.3, 2.2, 4.4])
    difference = other - one
    half = 4.302653 * difference.std(ddof=1) / math.sqrt(3)
    wanted = [difference.mean(), difference.mean() - half, difference.mean() + half]
    hint = "Of the differences: mean ± t·s/√n, s with n − 1, t = 4.30 for three seeds (scipy.stats.t.ppf(0.975, 2))."
    expect(answer(one, other), wanted, hint, relative=1e-3)


@task("judging", "research")
def frechet_1d(answer: Callable[..., float]) -> None:
    """`frechet_1d(a, b)`: the Fréchet distance of two samples of numbers (unbiased variances)."""
    a, b = np.array([0.0, 2.0, 4.0]), np.array([1.0, 1.5, 2.0, 3.5])
    wanted = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    expect(answer(a, b), wanted, "(μ − ν)² + (σ − τ)²: in one dimension √(σ²τ²) = στ.", relative=1e-3)
