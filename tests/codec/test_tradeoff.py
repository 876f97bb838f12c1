"""An encoder that weighs errors against bits: what it chooses, what it costs, and that any choice is a right file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from samples import random_prior

from codebound import FSQ, LFQ, Residual, VectorQuantizer, codec
from codebound.codec import CodecError, Model, tiles
from codebound.codec.streams import level_bits
from codebound.codec.token_pictures import choose_indices
from codebound.codec.tradeoff import TRADE, Tradeoff, choose, codebooks, load_tradeoff
from codebound.coding.container import Mode
from codebound.data.images import photographs
from codebound.errors import InputError
from codebound.priors.field import Field
from codebound.priors.fitting import FitSettings, fit_prior
from codebound.quantize.assign import Cosine, EntropyConstrained, Stochastic
from codebound.runs.priors import SYMMETRIES, measure, quality_of
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


def test_far_from_the_origin_the_nearest_are_still_found(quantizer: Residual, prior) -> None:
    books = codebooks(quantizer)
    far = [books[0] + np.float32(1000.0), books[1]]
    z = latents(100) + np.float32(1000.0)
    chosen = choose(z, far, prior, [0.0])[..., 0]
    exact = np.square(z[..., None, :].astype(np.float64) - far[0]).sum(-1)
    least = np.take_along_axis(exact, chosen[..., None], -1)[..., 0]
    assert (least <= exact.min(-1) + 1e-3).all()


def test_a_choice_is_the_least_error_and_bits_at_every_position(quantizer: Residual, prior) -> None:
    books, z, weights = codebooks(quantizer), latents(101, 6, 5), [0.2, 0.5]
    grid = choose(z, books, prior, weights)
    field, left, limited = Field(grid, SIZES), z.copy(), 0
    for level, (book, weight) in enumerate(zip(books, weights, strict=True)):
        for at in field.diagonals():
            rows = prior.networks[level][0].frequencies(
                field.seen(level, at), np.zeros(len(at), dtype=np.int64)
            )
            for position, row in zip(at, rows, strict=True):
                y, x = (int(side) - 2 for side in divmod(int(position), field.stride))
                error = np.square(left[y, x] - book).sum(-1)
                costs = error + weight * (16 - np.log2(row))
                if level:  # no choice is worse than to write nothing, unless the nearest is
                    worse = error > max(np.square(left[y, x]).sum(), error.min()) + 1e-5
                    limited += worse[costs.argmin()]
                    costs[worse] = np.inf
                assert costs[grid[y, x, level]] <= costs.min() + 1e-4
        left = left - book[grid[..., level]]
    assert limited  # the limit was met


def test_every_symmetry_of_a_photograph_meets_every_quality() -> None:
    for qualities in range(1, 9):
        numbers = range(SYMMETRIES * qualities)
        met = {(number % SYMMETRIES, quality_of(number, qualities)) for number in numbers}
        assert len(met) == SYMMETRIES * qualities
        assert {quality for _, quality in met} == set(range(1, qualities + 1))


def test_what_is_the_nearest_outside_of_training_has_a_tradeoff() -> None:
    stochastic = VectorQuantizer(4, 16, assign=Stochastic())
    assert [book.shape for book in codebooks(stochastic) or []] == [(16, 4)]


@pytest.mark.slow
def test_more_weight_means_fewer_bits_and_more_error(quantizer: Residual, prior) -> None:
    books, found = codebooks(quantizer), []
    for trade in (0.0, 0.5, 2.0):
        bits = error = 0.0
        for seed in (100, 101):
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
    assert tradeoff.weights(2) == pytest.approx([8 * np.log(2) / 5, 4 * np.log(2) / 5])
    assert tradeoff.weights(1) == tradeoff.weights(2)[:1]  # the first level's own fall is not known
    assert tradeoff.weights(3)[2] == pytest.approx(np.log(4) / 4)
    assert Tradeoff((3.0,), (6.0,)).weights(1) == [0.5]
    assert Tradeoff((1.0, 2.0), (1.0, 1.0)).weights(2) == [0.0, 0.0]  # a level that makes it worse
    for levels in (0, 4):
        with pytest.raises(InputError, match="1 … 3"):
            tradeoff.weights(levels)


def test_what_a_level_brings_and_costs_is_measured(quantizer: Residual, prior) -> None:
    tokenizer = ImageTokenizer(quantizer, width=8, depth=0).eval()
    found = measure([latents(100), latents(101)], tokenizer, prior)
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
        VectorQuantizer(4, 16, assign=EntropyConstrained(0.1)),
        Residual([VectorQuantizer(4, 16, seed=i) for i in range(2)], beam_width=2),
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
    photo = photographs("held_out")[0].pixels[:80, :96]
    sizes = []
    for trade in (0.0, 0.5, 1.5):
        data = codec.compress(photo, model=model, quality=2, trade=trade)
        assert codec.verify(data) == 10 * 12 * 2
        sizes.append(len(data))
    assert sizes[0] > sizes[1] > sizes[2]
    assert codec.compress(photo, model=model, quality=2) == codec.compress(
        photo, model=model, quality=2, trade=TRADE
    )
    nearest = tiles.encode(model.tokenizer, photo)[..., :2]
    assert np.array_equal(choose_indices(photo, model, 2, 0.0), nearest)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(CodecError, match="trade"):
            codec.compress(photo, model=model, trade=wrong)


@pytest.mark.parametrize("quality", [2, 4])
def test_what_is_chosen_is_worth_its_bits(quality: int) -> None:
    """Error and bits together are less than those of the nearest codewords, at the weight of a file's end."""
    model = codec.default_model()
    assert model.tradeoff is not None
    weight = model.tradeoff.weights(quality)[-1]
    photo = photographs("held_out")[1].pixels[:96, :120]
    costs = []
    for trade in (0.0, TRADE):
        data = codec.compress(photo, model=model, quality=quality, trade=trade)
        indices = torch.from_numpy(choose_indices(photo, model, quality, trade))
        left = tiles.latents(model.tokenizer, photo) - model.tokenizer.quantizer.decode(indices).numpy()
        costs.append(np.square(left).sum() + weight * 8 * len(data))
    assert costs[1] < costs[0]


@pytest.mark.parametrize("shade", [0, 128, 200, 255])
def test_a_level_more_is_never_worse_on_a_flat_picture(shade: int) -> None:
    flat = np.full((32, 32, 3), shade, dtype=np.uint8)
    model = codec.default_model()
    z = tiles.latents(model.tokenizer, flat).astype(np.float64)

    def error(quality: int, trade: float) -> float:
        indices = torch.from_numpy(choose_indices(flat, model, quality, trade))
        return float(np.square(z - model.tokenizer.quantizer.decode(indices).double().numpy()).sum())

    for quality in model.qualities[1:]:
        if error(quality, 0.0) <= error(
            quality - 1, 0.0
        ):  # no zero codeword: the nearest can make it worse, too
            assert error(quality, TRADE) <= 1.05 * error(quality - 1, TRADE)


def test_a_model_without_a_tradeoff_takes_the_nearest_and_says_so_where_it_is_asked() -> None:
    whole = codec.default_model()
    plain = Model(whole.tokenizer, whole.prior)
    photo = photographs("held_out")[0].pixels[:64, :64]
    assert codec.compress(photo, model=plain) == codec.compress(photo, model=plain, trade=0.0)
    with pytest.raises(CodecError, match="no tradeoff"):
        codec.compress(photo, model=plain, trade=0.5)


def test_a_grey_model_weighs_the_luminance(quantizer: Residual, prior) -> None:
    tokenizer = ImageTokenizer(quantizer, channels=1, width=8, depth=0).eval()
    model = Model(tokenizer, prior, Tradeoff((1.0, 0.5), (4.0, 4.0)))
    photo = photographs("held_out")[0].pixels[:40, :40]
    assert codec.decompress(codec.compress(photo, model=model), model=model).shape == (40, 40)


@pytest.mark.parametrize("trade", [0.0, None])
def test_latents_that_are_not_finite_are_refused(quantizer: Residual, prior, trade: float | None) -> None:
    tokenizer = ImageTokenizer(quantizer, width=8, depth=0).eval()
    with torch.no_grad():
        next(tokenizer.encoder.parameters()).fill_(float("nan"))
    model = Model(tokenizer, prior, Tradeoff((1.0, 0.5), (4.0, 4.0)))
    with pytest.raises(CodecError, match="not finite"):
        codec.compress(np.zeros((16, 16, 3), dtype=np.uint8), model=model, trade=trade)
