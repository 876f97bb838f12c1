"""The only user of torch.distributed in this layer.

Asked at call time: the process group may come after the module.
"""

from __future__ import annotations

import functools

import torch
import torch.distributed as dist
from torch import Tensor

from codebound.quantize.base import CodeStats
from codebound.quantize.sketch import Sketch


def world_size() -> int:
    """Number of ranks; 1 where there is no process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def joined(stats: CodeStats) -> CodeStats:
    """The statistic of the batch of all ranks, the same on each."""
    if world_size() == 1:
        return stats
    *counted, sketch, version = stats
    summed = [tensor.clone() for tensor in counted]
    for tensor in summed:
        dist.all_reduce(tensor)
    first, *rest = map(Sketch, _gather(sketch.vectors), _gather(sketch.keys))
    return CodeStats(*summed, sketch=functools.reduce(Sketch.merge, rest, first), version=version)


def joined_rows(z: Tensor) -> Tensor:
    """The rows of all ranks, in rank order; ranks may hold different numbers of rows."""
    if world_size() == 1:
        return z
    sizes = [int(s) for s in _gather(torch.tensor([z.shape[0]], device=z.device))]
    padded = torch.nn.functional.pad(z, (0, 0, 0, max(sizes) - z.shape[0]))
    return torch.cat([part[:size] for part, size in zip(_gather(padded), sizes, strict=True)])


def from_first_rank(tensor: Tensor) -> Tensor:
    """The first rank's tensor, on every rank."""
    if world_size() > 1:
        tensor = tensor.contiguous()
        dist.broadcast(tensor, src=0)
    return tensor


def _gather(tensor: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return parts
