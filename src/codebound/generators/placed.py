"""What priors have that are told where each token stands: a table of rows, columns, codebooks and classes."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from codebound.generators.layout import Layout
from codebound.generators.prior import TokenPrior
from codebound.nets.transformer import Rotation


class PlacedPrior(TokenPrior):
    """A prior that adds to each token what its row, column, codebook and class say; attention turns by row and column.

    Raises:
        InputError: as `TokenPrior`.
    """

    def __init__(self, layout: Layout, **options: Any) -> None:
        super().__init__(layout, **options)
        # Where a token stands: rows and columns of each grid, and which of a place's codebooks.
        width = self.body.width
        self._most = max(max(grid.height, grid.width) for grid in layout.grids)
        self.rows = _embedding(len(layout.grids) * self._most, width)
        self.columns = _embedding(len(layout.grids) * self._most, width)
        self.levels = _embedding(len(layout.slots), width)
        self.label = _embedding(len(self.classes) + 1, width)  # the last one: no class
        self._make_head(bias=True)

    def where(self, layout: Layout) -> tuple[Float[Tensor, "n d"], Rotation]:
        """What each position adds to its token, and how it is turned."""
        device = self.head.weight.device
        grids, rows, columns = layout.places.to(device).unbind(1)
        embedded = self.rows(grids * self._most + rows) + self.columns(grids * self._most + columns)
        embedded = embedded + self.levels(layout.slot_of.to(device))
        return embedded, self.body.rotation(torch.stack([rows, columns], dim=1))


def _embedding(count: int, width: int) -> nn.Embedding:
    """A table that begins small beside what is added to it."""
    table = nn.Embedding(count, width)
    nn.init.normal_(table.weight, std=0.02)
    return table
