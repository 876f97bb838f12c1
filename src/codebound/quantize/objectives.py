"""Regularisers that a training loop may add to its loss; each is a scalar with gradient, in bounded memory.

Weights belong to whoever adds them up. They act on latents and codewords, so they need an encoder that trains, or
codewords that a gradient moves.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from codebound import arguments
from codebound.errors import InputError
from codebound.quantize.assign import CHUNK


def assignment_entropy(
    z: Float[Tensor, "*b D"], codewords: Float[Tensor, "K D"], temperature: float = 1.0
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean entropy of a token's soft assignment, and entropy of the mean assignment, in nats.

    q = softmax(−|z − c_j|²/temperature). Adding first − second to a loss asks for confident tokens that use all
    codewords (Yu et al. 2023, MAGVIT-v2, eq. 5). Computed in chunks of tokens, again in the backward pass.

    Raises:
        InputError: no token, or a temperature that is not positive.
    """
    # Refuse what has no entropy.
    arguments.number("temperature", temperature, above=0)
    _require_rows("z", z)
    _require_rows("codewords", codewords)
    tokens = z.reshape(-1, z.shape[-1])
    if tokens.shape[0] == 0:
        raise InputError(f"z must hold at least one token; its shape is {list(z.shape)}")

    # The sums of a part of the tokens; what it needs is computed again in the backward pass.
    def chunk(part: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        logits = torch.addmm(-c.square().sum(-1), part, c.T, alpha=2.0) / temperature
        q = logits.softmax(-1)
        return torch.special.entr(q).sum(), q.sum(0)

    # Entropies add up over tokens; assignments are averaged before their entropy is taken.
    each, mean = tokens.new_zeros(()), tokens.new_zeros(codewords.shape[0])
    for part in tokens.split(max(1, CHUNK // codewords.shape[0])):
        entropy, share = checkpoint(chunk, part, codewords, use_reentrant=False)  # pyright: ignore
        each, mean = each + entropy, mean + share
    return each / tokens.shape[0], torch.special.entr(mean / tokens.shape[0]).sum()


def orthogonality(
    codewords: Float[Tensor, "K D"], sample: int = 4096, generator: torch.Generator | None = None
) -> Float[Tensor, ""]:
    """Mean squared cosine between different codewords (Shin, Lee & Jung 2021, eq. 4; 0 if all are orthogonal).

    Of a codebook larger than `sample` a random part is taken, so that memory stays bounded.
    """
    _require_rows("codewords", codewords)
    if codewords.shape[0] > arguments.whole("sample", sample, least=2):
        rows = torch.randperm(codewords.shape[0], generator=generator)[:sample].to(codewords.device)
        codewords = codewords[rows]
    unit = F.normalize(codewords, dim=-1)
    k = unit.shape[0]
    # Σ_ij cos² = |UᵀU|²: a D×D product in place of K×K, less the diagonal.
    return ((unit.T @ unit).square().sum() - unit.square().sum(-1).square().sum()) / max(1, k * (k - 1))


def _require_rows(name: str, rows: Tensor) -> None:
    if not isinstance(rows, Tensor) or rows.ndim < 1 or not rows.is_floating_point():
        kind = f"{rows.dtype} {list(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
        raise InputError(f"{name} must be a tensor of vectors; got {kind}")
