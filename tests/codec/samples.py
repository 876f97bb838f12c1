"""Grids and priors for tests of files: deterministic, small, of every codebook size."""

from functools import lru_cache

import numpy as np

from codebound.priors import digits
from codebound.priors.grid_prior import GridPrior
from codebound.priors.network import Inputs, Layer, Network

SIZES = (2, 3, 7, 64, 255, 256, 257, 511, 512, 513, 1000, 1024, 4097, 16_384, 65_535, 65_536)


@lru_cache(maxsize=32)
def random_prior(sizes: tuple[int, ...], seed: int = 0, width: int = 4, hidden: int = 8) -> GridPrior:
    """Networks of random integers: they predict nothing, sharply."""
    rng = np.random.default_rng(seed)

    def layer(outputs: int, inputs: int, factor: int) -> Layer:
        return Layer(
            rng.integers(-127, 128, (outputs, inputs)).astype(np.int8),
            rng.integers(-500, 501, outputs).astype(np.int32),
            np.full(outputs, factor, dtype=np.int32),
        )

    def network(level: int, place: int) -> Network:
        inputs = Inputs(sizes, level, place)
        embedding = rng.integers(-127, 128, (inputs.rows, width)).astype(np.int8)
        first = layer(hidden, inputs.count * width, 1 << 18)
        layers = (first, layer(hidden, hidden, 1 << 16), layer(inputs.alphabet, hidden, 1 << 16))
        return Network(sizes, level, place, embedding, layers)

    places = [range(len(digits.alphabets(size))) for size in sizes]
    return GridPrior(sizes, tuple(tuple(network(q, p) for p in places[q]) for q in range(len(sizes))))


def grid(rng: np.random.Generator, height: int, width: int, sizes: tuple[int, ...]) -> np.ndarray:
    """Indices [h, w, levels] with some structure: repeats of the row above, few values, or none."""
    levels = []
    for size in sizes:
        found = rng.integers(0, rng.choice([size, min(size, 3)]), (height, width))
        for row in range(1, height):
            again = rng.random(width) < 0.5
            found[row, again] = found[row - 1, again]
        levels.append(found)
    return np.stack(levels, axis=-1)


def random_sizes(rng: np.random.Generator) -> tuple[int, ...]:
    """Codebook sizes of one to three levels, 2 … 65,536, small and large ones alike."""
    count = int(rng.choice([1, 1, 1, 2, 3]))
    drawn = np.exp2(rng.uniform(1, 16, count)).astype(int)
    return tuple(int(rng.choice(SIZES)) if rng.random() < 0.3 else int(size) for size in drawn)
