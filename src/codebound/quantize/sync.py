"""The only user of torch.distributed in this layer.

Asked at call time: the process group may come after the module.
"""

from __future__ import annotations

import functools

import torch
import torch.distributed as dist
from torch import Tensor

from codebound.exact import wide
from codebound.quantize.base import CodeStats
from codebound.quantize.ranks import Ranks
from codebound.quantize.sketch import Sketch


def world_size(ranks: Ranks) -> int:
    """Number of ranks whose batches are one; 1 where there is no process group, or each rank is to be alone."""
    distributed = ranks.sync and dist.is_available() and dist.is_initialized()
    return dist.get_world_size(ranks.group) if distributed else 1


def joined(stats: CodeStats, ranks: Ranks) -> CodeStats:
    """The statistic of the batch of all ranks, the same on each."""
    if world_size(ranks) == 1:
        return stats
    *counted, sketch, version = stats
    summed = [tensor.clone() for tensor in counted]
    for tensor in summed:
        dist.all_reduce(tensor, group=ranks.group)
    first, *rest = map(Sketch, _gather(sketch.vectors, ranks), _gather(sketch.keys, ranks))
    return CodeStats(*summed, sketch=functools.reduce(Sketch.merge, rest, first), version=version)


def joined_rows(z: Tensor, ranks: Ranks) -> Tensor:
    """The rows of all ranks, in rank order; ranks may hold different numbers of rows."""
    if world_size(ranks) == 1:
        return z
    sizes = [int(s) for s in _gather(torch.tensor([z.shape[0]], device=z.device), ranks)]
    padded = torch.nn.functional.pad(z, (0, 0, 0, max(sizes) - z.shape[0]))
    return torch.cat([part[:size] for part, size in zip(_gather(padded, ranks), sizes, strict=True)])


def from_first_rank(tensor: Tensor, ranks: Ranks) -> Tensor:
    """The first rank's tensor, on every rank."""
    if world_size(ranks) > 1:
        tensor = tensor.contiguous()
        dist.broadcast(tensor, group=ranks.group, group_src=0)
    return tensor


def same_everywhere(tensor: Tensor, ranks: Ranks) -> bool:
    """Whether all ranks hold about the same tensor, by its square length: every rank gets the same answer."""
    if world_size(ranks) == 1:
        return True
    lengths = torch.stack(_gather(tensor.detach().to(wide(tensor.device)).square().sum().reshape(1), ranks))
    return bool(lengths.max() - lengths.min() <= 1e-9 * lengths.max())


def _gather(tensor: Tensor, ranks: Ranks) -> list[Tensor]:
    parts = [torch.empty_like(tensor) for _ in range(world_size(ranks))]
    dist.all_gather(parts, tensor.contiguous(), group=ranks.group)
    return parts
