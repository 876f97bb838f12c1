"""What a sample costs: with and without the cache of keys and values, with guidance, masked; ratios in one process.

    codebound train prior runs/fashion --name fashion-prior
    OMP_NUM_THREADS=1 python benchmarks/generation.py runs/fashion-prior

Processor time on one thread, the least of three rounds that take turns; `docs/generation.md` has what was measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from codebound.generators.causal import CausalPrior
from codebound.runs.prior import load_run, picture_size
from codebound.tokenizers.opening import decoded

COUNT, ROUNDS = 100, 3


def main() -> None:
    """Print milliseconds a picture of each way to sample."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    torch.set_num_threads(1)
    prior, tokenizer = load_run(run)
    labels = [i % len(prior.classes) for i in range(COUNT)] if prior.classes else None

    # Ways to sample the same number of pictures.
    ways: dict[str, Callable[[], object]] = {"sample": lambda: prior.sample(COUNT, labels=labels)}
    if prior.classes and prior.class_dropout:
        ways["sample, guidance 1.5"] = lambda: prior.sample(COUNT, labels=labels, guidance=1.5)
    if isinstance(prior, CausalPrior):
        ways["sample without cache"] = lambda: prior.sample(COUNT, labels=labels, cached=False)
        equal = torch.equal(*(_flat(prior.sample(COUNT, labels=labels, cached=c)) for c in (True, False)))
        print(f"tokens with and without cache are {'equal' if equal else 'NOT equal'}")
    indices = prior.sample(COUNT, labels=labels)
    ways["decode"] = lambda: decoded(tokenizer, indices, picture_size(run))

    # In turns, so that what else the machine does weighs on all alike.
    least = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begun = time.process_time()
            way()
            least[name] = min(least[name], time.process_time() - begun)
    for name, seconds in least.items():
        print(
            f"{name:24} {1000 * seconds / COUNT:7.2f} ms a picture, {seconds / least['sample']:6.2f} of a sample"
        )


def _flat(indices: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    return indices if isinstance(indices, torch.Tensor) else torch.cat([part.flatten() for part in indices])


if __name__ == "__main__":
    main()
