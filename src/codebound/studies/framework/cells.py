"""A cell: the unit of work and of resumption. It depends on nothing but the settings and its own levels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch

from codebound.reporting.claims import Level


def stream(*parts: object) -> torch.Generator:
    """A random stream of its own for what the parts name: a source, a seed, a purpose.

    Arms of a seed that name the same parts draw the same numbers.
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass(frozen=True)
class Cell:
    """One cell: its file's name, and its level of each factor.

    A cell that is `alone` (it measures time) runs after all others with nothing beside it. A run of which only `aside`
    cells are finished has nothing to report yet.
    """

    name: str
    factors: Mapping[str, Level]
    alone: bool = False
    aside: bool = False

    def __getitem__(self, factor: str) -> Any:
        return self.factors[factor]


@dataclass(frozen=True)
class CellResult:
    """What a cell measured, and files that it leaves in the run's folder: relative path → what writes it."""

    content: dict[str, Any]
    files: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)


def grid(**factors: Iterable[Level]) -> list[Cell]:
    """A cell for each combination of levels, the last factor changing fastest.

    Put `seed` first: an interrupted run then has whole seeds.
    """
    levels = (dict(zip(factors, combination, strict=True)) for combination in product(*factors.values()))
    return [Cell("-".join(str(level) for level in each.values()), each) for each in levels]
