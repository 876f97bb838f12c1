"""The hierarchical tokenizer: grids of several resolutions, and back."""

from pathlib import Path

import pytest
import torch

from codebound import FSQ, VectorQuantizer
from codebound.errors import InputError
from codebound.evaluate.hierarchies import hierarchy_figures
from codebound.generators import AutoregressivePrior, Grid, Layout
from codebound.tokenizers import HierarchicalTokenizer


def begun(levels: int = 2, **options) -> tuple[HierarchicalTokenizer, torch.Tensor]:
    """A tokenizer whose codebooks are begun from some pictures."""
    torch.manual_seed(0)
    quantizers = [VectorQuantizer(4, 16, seed=level) for level in range(levels)]
    tokenizer = HierarchicalTokenizer(quantizers, channels=1, width=8, depth=1, stride=2, **options)
    images = torch.rand(12, 1, 27, 18)
    tokenizer.init_(images)
    return tokenizer, images


@pytest.mark.parametrize("levels", [2, 3])
def test_encode_then_decode_is_forward_in_eval(levels: int) -> None:
    tokenizer, images = begun(levels)
    tokenizer.eval()
    indices = tokenizer.encode(images)
    assert [(*part.shape[1:3], (16,)) for part in indices] == tokenizer.grids((27, 18))
    result = tokenizer(tokenizer.to_network(images))
    assert all(
        torch.equal(part, found.indices) for part, found in zip(indices, result.quantized, strict=True)
    )
    again = tokenizer.decode(indices, size=(27, 18))
    assert torch.allclose(again, ((result.x_hat + 1) / 2).clamp(0, 1)[..., :27, :18], atol=1e-6)
    expected = result.reconstruction + sum(found.loss for found in result.quantized)
    assert torch.allclose(result.loss, expected)


def test_the_finest_codes_of_the_first_pictures_are_hidden_while_it_trains() -> None:
    tokenizer, images = begun(dropped=0.25)
    x = tokenizer.to_network(images)
    trained, judged = tokenizer.train()(x).x_hat, tokenizer.eval()(x).x_hat
    same = torch.isclose(trained, judged, atol=1e-5).flatten(1).all(1)
    assert same.tolist() == [False] * 3 + [True] * 9
    # The coarse grid then still has a gradient from those pictures, the fine one has none.
    tokenizer.train()
    tokenizer(x[:1].repeat(4, 1, 1, 1)).reconstruction.backward()
    assert float(tokenizer.across[0].weight.grad.abs().sum()) > 0


def test_coarse_codes_condition_fine_ones() -> None:
    tokenizer, images = begun()
    tokenizer.eval()
    coarse, fine = tokenizer.encode(images)
    picture = tokenizer.decode((coarse, fine))
    assert not torch.equal(tokenizer.decode((coarse.roll(1, 0), fine)), picture)
    assert not torch.equal(tokenizer.decode((coarse, fine.roll(1, 0))), picture)


def test_a_folder_gives_the_same_tokenizer(tmp_path: Path) -> None:
    tokenizer, images = begun(3)
    tokenizer.save_pretrained(tmp_path / "model")
    again = HierarchicalTokenizer.from_pretrained(tmp_path / "model")
    for one, other in zip(again.encode(images), tokenizer.eval().encode(images), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(InputError, match="config: widht"):
        HierarchicalTokenizer.from_config({**tokenizer.config(), "widht": 3})


def test_figures_of_levels() -> None:
    tokenizer, images = begun()
    tokenizer.eval()
    pictures = (images * 255).to(torch.uint8)
    found = hierarchy_figures(tokenizer, pictures)
    again = (tokenizer.decode(tokenizer.encode(pictures), size=(27, 18)) * 255).round().double()
    error = (again - pictures).square().mean()
    assert found["psnr"] == pytest.approx(float(10 * (255**2 / error).log10()), abs=1e-4)
    coarse, fine = tokenizer.encode(pictures)
    other = (tokenizer.decode((coarse.roll(1, 0), fine), size=(27, 18)) * 255).round().double()
    worth = 10 * ((other - pictures).square().mean() / error).log10()
    assert found["levels"][0]["worth_db"] == pytest.approx(float(worth), abs=1e-4)
    assert found["levels"][1]["alone_db"] == found["psnr"]
    assert found["bpp_nominal"] == pytest.approx(4 * (7 * 5 + 14 * 10) / (27 * 18))


def test_a_prior_over_all_its_levels() -> None:
    tokenizer, images = begun()
    tokenizer.eval()
    prior = AutoregressivePrior(
        Layout([Grid(*grid) for grid in tokenizer.grids((27, 18))]), width=16, heads=2
    ).eval()
    indices = prior.sample(3)
    assert tokenizer.decode(indices, size=(27, 18)).shape == (3, 1, 27, 18)
    assert prior.log_prob(tokenizer.encode(images)).shape == (12,)


def test_what_is_no_hierarchy_is_refused() -> None:
    one = VectorQuantizer(4, 16)
    for quantizers, message in (
        ([one], "must be 2 or 3"),
        ([one, FSQ([5, 5])], "one dim"),
        ([one] * 4, "must be 2 or 3"),
    ):
        with pytest.raises(InputError, match=message):
            HierarchicalTokenizer(quantizers)
    with pytest.raises(InputError, match="dropped in"):
        begun(dropped=1.0)
    tokenizer, images = begun()
    coarse, fine = tokenizer.encode(images)
    with pytest.raises(InputError, match="each twice the one before"):
        tokenizer.decode((fine, coarse))
    with pytest.raises(InputError, match="2 grids"):
        tokenizer.decode((coarse,))
    with pytest.raises(InputError, match="does not have a grid of"):
        tokenizer.decode((coarse, fine), size=(40, 18))
    with pytest.raises(InputError, match=r"\[b, 1, h, w\]"):
        tokenizer.encode(torch.rand(2, 3, 8, 8))
