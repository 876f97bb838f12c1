"""The masked prior: its bound, its samples, completion in all directions."""

import math

import pytest
import torch
from small_priors import LAYOUT, all_indices, small

from codebound.errors import InputError
from codebound.generators import Grid, Layout, MaskedPrior
from codebound.generators.masked import ROUNDS, _hidden

SQUARE = Layout([Grid(4, 6, (11,))])


def test_with_one_token_the_bound_is_the_likelihood() -> None:
    prior = small(MaskedPrior, Layout([Grid(1, 1, (7,))]))
    bits = prior.bits(torch.arange(7).view(7, 1, 1, 1), 1).double()
    assert float((2.0**-bits).sum()) == pytest.approx(1, abs=1e-5)


def test_the_bound_is_the_mean_over_random_orders() -> None:
    """Of two tokens: −log₂ p in either order, listed by hand."""
    prior = small(MaskedPrior, Layout([Grid(1, 2, (5,))]))
    indices = torch.tensor([[[[3], [1]]]])
    label = torch.tensor([0])

    def cost(tokens: list[int], position: int, token: int) -> float:
        hidden = prior(torch.tensor([tokens]), label)[0, position]
        return -float(prior.logits(hidden, prior.layout, 0).log_softmax(-1)[token]) / math.log(2)

    orders = [
        cost([-1, -1], 0, 3) + cost([3, -1], 1, 1),
        cost([-1, -1], 1, 1) + cost([-1, 1], 0, 3),
    ]
    # Copies of the picture have masks of their own: their mean comes near that over all masks.
    bits = prior.bits(indices.expand(400, -1, -1, -1), 0)
    assert float(bits.mean()) == pytest.approx(sum(orders) / 2, abs=0.05)


def test_it_hides_as_many_as_the_draws_say_and_learns_from_those_alone() -> None:
    prior = small(MaskedPrior, SQUARE)
    tokens = SQUARE.flatten(prior.sample(3, labels=0))
    draws = torch.rand(3, 25, generator=torch.Generator().manual_seed(1))
    hidden = _hidden(draws[:, :-1], (torch.cos(draws[:, -1] * math.pi / 2) * 24).ceil())
    assert hidden.sum(1).tolist() == [math.ceil(math.cos(float(u) * math.pi / 2) * 24) for u in draws[:, -1]]
    costs = prior.costs(
        prior(tokens.masked_fill(hidden, -1), torch.zeros(3, dtype=torch.int64)), tokens, SQUARE
    )
    expected = torch.stack([row[some].mean() for row, some in zip(costs, hidden, strict=True)]).mean()
    assert torch.allclose(prior.loss(tokens, torch.zeros(3, dtype=torch.int64), draws), expected, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 3, 8, 40])
def test_samples_are_whole_and_depend_on_seed_and_number_alone(steps: int) -> None:
    prior = small(MaskedPrior, SQUARE)
    options = {"labels": 1, "steps": steps, "temperature": 0.8, "guidance": 1.5}
    whole = prior.sample(7, **options)
    assert whole.shape == (7, 4, 6, 1)
    assert bool(((whole >= 0) & (whole < 11)).all())
    assert torch.equal(prior.sample(7, batch=3, **options), whole)
    assert torch.equal(prior.sample(2, first=5, **options), whole[5:])
    assert not torch.equal(prior.sample(7, seed=1, **options), whole)


def test_several_grids_and_levels() -> None:
    prior = small(MaskedPrior)
    for one, grid in zip(prior.sample(5, labels="a"), LAYOUT.grids, strict=True):
        assert one.shape == (5, grid.height, grid.width, len(grid.codebook_sizes))
    assert prior.bits(all_indices(), 0).shape == (72,)


def test_one_token_at_a_time_and_no_chance_is_greedy_decoding() -> None:
    prior = small(MaskedPrior, SQUARE)
    found = SQUARE.flatten(prior.sample(1, labels=0, temperature=0.0, steps=1000))
    # The last token that was found is the likeliest one given all others.
    tokens = torch.full((1, 24), -1)
    for done in range(24):
        logits = prior.logits(prior(tokens, torch.tensor([0])), SQUARE, 0).log_softmax(-1)
        best = logits.max(-1)
        place = int(best.values.masked_fill(tokens >= 0, -math.inf).argmax())
        tokens[0, place] = best.indices[0, place]
        assert int((tokens >= 0).sum()) == done + 1
    assert torch.equal(found, tokens)


def test_what_is_given_stays_and_is_seen_by_what_comes_before() -> None:
    prior = small(MaskedPrior, SQUARE)
    known = prior.sample(1, labels=0, seed=9)
    known[:, :2] = -1
    found = prior.sample(4, labels=0, known=known)
    assert torch.equal(found[:, 2:], known[:, 2:].expand(4, -1, -1, -1))
    other = known.clone()
    other[:, 3] = (other[:, 3] + 1) % 11
    assert not torch.equal(prior.sample(4, labels=0, known=other)[:, :2], found[:, :2])
    everything = prior.sample(1, labels=0)
    assert torch.equal(prior.sample(1, labels=0, known=everything), everything)


def test_numbers_out_of_range_are_refused() -> None:
    prior = small(MaskedPrior, SQUARE)
    with pytest.raises(InputError, match="steps is 0"):
        prior.sample(1, labels=0, steps=0)
    with pytest.raises(InputError, match="guidance=2 needs a class"):
        prior.sample(1, guidance=2.0)
    assert ROUNDS > 1


def test_in_training_it_answers_without_dropout() -> None:
    prior, other = small(MaskedPrior), small(MaskedPrior, dropout=0.5).train()
    assert torch.equal(other.bits(all_indices(), "a"), prior.bits(all_indices(), "a"))
    drawn, expected = other.sample(8, seed=3), prior.sample(8, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(drawn, expected, strict=True))
    assert other.training
    assert other.body.training
