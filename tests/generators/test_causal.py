"""Priors that go token after token: a distribution, samples of it, the cache, what is refused."""

import json
import math
from pathlib import Path

import pytest
import torch
from small_priors import LAYOUT, all_indices, small

from codebound.errors import InputError
from codebound.generators import AutoregressivePrior, Grid, Layout, LlamaPrior
from codebound.generators.causal import CausalPrior
from codebound.tokenizers import DamagedModel, sequences

SQUARE = Layout([Grid(4, 6, (11,))])


@pytest.fixture(scope="module", params=[AutoregressivePrior, LlamaPrior])
def kind(request) -> type[CausalPrior]:
    return request.param


@pytest.fixture(scope="module")
def prior(kind) -> CausalPrior:
    return small(kind)


@pytest.mark.parametrize("label", [None, 0, "b"])
def test_the_probabilities_of_all_sequences_add_up_to_one(prior, label) -> None:
    log_prob = prior.log_prob(all_indices(), label)
    assert log_prob.shape == (72,)
    assert float(log_prob.double().exp().sum()) == pytest.approx(1, abs=1e-5)
    assert torch.allclose(prior.bits(all_indices(), label), -log_prob / math.log(2))


def frequencies(prior: CausalPrior, count: int, **options) -> torch.Tensor:
    tokens = LAYOUT.flatten(prior.sample(count, batch=count, **options))
    listed = LAYOUT.flatten(all_indices())
    return (tokens[:, None] == listed).all(-1).double().mean(0)


def chi_square(found: torch.Tensor, expected: torch.Tensor, count: int) -> float:
    """Over the likelier sequences; its mean is their number."""
    likely = expected * count > 5
    return float(((found - expected).square() / expected * count)[likely].sum() / likely.sum())


def test_samples_are_as_frequent_as_their_probability_says(prior) -> None:
    expected = prior.log_prob(all_indices(), 1).double().exp()
    assert chi_square(frequencies(prior, 4000, labels=1), expected, 4000) < 1.6
    # Of another class, or at another temperature, they are not.
    assert chi_square(frequencies(prior, 4000, labels=0), expected, 4000) > 3
    assert chi_square(frequencies(prior, 4000, labels=1, temperature=0.5), expected, 4000) > 3


def test_guidance_moves_the_logits_from_no_class_beyond_the_class(kind) -> None:
    layout = Layout([Grid(1, 1, (5,))])
    prior = small(kind, layout)
    indices = torch.arange(5).view(5, 1, 1, 1)
    with_class, without = prior.log_prob(indices, 1).double(), prior.log_prob(indices, None).double()
    expected = (without + 3 * (with_class - without)).softmax(0)
    drawn = prior.sample(4000, labels=1, guidance=3.0, batch=4000).flatten()
    assert torch.allclose(drawn.bincount(minlength=5) / 4000, expected.float(), atol=0.03)
    one, other = (prior.sample(50, labels=label, guidance=g) for label, g in ((1, 0.0), (None, 1.0)))
    assert torch.equal(one, other)


def test_a_sample_is_the_same_with_and_without_cache_in_any_batch(kind) -> None:
    prior = small(kind, SQUARE)
    options = {"labels": 1, "temperature": 0.8, "top_p": 0.9, "seed": 5}
    whole = prior.sample(10, **options)
    assert whole.shape == (10, 4, 6, 1)
    assert torch.equal(prior.sample(10, **options, cached=False), whole)
    assert torch.equal(prior.sample(10, **options, batch=3), whole)
    assert torch.equal(prior.sample(4, **options), whole[:4])
    assert torch.equal(prior.sample(3, first=7, **options), whole[7:])
    assert not torch.equal(prior.sample(10, **{**options, "seed": 6}), whole)
    guided = prior.sample(6, labels=[0, 1, 0, 1, 0, 1], guidance=2.0)
    assert torch.equal(prior.sample(6, labels=["a", "b"] * 3, guidance=2.0, cached=False), guided)


def test_the_likeliest_token_each_time(prior) -> None:
    greedy = prior.sample(3, labels=0, temperature=0.0)
    for options in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}):
        for one, other in zip(prior.sample(3, labels=0, **options), greedy, strict=True):
            assert torch.equal(one, other)
    # Each token is the likeliest one after those before it.
    tokens = LAYOUT.flatten(greedy)[:1]
    for position, slot in enumerate(LAYOUT.slot_of.tolist()):
        part = LAYOUT.slots[slot]
        hidden = prior(tokens, torch.tensor([0]))
        assert (
            int(prior.logits(hidden[:, position], LAYOUT, slot).argmax()) + part.first == tokens[0, position]
        )


def test_top_k_draws_from_the_k_likeliest(kind) -> None:
    prior = small(kind, Layout([Grid(1, 1, (9,))]))
    log_prob = prior.log_prob(torch.arange(9).view(9, 1, 1, 1), 0)
    drawn = set(prior.sample(500, labels=0, top_k=3, batch=500).flatten().tolist())
    assert drawn == set(log_prob.topk(3).indices.tolist())


def test_given_indices_stay_and_what_follows_depends_on_them(kind) -> None:
    prior = small(kind, SQUARE)
    known = prior.sample(1, labels=0, seed=9)
    known[:, 2:] = -1
    found = prior.sample(5, labels=0, known=known)
    assert torch.equal(found[:, :2], known[:, :2].expand(5, -1, -1, -1))
    assert torch.equal(prior.sample(5, labels=0, known=known, cached=False), found)
    other = known.clone()
    other[:, 1] = (other[:, 1] + 1) % 11
    assert not torch.equal(prior.sample(5, labels=0, known=other)[:, 2:], found[:, 2:])


def test_smaller_grids_and_no_classes(kind) -> None:
    prior = small(kind, SQUARE, classes=())
    grid = (3, 6) if kind is LlamaPrior else (3, 5)  # a LlamaPrior knows rows of one width
    indices = prior.sample(2, grid=grid)
    assert indices.shape == (2, *grid, 1)
    assert bool((prior.log_prob(indices) < 0).all())
    assert torch.equal(prior.sample(2, grid=grid, cached=False), indices)
    with pytest.raises(InputError, match="knows no larger ones"):
        prior.log_prob(torch.zeros(1, 5, 6, 1, dtype=torch.int64))


def test_costs_in_parts_are_the_costs(prior, monkeypatch) -> None:
    whole = prior.log_prob(all_indices(), 0)
    monkeypatch.setattr("codebound.generators.prior.LOGITS", 1)
    assert torch.allclose(prior.log_prob(all_indices(), 0), whole, atol=1e-6)


def test_a_folder_gives_the_same_prior(prior, tmp_path: Path) -> None:
    prior.save_pretrained(tmp_path / "prior", card="Of a test.")
    again = type(prior).from_pretrained(tmp_path / "prior")
    assert torch.equal(again.log_prob(all_indices(), 1), prior.log_prob(all_indices(), 1))
    assert again.classes == ("a", "b")
    assert f"{type(prior).__name__}.from_pretrained" in (tmp_path / "prior" / "README.md").read_text()
    description = json.loads((tmp_path / "prior" / "config.json").read_text())
    with pytest.raises(InputError, match="config: width"):
        type(prior).from_config({**description, "width": "wide"})
    weights = tmp_path / "prior" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedModel, match="damaged or was changed"):
        type(prior).from_pretrained(tmp_path / "prior")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": 2}, r"labels=2 is no class of this prior; accepted: 0 … 1 or a, b"),
        ({"labels": "c"}, "labels='c'"),
        ({"labels": [0]}, "1 for 2 pictures"),
        ({"labels": 0, "temperature": -1.0}, "temperature is -1"),
        ({"labels": 0, "temperature": math.nan}, "temperature is nan"),
        ({"labels": 0, "top_k": 0}, "top_k is 0"),
        ({"labels": 0, "top_p": 0.0}, "top_p is 0"),
        ({"labels": 0, "seed": -1}, "seed is -1"),
        ({"labels": 0, "batch": 0}, "batch is 0"),
        ({"guidance": 2.0}, "guidance=2 needs a class for every picture"),
        ({"labels": 0, "grid": (2, 2)}, "belong together"),
    ],
)
def test_what_a_sample_can_not_be_drawn_by_is_refused(prior, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prior.sample(2, **options)


def test_guidance_needs_classes_and_class_dropout(kind) -> None:
    with pytest.raises(InputError, match="trained without class dropout; only 1 is accepted"):
        small(kind, class_dropout=0.0).sample(1, labels=0, guidance=2.0)
    with pytest.raises(InputError, match="without class dropout and knows no picture without its class"):
        small(kind, class_dropout=0.0).log_prob(all_indices())
    with pytest.raises(InputError, match="has no classes; only 1"):
        small(kind, classes=()).sample(1, guidance=2.0)
    with pytest.raises(InputError, match="width must be a multiple of 4·heads"):
        small(kind, width=12)


def test_another_tokenizer_is_refused_by_its_hash(kind) -> None:
    prior = small(kind, tokenizer="0123")
    prior.check_tokenizer("0123")
    with pytest.raises(InputError, match="the tokenizer 0123, not of 4567"):
        prior.check_tokenizer("4567")


def test_levels_of_a_place_follow_one_another_as_in_sequences() -> None:
    layout = Layout([Grid(2, 2, (3, 4))])
    indices = torch.stack([torch.randint(k, (5, 2, 2)) for k in (3, 4)], -1)
    assert torch.equal(layout.flatten(indices), sequences.flatten(indices, (3, 4)))


def test_in_training_it_answers_without_dropout(prior, kind) -> None:
    other = small(kind, dropout=0.5).train()
    assert torch.equal(other.bits(all_indices(), "a"), prior.bits(all_indices(), "a"))
    drawn, expected = other.sample(8, seed=3), prior.sample(8, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(drawn, expected, strict=True))
    assert other.training
    assert other.body.training
