"""Small priors whose every sequence can be listed."""

import itertools
from typing import Any

import torch
from torch import Tensor

from codebound.generators import Grid, Layout
from codebound.generators.prior import TokenPrior

LAYOUT = Layout([Grid(1, 1, (2,)), Grid(1, 2, (2, 3))])  # 2 · (2 · 3)² = 72 sequences


def small(kind: type[TokenPrior], layout: Layout = LAYOUT, **options: Any) -> Any:
    """A prior with weights as after some training: none of its parts says nothing."""
    torch.manual_seed(0)
    options = {"classes": ("a", "b"), "width": 16, "depth": 2, "heads": 2, **options}
    prior = kind(layout, **options).eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return prior


def all_indices(layout: Layout = LAYOUT) -> Tensor | tuple[Tensor, ...]:
    """Every grid of indices that there is."""
    sizes = [layout.slots[slot] for slot in layout.slot_of.tolist()]
    ranges = [range(slot.first, slot.first + slot.size) for slot in sizes]
    return layout.unflatten(torch.tensor(list(itertools.product(*ranges))))
