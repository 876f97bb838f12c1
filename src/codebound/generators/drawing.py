"""How a token is drawn from logits: temperature, the most likely ones only, and a number of each sample's own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from codebound import arguments
from codebound.data.image_sets import step_random
from codebound.errors import InputError


class Draw(NamedTuple):
    """How tokens are drawn.

    Attributes:
        temperature: that logits are divided by; 0 takes the most likely token.
        top_k: only so many of the most likely tokens; None for all.
        top_p: only the most likely ones that together have this probability (Holtzman et al. 2020); 1 for all.
        guidance: how far logits are taken from those without a class towards, and beyond, those with it (Ho & Salimans
            2022): 0 is no class, 1 the class as it is.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    guidance: float = 1.0

    def check(self) -> None:
        """Refuse numbers out of range.

        Raises:
            InputError: so; the argument is named.
        """
        arguments.number("temperature", self.temperature, least=0)
        arguments.number("top_p", self.top_p, above=0, most=1)
        arguments.number("guidance", self.guidance, least=0)
        if self.top_k is not None:
            arguments.whole("top_k", self.top_k)

    def tokens(
        self, logits: Float[Tensor, "b k"], uniform: Float[Tensor, " b"]
    ) -> tuple[Int64[Tensor, " b"], Float[Tensor, " b"]]:
        """A token for each row, and the probability that it had among those that could be drawn.

        Args:
            uniform: a number in [0, 1) for each row, which decides its token.
        """
        # The most likely token, for which nothing needs to be drawn.
        if self.temperature == 0:
            best = logits.argmax(-1)
            return best, torch.ones_like(uniform)

        # Probabilities of those that may be drawn. In float64: a token of probability 0 is never met by rounding.
        probabilities = (logits.double() / self.temperature).softmax(-1)
        if self.top_k is not None and self.top_k < probabilities.shape[-1]:
            kept = probabilities.topk(self.top_k).indices
            probabilities = torch.zeros_like(probabilities).scatter(-1, kept, probabilities.gather(-1, kept))
        if self.top_p < 1:
            ordered, order = probabilities.sort(dim=-1, descending=True)
            before = ordered.cumsum(-1) - ordered
            cut = ordered.masked_fill(before >= self.top_p * ordered.sum(-1, keepdim=True), 0.0)
            probabilities = torch.zeros_like(probabilities).scatter(-1, order, cut)

        # The first token at which the running sum passes the number.
        sums = probabilities.cumsum(-1)
        total = sums[:, -1:]
        drawn = torch.searchsorted(sums, uniform.double()[:, None] * total, right=True)
        drawn = drawn.clamp_max(logits.shape[-1] - 1)
        return drawn[:, 0], (probabilities / total).gather(-1, drawn)[:, 0].to(uniform.dtype)


def uniforms(seed: int, first: int, count: int, columns: int) -> Float[Tensor, "count columns"]:
    """Numbers in [0, 1) for samples `first`, `first + 1`, …: those of a sample depend on its number and the seed alone.

    So the hundredth sample is the same whether it is drawn alone or in any batch.
    """
    if count == 0:
        return torch.empty(0, columns)
    arguments.whole("first", first, least=0)
    rows = [step_random(seed, first + i).random(columns, dtype=np.float32) for i in range(count)]
    return torch.from_numpy(np.stack(rows))


def check_seed(seed: int) -> int:
    """The seed, or InputError where no stream begins from it."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed!r}; it must be an int in 0 … 2**63 − 1")
    return seed
