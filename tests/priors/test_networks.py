"""The integer network: exact in every arithmetic, near the float one, faithful through a file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from codebound.errors import InputError
from codebound.priors.field import Field
from codebound.priors.fitting import FitSettings, cross_entropy, fit_prior
from codebound.priors.grid_prior import GridPrior, load_prior
from codebound.priors.network import HIGHEST, SHIFT, Inputs, Layer

QUICK = FitSettings(steps=250, batch_size=256, width=8, hidden=24)


def markov(seed: int, height: int = 40, width: int = 40, levels: int = 1) -> np.ndarray:
    """Each index is W + N mod 4, but for one in ten; a further level repeats the one below, shifted by 1."""
    rng = np.random.default_rng(seed)
    found = np.zeros((height, width, levels), dtype=np.int64)
    for i in range(height):
        for j in range(width):
            west, north = (found[i, j - 1, 0] if j else 0), (found[i - 1, j, 0] if i else 0)
            found[i, j, 0] = (west + north + 1) % 4 if rng.random() < 0.9 else rng.integers(4)
    for level in range(1, levels):
        found[..., level] = (found[..., level - 1] + 1) % 4
    return found


@pytest.fixture(scope="module")
def prior() -> GridPrior:
    return fit_prior([markov(seed, levels=2) for seed in range(3)], (4, 4), QUICK)


def test_it_learns_a_known_source(prior: GridPrior) -> None:
    p = np.array([0.925, 0.025, 0.025, 0.025])
    entropy = -(p * np.log2(p)).sum()
    first, second = cross_entropy(prior, [markov(9, levels=2)])
    assert entropy - 0.1 < first < entropy + 0.15
    assert second < 0.02


def test_rounding_costs_little(prior: GridPrior) -> None:
    """The integer network against the same one in float, at the same embedding."""
    network = prior.networks[0][0]
    grid = markov(5)
    field = Field(np.concatenate([grid, grid], axis=-1), (4, 4))
    seen = field.seen(0, field.rows())
    given = network.frequencies(seen, np.zeros(len(seen), dtype=np.int64)) / 65_536
    x = network.embedding[Inputs((4, 4), 0, 0).rows_of(seen, seen[:, 0])].reshape(len(seen), -1).astype(float)
    for layer in network.layers[:2]:
        x = np.clip((x @ layer.weight.T + layer.bias) * layer.factor / 2**SHIFT, 0, HIGHEST)
    last = network.layers[2]
    logits = (x @ last.weight.T + last.bias) * last.factor / 2**SHIFT / 256
    p = np.exp2(logits - logits.max(-1, keepdims=True))
    assert np.abs(p / p.sum(-1, keepdims=True) - given).max() < 0.01


def test_products_agree_with_whole_numbers_of_any_size() -> None:
    """At the widest and with the largest values allowed, against Python's integers."""
    rng = np.random.default_rng(0)
    weight = np.where(rng.random((3, 4096)) < 0.5, -128, 127).astype(np.int8)
    weight[0] = -128
    most = np.iinfo(np.int32).max
    layer = Layer(weight, np.full(3, -most, dtype=np.int32), np.full(3, 2**30 - 1, dtype=np.int32))
    x = np.full((2, 4096), HIGHEST)
    want = [(sum(int(w) * HIGHEST for w in row) - most) * (2**30 - 1) >> SHIFT for row in weight]
    assert layer(x.astype(np.float64)).tolist() == [want, want]


def test_the_same_seed_gives_the_same_prior(prior: GridPrior) -> None:
    torch.manual_seed(123)
    again = fit_prior([markov(seed, levels=2) for seed in range(3)], (4, 4), QUICK)
    assert again.digest() == prior.digest()


def test_fitting_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    fit_prior([markov(0, 8, 8)], (4,), FitSettings(steps=1, width=2, hidden=2))
    assert torch.equal(torch.get_rng_state(), before)


def test_large_codebooks_have_a_network_per_digit() -> None:
    grids = [np.random.default_rng(0).integers(0, 3000, (12, 12, 1))]
    prior = fit_prior(grids, (3000,), FitSettings(steps=3, width=4, hidden=4))
    assert [network.layers[2].weight.shape[0] for network in prior.networks[0]] == [47, 64]


def test_a_prior_survives_a_folder(prior: GridPrior, tmp_path: Path) -> None:
    prior.save(tmp_path / "new")
    found = load_prior(tmp_path / "new")
    assert found.digest() == prior.digest()
    assert found.codebook_sizes == prior.codebook_sizes


def test_a_damaged_prior_is_refused(prior: GridPrior, tmp_path: Path) -> None:
    prior.save(tmp_path)
    path = tmp_path / "prior.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="SHA-256"):
        load_prior(tmp_path)
    path.write_bytes(data[:40])
    with pytest.raises(InputError, match="can't be read"):
        load_prior(tmp_path)
    (tmp_path / "prior.json").write_text("[]")
    with pytest.raises(InputError, match="format 1"):
        load_prior(tmp_path)
    with pytest.raises(InputError, match="can't be read"):
        load_prior(tmp_path / "nowhere")


@pytest.mark.untyped  # the hook would refuse them first
def test_arrays_that_do_not_fit_are_refused(prior: GridPrior, tmp_path: Path) -> None:
    prior.save(tmp_path)
    path = tmp_path / "prior.safetensors"
    arrays = load_file(path)
    for name, bad in (
        ("0.0.embedding", arrays["0.0.embedding"][:-1]),
        ("0.0.1.weight", arrays["0.0.1.weight"].astype(np.int32)),
        ("0.0.2.bias", arrays["0.0.2.bias"][:-1]),
        ("1.0.0.factor", np.full_like(arrays["1.0.0.factor"], 2**30)),
    ):
        save_file(arrays | {name: np.ascontiguousarray(bad)}, path)
        with pytest.raises(InputError):
            load_prior(tmp_path)
    save_file({name: array for name, array in arrays.items() if name != "1.0.embedding"}, path)
    with pytest.raises(InputError, match=r"no array '1\.0\.embedding'"):
        load_prior(tmp_path)


@pytest.mark.parametrize("sizes", [None, [], [1], [65_537], ["4"], [True, 4]])
def test_a_description_with_other_sizes_is_refused(prior: GridPrior, tmp_path: Path, sizes: object) -> None:
    prior.save(tmp_path)
    text = json.loads((tmp_path / "prior.json").read_text())
    (tmp_path / "prior.json").write_text(json.dumps(text | {"codebook_sizes": sizes}))
    with pytest.raises(InputError, match="codebook_sizes"):
        load_prior(tmp_path)


@pytest.mark.parametrize(
    ("grids", "sizes"),
    [
        ([], (4,)),
        ([np.full((2, 2, 1), 4)], (4,)),
        ([np.zeros((2, 2, 2), dtype=int)], (4,)),
        ([np.full((2, 2, 1), -1)], (4,)),
    ],
)
def test_grids_that_do_not_fit_are_refused(grids: list[np.ndarray], sizes: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="grid"):
        fit_prior(grids, sizes, QUICK)


def test_settings_out_of_range_are_refused() -> None:
    for bad in ({"steps": 0}, {"hidden": 5000}, {"learning_rate": 0.0}, {"width": 0}, {"weight_decay": -1.0}):
        with pytest.raises(InputError):
            FitSettings(**bad)
    with pytest.raises(InputError, match="width"):
        fit_prior([markov(0, 5, 5)], (4,), FitSettings(width=1000, steps=1))
