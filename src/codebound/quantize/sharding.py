"""Parameters that `fully_shard` has divided among the ranks: read and written as a whole.

Inside a module's forward they are whole anyway. Outside of it (`init_`, `update_`, `encode`, `decode`) each rank holds
some of the rows, as a DTensor, and all ranks have to make the same calls.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def is_sharded(tensor: object) -> bool:
    """Whether this rank holds a part of it only."""
    return hasattr(tensor, "full_tensor")  # of a DTensor alone, and no reason to import it


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; the gradient of it goes to the parts."""
    part: Any = tensor
    return part.full_tensor() if is_sharded(tensor) else tensor


@torch.no_grad()
def write_whole_(tensor: Tensor, values: Tensor) -> None:
    """Write all of a tensor; each rank takes its part of `values`, which are the same on all of them."""
    if is_sharded(tensor):
        from torch.distributed.tensor import DTensor, Replicate

        part: Any = tensor
        mesh = part.device_mesh
        same = DTensor.from_local(values.to(tensor), mesh, [Replicate()] * mesh.ndim, run_check=False)
        values = same.redistribute(placements=part.placements)
    tensor.copy_(values)


@torch.no_grad()
def zero_rows_(tensor: Float[Tensor, "K ..."], rows: Int64[Tensor, " r"]) -> None:
    """Zero some rows, which are the same on every rank."""
    rows = rows.to(tensor.device)
    if is_sharded(tensor):
        write_whole_(tensor, whole(tensor).index_fill(0, rows, 0))
    else:
        tensor[rows] = 0
