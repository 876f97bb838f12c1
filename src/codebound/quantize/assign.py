"""How a vector finds its codeword."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from codebound import search


@dataclass(frozen=True)
class Nearest:
    """The codeword at the least Euclidean distance; the lowest index wins a tie."""

    kind: Literal["nearest"] = "nearest"

    def __call__(
        self, z: Float[Tensor, "n D"], codewords: Float[Tensor, "K D"], generator: torch.Generator | None
    ) -> Int64[Tensor, " n"]:
        return search.nearest(z, codewords)


Assign = Nearest
