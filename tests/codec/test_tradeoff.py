"""An encoder that weighs errors against bits: what it chooses, what it costs, and that any choice is a right file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from samples import random_prior

from codebound import FSQ, LFQ, Residual, VectorQuantizer, codec
from codebound.codec import CodecError, Model, tiles
from codebound.codec.pictures import choose_indices
from codebound.codec.streams import level_bits
from codebound.codec.tradeoff import Tradeoff, choose, codebooks, load_tradeoff, measure
from codebound.coding.container import Mode
from codebound.data.images import photographs
from codebound.errors import InputError
from codebound.priors.field import Field
from codebound.priors.fitting import FitSettings, fit_prior
from codebound.quantize.assign import Cosine
from codebound.tokenizers import ImageTokenizer

SIZES = (32, 16)


def latents(seed: int, height: int = 24, width: int = 20, dim: int = 4) -> np.ndarray:
    """A smooth field with noise: neighbours tell something."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, dim, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].permute(1, 2, 0)
    return (smooth + 0.3 * torch.randn(height, width, dim, generator=generator)).numpy()


@pytest.fixture(scope="module")
def quantizer() -> Residual:
    found = Residual([VectorQuantizer(4, size, seed=i) for i, size in enumerate(SIZES)]).eval()
    found.init_(torch.from_numpy(np.concatenate([latents(seed).reshape(-1, 4) for seed in range(20)])))
    return found


@pytest.fixture(scope="module")
def prior(quantizer: Residual):
    grids = [quantizer.encode(torch.from_numpy(latents(seed))).numpy() for seed in range(20)]
    return fit_prior(grids, SIZES, FitSettings(steps=150, width=8, hidden=32))


def cost(grid: np.ndarray, prior, level: int) -> float:
    return level_bits(Field(grid, SIZES), level, Mode.NETWORK, prior)


def test_without_weights_the_nearest_codewords_are_chosen(quantizer: Residual, prior) -> None:
    books = codebooks(quantizer)
    z = latents(100)
    nearest = quantizer.encode(torch.from_numpy(z)).numpy()
    assert np.array_equal(choose(z, books, prior, [0.0, 0.0]), nearest)
    assert np.array_equal(choose(z, books, prior, [0.0]), nearest[..., :1])


def test_a_choice_is_the_least_error_and_bits_at_every_position(quantizer: Residual, prior) -> None:
    books, z, weight = codebooks(quantizer), latents(101, 5, 4), 0.2
    grid = choose(z, books, prior, [weight])
    field = Field(grid, SIZES[:1])
    for at in field.diagonals():
        rows = prior.networks[0][0].frequencies(field.seen(0, at), np.zeros(len(at), dtype=np.int64))
        for position, row in zip(at, rows, strict=True):
            y, x = divmod(int(position), field.stride)
            error = np.square(z[y - 2, x - 2] - books[0]).sum(-1)
            costs = error + weight * (16 - np.log2(row))
            assert costs[grid[y - 2, x - 2, 0]] <= costs.min() + 1e-5


def test_more_weight_means_fewer_bits_and_more_error(quantizer: Residual, prior) -> None:
    books, found = codebooks(quantizer), []
    for trade in (0.0, 0.5, 2.0):
        bits = error = 0.0
        for seed in range(100, 104):
            z = latents(seed)
            grid = choose(z, books, prior, [trade * 0.2] * 2)
            bits += sum(cost(grid, prior, level) for level in (0, 1))
            error += np.square(z - books[0][grid[..., 0]] - books[1][grid[..., 1]]).sum()
        found.append((bits, error))
    (most, least), (middle, between), (fewest, largest) = found
    assert most > 1.05 * middle
    assert middle > 1.05 * fewest
    assert least < between < largest


def test_the_weights_are_the_slope_of_error_against_bits() -> None:
    tradeoff = Tradeoff((8.0, 4.0, 1.0), (2.0, 5.0, 4.0))
    assert tradeoff.weights(2) == pytest.approx([8 * np.log(2) / 5, 4 * np.log(2) / 5, np.log(2) / 5])
    assert tradeoff.weights(1) == tradeoff.weights(2)  # the first level's own fall is not known
    assert tradeoff.weights(3)[2] == pytest.approx(np.log(4) / 4)
    assert Tradeoff((3.0,), (6.0,)).weights(1) == [0.5]
    assert Tradeoff((1.0, 2.0), (1.0, 1.0)).weights(2) == [0.0, 0.0]  # a level that makes it worse


def test_what_a_level_brings_and_costs_is_measured(quantizer: Residual, prior) -> None:
    found = measure([latents(100), latents(101)], codebooks(quantizer), prior)
    z = np.stack([latents(100), latents(101)]).astype(np.float64)
    indices = quantizer.encode(torch.from_numpy(z).float())
    for depth in (1, 2):
        error = z - quantizer.decode(indices[..., :depth]).detach().double().numpy()
        assert found.distortions[depth - 1] == pytest.approx(np.square(error).sum(-1).mean(), rel=1e-5)
        bits = sum(cost(grid.numpy(), prior, depth - 1) for grid in indices) / (2 * 24 * 20)
        assert found.bits[depth - 1] == pytest.approx(bits, rel=0.1)  # a file's mode learns as it goes


def test_it_survives_a_folder_and_what_is_none_is_refused(tmp_path: Path) -> None:
    assert load_tradeoff(tmp_path) is None
    tradeoff = Tradeoff((2.0, 1.0), (5.0, 5.5))
    tradeoff.save(tmp_path)
    assert load_tradeoff(tmp_path) == tradeoff
    file = tmp_path / "tradeoff.json"
    for wrong in (
        "",
        "[]",
        '{"bits": [1]}',
        '{"distortions": [1], "bits": [1, 2]}',
        '{"distortions": [], "bits": []}',
        '{"distortions": [-1], "bits": [1]}',
        '{"distortions": [NaN], "bits": [1]}',
        '{"distortions": ["1"], "bits": [1]}',
        '{"distortions": 1, "bits": 1}',
    ):
        file.write_text(wrong)
        with pytest.raises(InputError):
            load_tradeoff(tmp_path)


@pytest.mark.parametrize(
    "quantizer",
    [
        FSQ((8, 5)),
        LFQ(4),
        VectorQuantizer(4, 513),
        VectorQuantizer(4, 16, assign=Cosine()),
        Residual([VectorQuantizer(4, 16), VectorQuantizer(4, 600)]),
    ],
)
def test_other_quantizers_have_no_tradeoff(quantizer: torch.nn.Module) -> None:
    assert codebooks(quantizer) is None
    tokenizer = ImageTokenizer(quantizer, width=8, depth=0).eval()
    sizes = tuple(quantizer.codebook_sizes)
    count = len(sizes)
    with pytest.raises(CodecError, match="nearest of up to 512"):
        Model(tokenizer, random_prior(sizes), Tradeoff((1.0,) * count, (1.0,) * count))


def test_a_tradeoff_of_another_model_is_refused() -> None:
    tokenizer = ImageTokenizer(VectorQuantizer(4, 16), width=8, depth=0).eval()
    one = Tradeoff((1.0,), (1.0,))
    with pytest.raises(CodecError, match="needs a prior"):
        Model(tokenizer, None, one)
    with pytest.raises(CodecError, match="1 levels; the tradeoff is for 2"):
        Model(tokenizer, random_prior((16,)), Tradeoff((1.0, 1.0), (1.0, 1.0)))


def test_files_are_smaller_and_any_choice_decodes() -> None:
    model = codec.default_model()
    assert model.tradeoff is not None
    photo = photographs("held_out")[0].pixels[:128, :160]
    sizes = []
    for trade in (0.0, 0.5, 1.5):
        data = codec.compress(photo, quality=2, trade=trade)
        assert codec.verify(data) == 16 * 20 * 2
        sizes.append(len(data))
    assert sizes[0] > sizes[1] > sizes[2]
    nearest = tiles.encode(model.tokenizer, photo)[..., :2]
    assert np.array_equal(choose_indices(photo, model, 2, 0.0), nearest)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(CodecError, match="trade"):
            codec.compress(photo, trade=wrong)
