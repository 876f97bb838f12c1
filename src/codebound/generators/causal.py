"""Priors that go through the tokens one after the other: exact likelihood, and samples with or without a cache."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from codebound.generators.drawing import Draw, uniforms
from codebound.generators.evaluating import in_eval
from codebound.generators.layout import Layout
from codebound.generators.prior import BATCH, Indices, TokenPrior
from codebound.nets.transformer import KeyValueCache, Rotation

Inputs = Callable[[Tensor, slice], Float[Tensor, "b m d"]]  # of some positions, from all tokens


class CausalPrior(TokenPrior):
    """p(tokens) = ∏ p(token | those before it): what a position is given depends on earlier tokens alone.

    Raises:
        InputError: as `TokenPrior`.
    """

    exact = True

    # What a kind has of its own.

    @abstractmethod
    def forward(
        self, tokens: Int64[Tensor, "b n"], labels: Int64[Tensor, " b"], layout: Layout | None = None
    ) -> Float[Tensor, "b n d"]:
        """What the network knows of each position from those before it."""

    @abstractmethod
    def inputs(self, labels: Int64[Tensor, " b"], layout: Layout) -> tuple[Inputs, Rotation]:
        """What enters the transformer at some positions, given tokens; and how positions are turned.

        What does not depend on tokens is computed here, once for all positions.
        """

    # What all share.

    def loss(
        self,
        tokens: Int64[Tensor, "b n"],
        labels: Int64[Tensor, " b"],
        draws: Float[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, ""]:
        """Cross-entropy, in nats per token; nothing is random."""
        return self.costs(self(tokens, labels), tokens, self.layout).mean()

    @torch.no_grad()
    @in_eval
    def log_prob(self, indices: Indices, labels: Any = None) -> Float[Tensor, " b"]:
        """ln p(indices | class) of each picture, in nats, exact.

        Args:
            indices: `[b, H, W, Q]`, or one tensor for each grid of the layout; grids may be smaller than in training.
            labels: the classes: None for no class, a number, a name, or one for each picture.

        Raises:
            InputError: a larger grid, an index out of range, or an unknown class.
        """
        layout, tokens = self.tokens_of(indices)
        numbers = self.label_numbers(labels, len(tokens))
        parts = [
            -self.costs(self(some, label, layout), some, layout).double().sum(1)
            for some, label in zip(tokens.split(BATCH), numbers.split(BATCH), strict=True)
        ]
        return torch.cat(parts).float() if parts else tokens.new_zeros(0, dtype=torch.float32)

    def bits(self, indices: Indices, labels: Any = None) -> Float[Tensor, " b"]:
        """−log₂ p of each picture: what it would cost in a file; as `log_prob`."""
        return -self.log_prob(indices, labels) / math.log(2)

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
        cached: bool = True,
    ) -> Tensor | tuple[Tensor, ...]:
        """New grids of indices, `[count, H, W, Q]`, or one tensor for each grid of the layout.

        A sample is a function of (seed, its number, label, settings): more samples, or another `batch`, change none.

        Args:
            labels: classes, as in `log_prob`.
            temperature, top_k, top_p, guidance: as `Draw`.
            first: the number of the first sample.
            grid: rows and columns of tokens, up to those of training.
            known: indices that are given, −1 where one is to be drawn; what follows a given token depends on it, what
                comes before it does not (a `MaskedPrior` looks in all directions).
            batch: pictures at once.
            cached: keep keys and values of earlier tokens: several times quicker, and the same tokens, but where a draw
                falls within rounding of two.

        Raises:
            InputError: a number out of range, an unknown class, guidance without class dropout, or a larger grid.
        """
        draw = Draw(temperature, top_k, top_p, guidance)

        def sampled(given: Tensor, numbers: Tensor, layout: Layout, place: int) -> Tensor:
            return self._sampled(given, numbers, draw, layout, seed, first + place, cached)

        return self._in_parts(
            count, draw, sampled, labels=labels, seed=seed, grid=grid, known=known, batch=batch
        )

    def _sampled(
        self,
        given: Int64[Tensor, "b n"],
        labels: Int64[Tensor, " b"],
        draw: Draw,
        layout: Layout,
        seed: int,
        first: int,
        cached: bool,
    ) -> Int64[Tensor, "b n"]:
        """Tokens of some pictures, the first of which has this number."""
        # With guidance every picture is there twice: with its class, and with none.
        guided, count = draw.guidance != 1, len(given)
        if guided:
            labels = torch.cat([labels, torch.full_like(labels, self.no_class)])
        tokens = given.clamp_min(0).repeat(2 if guided else 1, 1)
        numbers = uniforms(seed, first, count, layout.length).to(given.device)

        # What does not depend on tokens, once.
        inputs, rotation = self.inputs(labels, layout)
        cache = self.body.cache(len(tokens), layout.length) if cached else None

        # Token after token: logits from those before it, then a draw, unless it is given.
        slots = layout.slot_of.tolist()
        for position in range(layout.length):
            hidden = self._next(inputs, tokens, rotation, position, cache)
            logits = self.logits(hidden, layout, slots[position]).float()
            if guided:
                with_class, without = logits.chunk(2)
                logits = without + draw.guidance * (with_class - without)
            drawn, _ = draw.tokens(logits, numbers[:, position])
            drawn = drawn + layout.slots[slots[position]].first
            chosen = torch.where(given[:, position] >= 0, given[:, position], drawn)
            tokens[:, position] = chosen.repeat(2 if guided else 1)
        return tokens[:count]

    def _next(
        self,
        inputs: Inputs,
        tokens: Int64[Tensor, "b n"],
        rotation: Rotation,
        position: int,
        cache: KeyValueCache | None,
    ) -> Float[Tensor, "b d"]:
        """What the network knows of one position; without a cache, all before it are computed anew."""
        first = 0 if cache is None else position
        x = inputs(tokens, slice(first, position + 1))
        return self.body(x, rotation.at(first, position + 1), causal=True, cache=cache)[:, -1]
