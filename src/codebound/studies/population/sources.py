"""What tokens are drawn from, and how codebooks begin."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from codebound.quantize.init import Init, Normal, Sample, Uniform, Xavier
from codebound.studies.population.settings import Scenario, SourceName
from codebound.theory.population import Source

CLUSTERS, SPREAD = 32, 0.15


def source(name: SourceName, dim: int) -> Source:
    """Fresh points; every coordinate has variance 1 (mixture: about 1)."""
    if name == "gaussian":
        return lambda n, generator: torch.randn(n, dim, generator=generator)
    if name == "laplace":
        return lambda n, generator: _laplace(torch.rand(n, dim, generator=generator))
    if name == "cube":
        return lambda n, generator: (torch.rand(n, dim, generator=generator) * 2 - 1) * math.sqrt(3)
    return _mixture(dim)


def _laplace(u: Tensor) -> Tensor:
    """Inverse distribution function; 0.5·2^−24 at the ends keeps it finite."""
    centred = u - 0.5
    tail = (1 - 2 * centred.abs()).clamp_min(2.0**-25)
    return centred.sign() * -tail.log() / math.sqrt(2)


def _mixture(dim: int) -> Source:
    centres = torch.randn(CLUSTERS, dim, generator=torch.Generator().manual_seed(12345))

    def draw(n: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(CLUSTERS, (n,), generator=generator)
        return centres[chosen] + SPREAD * torch.randn(n, dim, generator=generator)

    return draw


def starts(scenario: Scenario, runs: int, generator: torch.Generator) -> Tensor:
    """Codebooks `[runs, K, D]` before the first step; `sample` takes rows of a batch of 4K tokens."""
    begin: dict[str, Init] = {
        "uniform": Uniform(),
        "normal": Normal(scenario.std),
        "xavier": Xavier(),
        "sample": Sample(),
    }
    draw, size = source(scenario.source, scenario.dim), scenario.codebook_size
    books = [begin[scenario.init](draw(4 * size, generator), size, generator) for _ in range(runs)]
    return torch.stack(books)


def generator(scenario: Scenario, seed: int, purpose: str) -> torch.Generator:
    """A stream for each purpose; it depends on what the scenario does, not on its name or role."""
    facts = scenario.model_dump(exclude={"name", "role", "varied"})
    digest = hashlib.sha256(f"{sorted(facts.items())}/{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
