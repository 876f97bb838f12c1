"""N(0, I₈) with K = 1024: as good as faiss k-means from any start, and no churn once it stands there."""

import math
from functools import cache

import faiss
import pytest
import torch
from torch import Tensor

from codebound import VectorQuantizer, search
from codebound.quantize import init as inits
from codebound.quantize.init import Init, KMeans, Normal
from codebound.quantize.revival import Resample
from codebound.quantize.update import Gradient

DIM, SIZE = 8, 1024
BAR_DB = 0.05
INITS: dict[str, Init | None] = {
    "uniform": inits.Uniform(),
    "normal": inits.Normal(),
    "xavier": inits.Xavier(),
    "sample": inits.Sample(),
    "k-means++": KMeans(),
    "k-means||": KMeans(seeding="k-means||"),
    "one Lloyd step": KMeans(1, "sample"),
    "isotropic": inits.RateDistortion("isotropic"),
    "water-filled": inits.RateDistortion("water_filling"),
    "finite": inits.RateDistortion("finite"),
    "synthetic": inits.Synthetic(),
    "lattice": inits.Lattice(),
    "best": inits.Best(),
    "one far point": None,
}


@cache
def draw(seed: int) -> tuple[Tensor, Tensor]:
    """256 training vectors per codeword, which is all that faiss looks at, and 100,000 held-out ones."""
    z = torch.randn(256 * SIZE + 100_000, DIM, generator=torch.Generator().manual_seed(seed))
    return z[: 256 * SIZE], z[256 * SIZE :]


@cache
def faiss_distortion(seed: int) -> float:
    """Of faiss k-means with its own settings (25 iterations), on the held-out vectors."""
    faiss.omp_set_num_threads(1)
    train, held_out = draw(seed)
    model = faiss.Kmeans(DIM, SIZE, seed=seed)
    model.train(train.numpy())
    return float(search.distortion(held_out, torch.from_numpy(model.centroids.copy())))


def begun(init: Init | None, seed: int, z: Tensor) -> VectorQuantizer:
    """A quantizer with everything at its default but the start; None is all codewords at one far point."""
    layer = VectorQuantizer(DIM, SIZE, init=init or Normal(), seed=seed)
    layer.init_(z)
    if init is None:
        layer.codebook.reset_(torch.full((SIZE, DIM), 100.0))
    return layer


def replaced(layer: VectorQuantizer, z: Tensor, batch: int, steps: int, seed: int = 0) -> list[int]:
    """Train; returns how many codewords each step replaced."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(steps):
        rows = torch.randint(len(z), (batch,), generator=generator)
        found.append(len(layer.update_(layer(z[rows])).revived[0]))
    return found


def above_faiss(init: Init | None, seed: int, steps: int) -> float:
    """How many dB more distortion than faiss's."""
    train, held_out = draw(seed)
    layer = begun(init, seed, train[: 16 * SIZE])
    replaced(layer, train, 2048, steps, seed)
    reached = float(search.distortion(held_out, layer.codebook.codewords()))
    return 10 * math.log10(reached / faiss_distortion(seed))


@pytest.mark.slow
@pytest.mark.parametrize("name", INITS)
def test_as_good_as_faiss_from_every_start(name: str) -> None:
    found = [above_faiss(INITS[name], seed, steps=1000) for seed in range(3)]
    assert max(found) < BAR_DB, found


@pytest.mark.parametrize("batch", [pytest.param(512, marks=pytest.mark.slow), 2048, 8192])
def test_no_churn(batch: int) -> None:
    train, _ = draw(0)
    layer = begun(KMeans(1, "sample"), 0, train[: 16 * SIZE])
    replaced(layer, train, batch, max(50, 102_400 // batch))  # two windows or more
    steps = 3 * math.ceil(layer.revival.window * SIZE / batch)  # three windows
    assert max(replaced(layer, train, batch, steps, seed=1)) < 0.01 * SIZE


@pytest.mark.slow
@pytest.mark.parametrize("batch", [512, 2048, 8192])
@pytest.mark.parametrize("name", INITS)
def test_no_churn_from_any_start(name: str, batch: int) -> None:
    train, _ = draw(0)
    layer = begun(INITS[name], 0, train[: 16 * SIZE])
    replaced(layer, train, batch, 200)
    steps = 5 * math.ceil(layer.revival.window * SIZE / batch)
    found = [n for n in replaced(layer, train, batch, steps, seed=1) if n]
    assert max(found, default=0) < 0.01 * SIZE, found


@pytest.mark.slow
def test_what_is_dead_does_not_depend_on_the_batch_size() -> None:
    """The same tokens in batches of 256 to 16,384: the same codewords die, at the same token."""
    window = 64.0  # times K tokens is a whole number of batches of each size
    z = torch.randn(int(window) * SIZE, DIM, generator=torch.Generator().manual_seed(0))

    def deaths(batch: int) -> dict[int, list[int]]:
        # Too wide a start, and nothing moves the codewords but revival: no optimizer steps.
        layer = VectorQuantizer(
            DIM, SIZE, update=Gradient(), init=Normal(1.3), revival=Resample(window=window)
        )
        layer.init_(z)
        with torch.no_grad():
            rows = [layer.update_(layer(part)).revived[0] for part in z.split(batch)]
        return {batch * (step + 1): sorted(r.tolist()) for step, r in enumerate(rows) if len(r)}

    found = deaths(256)
    assert list(found) == [len(z)]
    assert 20 < len(found[len(z)]) < 200
    assert all(deaths(batch) == found for batch in (512, 2048, 16_384))
