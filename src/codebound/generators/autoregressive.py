"""The autoregressive prior: token after token, each position given the tokens of its neighbours."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from codebound.generators.causal import CausalPrior, Inputs
from codebound.generators.layout import Layout
from codebound.generators.placed import PlacedPrior
from codebound.nets.transformer import Rotation


class AutoregressivePrior(CausalPrior, PlacedPrior):
    """Grids of indices, one token after the other.

    ```
    tokens at the neighbours before each position ──▶ embeddings, summed ─┐
    row, column, codebook, class ──▶ embeddings ──────────────────────────┴─▶ transformer ──▶ logits of its codebook
    ```

    A position's input is the tokens of the neighbours that come before it (`Layout.neighbours`): a convolution over
    what is known, which spares attention from finding out what stands above. Attention, causal and with rotary rows
    and columns, sees all that came before. `log_prob` is exact.

    Raises:
        InputError: as `TokenPrior`.
    """

    def __init__(self, layout: Layout, **options: Any) -> None:
        super().__init__(layout, **options)
        # A table for each kind of neighbour, all in one; the last row of each stands for "there is none".
        neighbours = layout.neighbours.shape[1]
        self.context = nn.EmbeddingBag(neighbours * (layout.vocabulary + 1), self.body.width, mode="sum")
        nn.init.normal_(self.context.weight, std=(1 / neighbours) ** 0.5 * 0.5)

    def forward(
        self, tokens: Int64[Tensor, "b n"], labels: Int64[Tensor, " b"], layout: Layout | None = None
    ) -> Float[Tensor, "b n d"]:
        """What the network knows of each position from those before it."""
        layout = layout or self.layout
        places, rotation = self.where(layout)
        x = self._input(tokens, layout, slice(None)) + places + self.label(labels)[:, None]
        return self.body(x, rotation, causal=True)

    def inputs(self, labels: Int64[Tensor, " b"], layout: Layout) -> tuple[Inputs, Rotation]:
        """Neighbours' tokens, to which places and class are added."""
        places, rotation = self.where(layout)
        constant = places[None] + self.label(labels)[:, None]

        def at(tokens: Tensor, part: slice) -> Tensor:
            return self._input(tokens, layout, part) + constant[:, part]

        return at, rotation

    def _input(self, tokens: Int64[Tensor, "b n"], layout: Layout, part: slice) -> Float[Tensor, "b m d"]:
        """The tokens at the neighbours of some positions, embedded and summed."""
        neighbours = layout.neighbours[part].to(tokens.device)
        rows = torch.where(neighbours >= 0, tokens[:, neighbours.clamp_min(0)], self.layout.vocabulary)
        kinds = torch.arange(neighbours.shape[1], device=tokens.device) * (self.layout.vocabulary + 1)
        return self.context((rows + kinds).flatten(0, 1)).unflatten(0, rows.shape[:2])
