"""How codewords derive from the table that is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Table:
    """Codewords are the rows of the table."""

    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Linear:
    """Codewords are a trained linear map of a frozen table: c_j = W t_j (SimVQ: Zhu et al. 2024, eq. 5).

    Every gradient moves all codewords at once, so none is left behind. Needs `update=Gradient()`, and revival is
    refused: a codeword can't be moved alone.
    """

    kind: Literal["linear"] = "linear"


@dataclass(frozen=True)
class Unit:
    """Codewords are the rows of the table, normalised to length 1 (ViT-VQGAN: Yu et al. 2022, §3.2)."""

    kind: Literal["unit"] = "unit"


Form = Table | Linear | Unit
