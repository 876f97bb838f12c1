"""Tasks about training: the loss of a VQ-VAE, straight-through, EMA, dead codewords."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codebound.course.exercise import expect, require, task


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _nearest(z: Tensor, words: Tensor) -> Tensor:
    return torch.cdist(z.detach(), words.detach()).argmin(1)


@task("vqvae", "understanding")
def bits_per_pixel(answer: Callable[..., float]) -> None:
    """Of a grid with one token for side×side pixels: `bits_per_pixel(codebook_size, side, levels)`."""
    expect(answer(512, 4, 1), 9 / 16, "A token costs levels·log2 K bits and stands for side² pixels.")
    expect(answer(512, 8, 6), 54 / 64, "A token costs levels·log2 K bits and stands for side² pixels.")


@task("vqvae", "extension")
def kl_to_uniform(answer: Callable[..., float]) -> None:
    """`kl_to_uniform(q)`: bits between a distribution over K codewords and the uniform prior."""
    expect(
        answer(np.array([0.0, 1.0, 0.0, 0.0])),
        2.0,
        "One codeword for sure: log2 K bits; 0·log 0 counts as 0.",
    )
    expect(answer(np.array([0.25] * 4)), 0.0, "A uniform one is no distance away.", absolute=1e-9)
    expect(answer(np.array([0.5, 0.5, 0.0, 0.0])), 1.0, "log2 K − H(q).")


@task("vqvae", "theory")
def best_answers(answer: Callable[..., Tensor]) -> None:
    """What a decoder of unlimited power makes of each index: `best_answers(x, index, count)`."""
    x, index = _normal(100, 3), torch.arange(100) % 4
    wanted = torch.stack([x[index == j].mean(0) for j in range(4)])
    expect(answer(x, index, 4), wanted, "In squared error the best answer is a mean.", absolute=1e-5)


@task("vqvae", "implementation")
def vq_loss(answer: Callable[..., Tensor]) -> None:
    """`vq_loss(z, codebook, beta)`: codebook plus commitment loss, with the right stop gradients.

    Each is summed over the components and averaged over the vectors.
    """
    z, words = _normal(20, 3).requires_grad_(), _normal(5, 3, seed=1).requires_grad_()
    index = _nearest(z, words)
    error = (z - words[index]).square().sum(1).mean()
    loss = answer(z, words, 0.5)
    expect(
        loss,
        1.5 * error,
        "At β = 0.5 the value is 1.5 times the mean squared distance to the nearest codeword.",
    )
    loss.backward()
    require(z.grad is not None and words.grad is not None, "Both latents and codewords must get a gradient.")
    by_z = 2 * 0.5 * (z - words[index]) / 20
    hint = "Latents get β times their gradient (from the commitment alone): is sg on the codeword there?"
    expect(z.grad, by_z, hint, absolute=1e-5)
    by_words = torch.zeros_like(words).index_add(0, index, 2 * (words[index] - z) / 20)
    hint = "Codewords get the gradient of the codebook loss alone: is sg on the latents there?"
    expect(words.grad, by_words, hint, absolute=1e-5)


@task("vqvae", "research")
def gradient_by_hand(answer: Callable[..., Tensor]) -> None:
    """`gradient_by_hand(z, codebook, beta)`: the gradient of that loss with respect to z, without autograd."""
    z, words = _normal(20, 3), _normal(5, 3, seed=1)
    wanted = 2 * 0.25 * (z - words[_nearest(z, words)]) / 20
    expect(
        answer(z, words, 0.25), wanted, "2β(z − c)/n: the loss is a mean over the n vectors.", absolute=1e-6
    )


@task("straight-through", "understanding")
def gradient_at(answer: Callable[..., Tensor]) -> None:
    """The straight-through gradient of ‖z_q − t‖² at z: `gradient_at(z, codebook, target)`."""
    z, words, target = _normal(3), _normal(6, 3, seed=1), _normal(3, seed=2)
    c = words[_nearest(z[None], words)[0]]
    expect(
        answer(z, words, target),
        2 * (c - target),
        "The derivative is taken at the codeword, and passed to z as it is.",
    )


@task("straight-through", "extension")
def smoothed_derivative(answer: Callable[..., float]) -> None:
    """The derivative of the smoothed problem: `smoothed_derivative(loss, z, step)`, for functions of numbers."""

    def cube(q: float) -> float:
        return q**3

    for z, lower in ((0.3, 0.0), (-0.6, -1.0), (1.2, 1.0)):
        wanted = (cube(lower + 0.5) - cube(lower)) / 0.5
        hint = f"z = {z}, step 0.5: (ℓ(q + Δ) − ℓ(q))/Δ, with q the codeword of the lower end z − Δ/2."
        expect(answer(cube, z, 0.5), wanted, hint)


@task("straight-through", "theory")
def largest_error(answer: Callable[..., float]) -> None:
    """Of straight-through against the smoothed derivative, for quadratic ℓ: `largest_error(curvature, step)`."""
    for curvature, step in ((2.0, 0.5), (1.0, 0.1)):
        hint = "The smoothed derivative is ℓ' in the middle of two codewords, straight-through's is at one of them."
        expect(answer(curvature, step), curvature * step / 2, hint)


@task("straight-through", "implementation")
def straight_through(answer: Callable[..., Tensor]) -> None:
    """`straight_through(z, c)`: value of c, gradient of z, none for c."""
    z, c = _normal(4, 3).requires_grad_(), _normal(4, 3, seed=1).requires_grad_()
    out = answer(z, c)
    expect(out, c, "Forward it is the codeword.", absolute=1e-6)
    require(out.requires_grad, "Nothing reaches z: z must be in the sum outside of detach().")
    weights = _normal(4, 3, seed=2)
    (out * weights).sum().backward()
    require(z.grad is not None, "No gradient reaches z.")
    hint = "That is the gradient of z; it must be that of the output, unchanged. In c − z it comes back negative."
    expect(z.grad, weights, hint)
    require(
        c.grad is None or not c.grad.any(), "The codeword must get no gradient: detach the difference c − z."
    )


@task("straight-through", "research")
def half_way(answer: Callable[..., Tensor]) -> None:
    """`half_way(z, c)`: value of c; half of the gradient goes to z and half to c."""
    z, c = _normal(4, 3).requires_grad_(), _normal(4, 3, seed=1).requires_grad_()
    out = answer(z, c)
    expect(out, c, "Forward it is the codeword.", absolute=1e-6)
    out.sum().backward()
    require(z.grad is not None and c.grad is not None, "Both must get a gradient.")
    expect(z.grad, torch.full((4, 3), 0.5), "Half of the gradient is z's.")
    expect(c.grad, torch.full((4, 3), 0.5), "Half of the gradient is c's.")


@task("ema", "understanding")
def batches_to_forget(answer: Callable[..., float]) -> None:
    """`batches_to_forget(decay, share)`.

    After how many batches only `share` of the distance from the start is left.
    """
    for decay, share in ((0.9, 0.1), (0.99, 0.5)):
        expect(answer(decay, share), math.log(share) / math.log(decay), "decay**T = share.", relative=0.05)


@task("ema", "extension")
def tremor(answer: Callable[..., float]) -> None:
    """Variance of a codeword around its mean in steady state: `tremor(decay, variance, count)`."""
    for decay, variance, count in ((0.9, 1.0, 64), (0.99, 2.0, 10)):
        wanted = (1 - decay) / (1 + decay) * variance / count
        expect(answer(decay, variance, count), wanted, "Σ of squared weights (1−γ)²γ^2t, times v/n.")


@task("ema", "theory")
def decay_like_mean(answer: Callable[[int], float]) -> None:
    """`decay_like_mean(batch_number)`: the decay that makes the average the plain mean of batches 1, 2, 3, …"""
    for number in (1, 2, 10):
        expect(answer(number), 1 - 1 / number, f"Batch {number} must count 1/{number}.", absolute=1e-9)


@task("ema", "implementation")
def ema_update(answer: Callable[..., Any]) -> None:
    """`ema_update(counts, sums, z, index, decay)`: new counts, new sums, new codewords."""
    counts, sums = torch.tensor([4.0, 2.0, 1.0]), _normal(3, 2)
    z, index = _normal(50, 2, seed=1), torch.arange(50) % 2
    n = torch.bincount(index, minlength=3).float()
    s = torch.zeros(3, 2).index_add(0, index, z)
    new_counts, new_sums = 0.9 * counts + 0.1 * n, 0.9 * sums + 0.1 * s
    found = answer(counts.clone(), sums.clone(), z, index, 0.9)
    require(len(found) == 3, "Three results: counts, sums, codewords.")
    require(
        tuple(found[0].shape) == (3,),
        "There are three codewords, though the last has no vector: minlength=K.",
    )
    expect(found[0], new_counts, "N ← γN + (1−γ)n.", relative=1e-3)
    expect(found[1], new_sums, "M ← γM + (1−γ)·(sum of the cell's vectors), not their mean.", absolute=1e-4)
    hint = "c = M/N; a codeword without a hit keeps its place, as both decay alike."
    expect(found[2], new_sums / new_counts[:, None], hint, absolute=1e-4)


@task("ema", "research")
def corrected(answer: Callable[..., Tensor]) -> None:
    """`corrected(sums, counts, decay, steps)`: codewords from averages that began at zero, without their bias.

    A trap: does the quotient of two averages that began at zero have a bias at all?
    """
    counts, sums = torch.tensor([0.5, 2.0]), torch.tensor([[1.0, 2.0], [4.0, 2.0]])
    hint = "Both averages are too small by the same factor 1 − γ^T, which the quotient does not see."
    expect(answer(sums, counts, 0.9, 3), sums / counts[:, None], hint)


@task("dead-codes", "understanding")
def expected_dead(answer: Callable[..., float]) -> None:
    """Codewords without a hit in `count` vectors: `expected_dead(p, count)`."""
    p = np.array([0.5, 0.25, 0.25, 0.0])
    expect(
        answer(p, 3), float(((1 - p) ** 3).sum()), "A codeword is missed by all with probability (1 − p)^N."
    )


@task("dead-codes", "extension")
def batches_to_starve(answer: Callable[..., float]) -> None:
    """Without a hit: `batches_to_starve(mass, threshold, decay)`."""
    expect(answer(8.0, 1.0, 0.5), 3.0, "mass·decay^T = threshold.", relative=0.05)
    expect(answer(2.0, 0.5, 0.99), math.log(4) / -math.log(0.99), "mass·decay^T = threshold.", relative=0.05)


@task("dead-codes", "theory")
def mass_moments(answer: Callable[..., Any]) -> None:
    """Mean and variance of the mass in steady state: `mass_moments(p, batch_size, decay)`."""
    p, size, decay = 0.01, 500, 0.9
    hint = "Mean Bp; hits have variance Bp(1 − p), and Σ of the squared weights is (1−γ)/(1+γ)."
    expect(answer(p, size, decay), [5.0, 0.1 / 1.9 * 5.0 * 0.99], hint, relative=1e-3)


@task("dead-codes", "implementation")
def revive(answer: Callable[..., Tensor]) -> None:
    """`revive(codebook, counts, z, share, seed)`.

    Rows below `share` of the mean move to different vectors of z.
    """
    words, z = _normal(6, 2), _normal(50, 2, seed=1)
    counts = torch.tensor([100.0, 0.0, 80.0, 0.4, 60.0, 2.0])
    before = words.clone()
    found = answer(words, counts, z, 0.03, 0)
    require(torch.equal(words, before), "The codebook that was given must not change: work on a copy.")
    alive = [0, 2, 4, 5]
    expect(
        found[alive], before[alive], "The mean count is 40, so below 1.2 is dead: rows 1 and 3 alone move."
    )
    moved = found[[1, 3]]
    require(((moved[:, None] - z).abs().amax(2).amin(1) < 1e-6).all(), "Dead codewords move to vectors of z.")
    require(not torch.equal(moved[0], moved[1]), "They must be different vectors, or one of them dies again.")


@task("dead-codes", "research")
def false_alarms(answer: Callable[..., float]) -> None:
    """`false_alarms(p, batch_size, window, share)`.

    Probability that a codeword of share p is below `share` of its own mean hits in a window, Poisson hits.
    """
    p, size, window, share = 0.001, 100, 50, 0.3
    mean = p * size * window
    wanted = sum(math.exp(-mean) * mean**k / math.factorial(k) for k in range(math.ceil(share * mean)))
    hint = f"Hits are Poisson with mean p·B·window = {mean:g}; sum the probabilities of k < share·mean."
    expect(answer(p, size, window, share), wanted, hint, relative=1e-3)
