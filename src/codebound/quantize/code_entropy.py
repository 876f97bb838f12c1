"""Entropies of soft binary codes, exact over all 2^g codes of a group without an N × 2^g array.

Bit i of a token is 1 with probability σ(l_i), independently given the token. So a token's distribution over codes is
a product, p(c|z) = Π_i σ(±l_i), and so is the one over each half of its bits: with A [N, 2^⌈g/2⌉] and
B [N, 2^⌊g/2⌋] the mean over tokens is one small matrix product, E p = Aᵀ diag(w) B. At g = 18 that is 512 × 512,
summed over chunks of tokens: the chunks, and the 2^g mean probabilities, are all that exists at a time.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 2**18  # probabilities per array of a chunk: 1 MB of float32
CUDA_CHUNK = 2**22
SATURATED = 80.0  # e^−80 is nothing beside 1, and safe in float32


def sample_entropy(logits: Float[Tensor, "n g"], weights: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """E H(p(c|z)) in nats: exact, as it is the sum of the bits' entropies. `weights` sum to 1 over the tokens."""
    size = logits.clamp(-SATURATED, SATURATED).abs()
    # −σ ln σ − (1 − σ) ln(1 − σ), without the difference of two large numbers
    bits = torch.log1p((-size).exp()) + size * torch.sigmoid(-size)
    return (bits.sum(-1) * weights).sum()


def codebook_entropy(
    logits: Float[Tensor, "n g"], weights: Float[Tensor, " n"], group_bits: int
) -> Float[Tensor, ""]:
    """H(E p) in nats, exact within groups of at most `group_bits` bits and summed over groups.

    The sum is the entropy of the code with E p's group marginals and independent groups: an upper bound of the
    joint entropy, equal to it where there is one group.
    """
    logits = logits.clamp(-SATURATED, SATURATED)
    if group_bits == 1:
        on = (logits.sigmoid() * weights.unsqueeze(-1)).sum(0)
        off = ((-logits).sigmoid() * weights.unsqueeze(-1)).sum(0)
        return _entropy(torch.stack([on, off]))
    groups = -(-logits.shape[-1] // group_bits)
    parts = torch.tensor_split(logits, groups, dim=-1)  # sizes as equal as possible
    return torch.stack([_entropy(mean_probabilities(part, weights)) for part in parts]).sum()


def mean_probabilities(logits: Float[Tensor, "n g"], weights: Float[Tensor, " n"]) -> Float[Tensor, "a b"]:
    """E p(c|z) for all 2^g codes, as a matrix: row the first ⌈g/2⌉ bits, column the rest, first bit highest.

    Differentiable in `logits`; the backward pass recomputes the chunks, but keeps them for a second derivative.
    `|logits|` at most 80.
    """
    return _mean_op(logits, weights)


def _entropy(p: Tensor) -> Tensor:
    # Where p underflows to 0 its gradient −ln p − 1 must stay finite: it meets factors that are 0.
    return -(p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum()


def _products(logits: Tensor) -> Tensor:
    """Probabilities [n, 2^h] of all codes of h bits: by doubling, as exact as its h factors."""
    on, off = logits.sigmoid().unsqueeze(-1), (-logits).sigmoid().unsqueeze(-1)
    p = logits.new_ones(logits.shape[0], 1)
    for i in range(logits.shape[1]):
        p = torch.stack([p * off[:, i], p * on[:, i]], -1).flatten(1)
    return p


def _products_backward(weighted: Tensor, logits: Tensor) -> Tensor:
    """Gradient by the logits, from `weighted` = gradient × probability: ∂ ln p(c)/∂l_i = c_i − σ(l_i)."""
    total = weighted.sum(-1)
    gradient = torch.empty_like(logits)
    for i in range(logits.shape[1]):
        with_bit = weighted.view(-1, 2**i, 2, weighted.shape[1] >> (i + 1))[:, :, 1].sum((1, 2))
        gradient[:, i] = with_bit - logits[:, i].sigmoid() * total
    return gradient


def _chunks(logits: Tensor) -> range:
    """Where parts of the tokens begin, each so small that its probabilities stay in the cache."""
    budget = CUDA_CHUNK if logits.is_cuda else CHUNK
    return range(0, logits.shape[0], max(1, budget >> -(-logits.shape[1] // 2)))


def _mean(logits: Tensor, weights: Tensor) -> Tensor:
    """Mean probability of each code, [2^h, 2^l]: bits are independent, so half of them give rows, half columns."""
    high = -(-logits.shape[1] // 2)
    mean = logits.new_zeros(2**high, 2 ** (logits.shape[1] - high))
    rows = _chunks(logits)
    with torch.autocast(logits.device.type, enabled=False):
        for i in rows:
            part, weight = logits[i : i + rows.step], weights[i : i + rows.step, None]
            mean.addmm_((_products(part[:, :high]) * weight).T, _products(part[:, high:]))
    return mean


def _mean_backward(gradient: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
    """The gradient of `_mean` by the logits; probabilities are computed again, part by part."""
    high = -(-logits.shape[1] // 2)
    result = torch.empty_like(logits, memory_format=torch.contiguous_format)
    rows = _chunks(logits)
    with torch.autocast(logits.device.type, enabled=False):
        for i in rows:
            part, weight = logits[i : i + rows.step], weights[i : i + rows.step, None]
            a, b = _products(part[:, :high]) * weight, _products(part[:, high:])
            into = result[i : i + rows.step]
            into[:, :high] = _products_backward((b @ gradient.T) * a, part[:, :high])
            into[:, high:] = _products_backward((a @ gradient) * b, part[:, high:])
    return result


# Opaque to the compiler: it would unroll the chunks.
_mean_op = torch.library.custom_op(
    "codebound::mean_code_probabilities",
    _mean,
    mutates_args=(),
    schema="(Tensor logits, Tensor weights) -> Tensor",
)
_mean_backward_op = torch.library.custom_op(
    "codebound::mean_code_probabilities_backward",
    _mean_backward,
    mutates_args=(),
    schema="(Tensor gradient, Tensor logits, Tensor weights) -> Tensor",
)


@_mean_op.register_fake
def _(logits: Tensor, weights: Tensor) -> Tensor:
    high = -(-logits.shape[1] // 2)
    return logits.new_empty(2**high, 2 ** (logits.shape[1] - high))


@_mean_backward_op.register_fake
def _(gradient: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
    return torch.empty_like(logits, memory_format=torch.contiguous_format)


def _save(ctx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
    logits, weights = ctx.saved_tensors
    if torch.is_grad_enabled():
        # A second derivative is wanted: all chunks are kept, as autograd needs them.
        (by_logits,) = torch.autograd.grad(_mean(logits, weights), logits, gradient, create_graph=True)
        return by_logits, None
    return _mean_backward_op(gradient, logits, weights), None


_mean_op.register_autograd(_backward, setup_context=_save)
