"""The masked prior: all hidden tokens are predicted at once, the surest are kept, in a few steps."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from codebound import arguments
from codebound.generators.drawing import Draw, uniforms
from codebound.generators.evaluating import in_eval
from codebound.generators.layout import Layout
from codebound.generators.placed import PlacedPrior
from codebound.generators.prior import BATCH, Indices

STEPS = 8  # of a sample, by default
SPREAD = 4.5  # how much chance there is, at first, in which tokens are kept (Chang et al. 2022: 4.5)
ROUNDS = 8  # masks of each picture behind the bound of its bits


class MaskedPrior(PlacedPrior):
    """Grids of indices, many tokens at a time (MaskGIT: Chang et al. 2022).

    ```
    tokens, hidden ones as one more ──▶ embeddings ─┐
    row, column, codebook, class ──▶ embeddings ────┴─▶ transformer, all see all ──▶ logits of each codebook
    ```

    Training hides a part cos(π/2·u) of the tokens, u uniform, and predicts them. A sample begins with all hidden; each
    step draws all that are, and keeps the surest, so that cos(π/2·s/S) of them stay hidden after s of S steps. Given
    tokens are seen in all directions, so it completes any part of a picture. The likelihood is known by a bound only.

    Raises:
        InputError: as `TokenPrior`.
    """

    exact = False

    def __init__(self, layout: Layout, **options: Any) -> None:
        super().__init__(layout, **options)
        self.token = nn.Embedding(layout.vocabulary + 1, self.body.width)  # the last one: hidden
        nn.init.normal_(self.token.weight, std=0.5)

    def forward(
        self, tokens: Int64[Tensor, "b n"], labels: Int64[Tensor, " b"], layout: Layout | None = None
    ) -> Float[Tensor, "b n d"]:
        """What the network knows of each position from all tokens that are not hidden; hidden ones are −1."""
        places, rotation = self.where(layout or self.layout)
        x = self.token(torch.where(tokens < 0, self.layout.vocabulary, tokens))
        return self.body(x + places + self.label(labels)[:, None], rotation, causal=False)

    def loss(
        self, tokens: Int64[Tensor, "b n"], labels: Int64[Tensor, " b"], draws: Float[Tensor, "b m"]
    ) -> Float[Tensor, ""]:
        """Cross-entropy of hidden tokens, in nats per token; how many and which by the draws.

        The mean over the pictures of each one's mean, so that the parts of a divided batch add up to the whole.
        """
        order, part = draws[:, :-1], (draws[:, -1] * (math.pi / 2)).cos()
        hidden = _hidden(order, (part * tokens.shape[1]).ceil().clamp_min(1))
        costs = self.costs(self(tokens.masked_fill(hidden, -1), labels), tokens, self.layout)
        return ((costs * hidden).sum(1) / hidden.sum(1)).mean()

    @torch.no_grad()
    @in_eval
    def bits(self, indices: Indices, labels: Any = None) -> Float[Tensor, " b"]:
        """An upper bound of −log₂ p of each picture, under generation in random order.

        n·E[mean −log₂ p(hidden token | the others)], the number of hidden tokens uniform in 1 … n (Hoogeboom et al.
        2022, eq. 8), estimated from 8 masks of each picture that are the same in every call.

        Raises:
            InputError: a larger grid, an index out of range, or an unknown class.
        """
        layout, tokens = self.tokens_of(indices)
        numbers, n = self.label_numbers(labels, len(tokens)), layout.length
        draws = uniforms(0, 0, len(tokens), ROUNDS * (n + 1)).to(tokens.device).unflatten(1, (ROUNDS, n + 1))

        # Round r hides about r/8 of the tokens: numbers that are spread evenly have less variance than random ones.
        parts = []
        for start in range(0, len(tokens), BATCH):
            some, label = tokens[start : start + BATCH], numbers[start : start + BATCH]
            total = torch.zeros(len(some), dtype=torch.float64, device=tokens.device)
            for number in range(ROUNDS):
                drawn = draws[start : start + BATCH, number]
                hidden = _hidden(drawn[:, :-1], ((number + drawn[:, -1]) / ROUNDS * n).ceil().clamp(1, n))
                costs = self.costs(self(some.masked_fill(hidden, -1), label, layout), some, layout)
                total += (costs * hidden).double().sum(1) / hidden.sum(1)
            parts.append((total * (n / ROUNDS / math.log(2))).float())
        return torch.cat(parts) if parts else tokens.new_zeros(0, dtype=torch.float32)

    @torch.no_grad()
    @in_eval
    def sample(
        self,
        count: int,
        *,
        labels: Any = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        guidance: float = 1.0,
        seed: int = 0,
        first: int = 0,
        grid: tuple[int, int] | None = None,
        known: Indices | None = None,
        batch: int = BATCH,
        steps: int = STEPS,
    ) -> Tensor | tuple[Tensor, ...]:
        """New grids of indices, `[count, H, W, Q]`, or one tensor for each grid of the layout.

        A sample is a function of (seed, its number, label, settings): more samples, or another `batch`, change none.

        Args:
            labels: classes, as in `bits`.
            temperature, top_k, top_p, guidance: as `Draw`; guidance grows from 1 to its value over the steps.
            first: the number of the first sample.
            grid: rows and columns of tokens, up to those of training.
            known: indices that are given, −1 where one is to be drawn.
            batch: pictures at once.
            steps: in which all tokens are drawn; as many as tokens at most count.

        Raises:
            InputError: a number out of range, an unknown class, guidance without class dropout, or a larger grid.
        """
        arguments.whole("steps", steps)
        draw = Draw(temperature, top_k, top_p, guidance)

        def sampled(given: Tensor, numbers: Tensor, layout: Layout, place: int) -> Tensor:
            return self._sampled(given, numbers, draw, layout, seed, first + place, steps)

        return self._in_parts(
            count, draw, sampled, labels=labels, seed=seed, grid=grid, known=known, batch=batch
        )

    def _sampled(
        self,
        tokens: Int64[Tensor, "b n"],
        labels: Int64[Tensor, " b"],
        draw: Draw,
        layout: Layout,
        seed: int,
        first: int,
        steps: int,
    ) -> Int64[Tensor, "b n"]:
        """Tokens of some pictures, the first of which has this number."""
        count, n = tokens.shape
        numbers = uniforms(seed, first, count, 2 * steps * n).to(tokens.device).unflatten(1, (steps, 2, n))
        begun = (tokens < 0).sum(1)  # tokens that are hidden at first
        for step in range(steps):
            # All hidden tokens, each with the probability that it had.
            guidance = 1 + (draw.guidance - 1) * (step + 1) / steps
            logits = self._logits(tokens, labels, layout, guidance)
            drawn, sure = self._drawn(logits, draw, layout, numbers[:, step, 0])

            # The surest are kept, with some chance that wanes; the last step keeps all.
            done = (step + 1) / steps
            noise = -(-numbers[:, step, 1].clamp(1e-7, 1 - 1e-7).log()).log()
            confidence = sure.log() + (SPREAD * (1 - done) if draw.temperature > 0 else 0.0) * noise
            confidence = confidence.masked_fill(tokens >= 0, math.inf)
            stay = (begun * math.cos(math.pi / 2 * done)).floor() if done < 1 else torch.zeros_like(begun)
            hidden = _hidden(confidence, stay)
            tokens = torch.where((tokens < 0) & ~hidden, drawn, tokens)
        return tokens

    def _logits(
        self, tokens: Int64[Tensor, "b n"], labels: Int64[Tensor, " b"], layout: Layout, guidance: float
    ) -> list[Float[Tensor, "b _ _"]]:
        """Of each codebook's positions; taken away from those without a class where there is guidance."""
        if guidance == 1:
            hidden = self(tokens, labels, layout)
        else:
            without = torch.full_like(labels, self.no_class)
            hidden = self(tokens.repeat(2, 1), torch.cat([labels, without]), layout)
        found = [
            self.logits(hidden[:, list(slot.positions)], layout, number).float()
            for number, slot in enumerate(layout.slots)
        ]
        if guidance == 1:
            return found
        pairs = (logits.chunk(2) for logits in found)
        return [without + guidance * (with_class - without) for with_class, without in pairs]

    def _drawn(
        self, logits: list[Float[Tensor, "b _ _"]], draw: Draw, layout: Layout, numbers: Float[Tensor, "b n"]
    ) -> tuple[Int64[Tensor, "b n"], Float[Tensor, "b n"]]:
        """A token for every position, and the probability that the network gives it."""
        tokens = torch.zeros(numbers.shape, dtype=torch.int64, device=numbers.device)
        sure = torch.zeros_like(numbers)
        for part, slot in zip(logits, layout.slots, strict=True):
            positions = list(slot.positions)
            drawn, _ = draw.tokens(part.flatten(0, 1), numbers[:, positions].flatten())
            drawn = drawn.unflatten(0, part.shape[:2])
            tokens[:, positions] = drawn + slot.first
            sure[:, positions] = part.softmax(-1).gather(-1, drawn[..., None])[..., 0]
        return tokens, sure.clamp_min(1e-30)


def _hidden(values: Float[Tensor, "b n"], counts: Tensor) -> Bool[Tensor, "b n"]:
    """The positions of so many smallest values in each row."""
    ranks = values.argsort(dim=1, stable=True).argsort(dim=1)
    return ranks < counts[:, None]
