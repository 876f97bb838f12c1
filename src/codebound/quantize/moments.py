"""What an optimizer remembers of codewords that were replaced."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from codebound.quantize.sharding import zero_rows_


@torch.no_grad()
def forget_rows(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, rows: Int64[Tensor, " r"]) -> None:
    """Zero an optimizer's moments of these rows of a parameter: they belonged to what stood there before.

    A moment is whatever the optimizer keeps with as many rows as the parameter has.
    """
    for moment in optimizer.state.get(parameter, {}).values():
        if isinstance(moment, Tensor) and moment.shape[:1] == parameter.shape[:1]:
            zero_rows_(moment, rows)


@torch.no_grad()
def move_rows(
    optimizer: torch.optim.Optimizer,
    parameter: nn.Parameter,
    rows: int,
    source: Int64[Tensor, " K"],
    fresh: Int64[Tensor, " r"],
) -> None:
    """Give the moments of a parameter that had so many rows those that it has now: of `source`, and zero in `fresh`."""
    moments = optimizer.state.get(parameter, {})
    for name, moment in moments.items():
        if isinstance(moment, Tensor) and moment.shape[:1] == (rows,):
            moments[name] = moment[source.to(moment.device)]
    forget_rows(optimizer, parameter, fresh)
