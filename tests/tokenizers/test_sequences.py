"""Grids of indices as sequences of tokens of one vocabulary."""

from pathlib import Path

import pytest
import torch

from codebound import FSQ, Residual, VectorQuantizer, codec
from codebound.errors import InputError
from codebound.tokenizers import ImageTokenizer, sequences
from codebound.tokenizers.pretrained import DEFAULT

SIZES = (4, 7, 3)


def grids(levels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randint(0, size, (2, 5, 6), generator=generator) for size in SIZES[:levels]]
    return torch.stack(parts, -1)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_no_two_levels_share_a_token_and_back_again(levels: int) -> None:
    indices = grids(levels)
    tokens = sequences.flatten(indices, SIZES)
    assert tokens.shape == (2, 5 * 6 * levels)
    assert torch.equal(sequences.unflatten(tokens, (5, 6), SIZES), indices)
    per_level = [set(tokens[:, level::levels].flatten().tolist()) for level in range(levels)]
    assert per_level == [set(range(4)), set(range(4, 11)), set(range(11, 14))][:levels]
    # A position's levels stand together, and positions row by row.
    place = (2 * 6 + 3) * levels
    assert tokens[1, place : place + levels].tolist() == [
        int(indices[1, 2, 3, level]) + (0, 4, 11)[level] for level in range(levels)
    ]


@pytest.mark.parametrize("wrong", [-1, 4])
def test_indices_out_of_range_are_refused(wrong: int) -> None:
    indices = grids()
    indices[1, 2, 3, 0] = wrong
    with pytest.raises(InputError, match=rf"\[4, 7, 3\].* got {wrong} at \[1, 2, 3, 0\]"):
        sequences.flatten(indices, SIZES)


@pytest.mark.parametrize(("token", "shown"), [(14, 14), (4, 4), (-1, -1)])
def test_tokens_of_another_level_are_refused(token: int, shown: int) -> None:
    tokens = sequences.flatten(grids(), SIZES)
    tokens[0, 3] = token
    with pytest.raises(InputError, match=rf"got {shown} at \[0, 0, 1, 0\]"):
        sequences.unflatten(tokens, (5, 6), SIZES)


def test_lengths_that_do_not_fit_are_refused() -> None:
    tokens = sequences.flatten(grids(), SIZES)
    for grid in ((5, 7), (0, 6), (1, 6)):
        with pytest.raises(InputError, match="tokens must be integers of shape"):
            sequences.unflatten(tokens, grid, SIZES)
    with pytest.raises(InputError, match="1 to 2"):
        sequences.flatten(grids(), SIZES[:2])


def test_a_tokenizer_s_vocabulary() -> None:
    residual = Residual([VectorQuantizer(4, size, seed=size) for size in SIZES])
    tokenizer = ImageTokenizer(residual, width=8, depth=1).eval()
    assert tokenizer.vocab_size == 14
    assert ImageTokenizer(FSQ((8, 5)), width=8, depth=1).vocab_size == 40
    indices = tokenizer.encode(torch.zeros(1, 3, 8, 12, dtype=torch.uint8))
    assert torch.equal(tokenizer.unflatten(tokenizer.flatten(indices), (2, 3)), indices)


def test_the_default_tokenizer_is_the_one_in_the_package(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "default").mkdir()
    monkeypatch.chdir(tmp_path)  # a folder of that name does not stand in its way
    tokenizer = ImageTokenizer.from_pretrained("default")
    model = codec.default_model()
    assert codec.load_model("default").digest() == model.digest()
    assert tokenizer.config() == model.tokenizer.config()
    state = model.tokenizer.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in tokenizer.state_dict().items())
    assert (DEFAULT / "README.md").is_file()
    with pytest.raises(InputError):
        ImageTokenizer.from_pretrained("./default")
