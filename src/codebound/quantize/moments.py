"""What an optimizer remembers of codewords that were replaced."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor, nn


@torch.no_grad()
def forget_rows(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, rows: Int64[Tensor, " r"]) -> None:
    """Zero an optimizer's moments of these rows of a parameter: they belonged to what stood there before.

    A moment is whatever the optimizer keeps with as many rows as the parameter has.
    """
    for moment in optimizer.state.get(parameter, {}).values():
        if isinstance(moment, Tensor) and moment.shape[:1] == parameter.shape[:1]:
            moment[rows.to(moment.device)] = 0
