"""The prior of Llama's shape, and the model of `transformers` that has its logits."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_priors import LAYOUT, all_indices, small

from codebound.errors import InputError
from codebound.extras import MissingExtra
from codebound.generators import AutoregressivePrior, Grid, Layout, LlamaPrior, MaskedPrior

SQUARE = Layout([Grid(4, 6, (11,))])


@pytest.fixture(scope="module")
def transformers() -> Any:
    import transformers  # an extra that `make test-slow` installs

    return transformers


def test_a_position_is_given_the_class_or_the_token_before_it() -> None:
    prior = small(LlamaPrior, SQUARE)
    tokens = torch.randint(11, (1, 24))
    labels = torch.tensor([1])
    hidden = prior(tokens, labels)
    for changed in (0, 10, 22):
        other = tokens.clone()
        other[:, changed] = (other[:, changed] + 1) % 11
        same = (prior(other, labels) == hidden).all(-1)[0]
        assert bool(same[: changed + 1].all())
        assert not bool(same[changed + 1 :].any())
    assert not bool((prior(tokens, torch.tensor([0])) == hidden).all(-1).any())


def test_it_has_no_weights_besides_embeddings_blocks_and_head() -> None:
    prior = small(LlamaPrior, width=24)
    names = {name.split(".")[0] for name in prior.state_dict()}
    assert names == {"token", "body", "head"}
    assert prior.token.weight.shape == (7 + 3, 24)
    assert prior.head.weight.shape == (7, 24)
    assert not any(name.endswith("bias") for name in prior.state_dict())
    # Its network has as many weights as that of the others.
    count = [
        sum(w.numel() for w in p.body.blocks[0].network.parameters())
        for p in (prior, small(MaskedPrior, width=24))
    ]
    assert count[0] == count[1] == 8 * 24**2


def test_rows_must_be_as_wide_as_in_training() -> None:
    prior = small(LlamaPrior, SQUARE)
    with pytest.raises(InputError, match=r"grid=3x5 is not accepted: .*as wide as in training: 6"):
        prior.sample(1, grid=(3, 5))
    with pytest.raises(InputError, match="grid=4x5 is not accepted"):
        prior.log_prob(torch.zeros(1, 4, 5, 1, dtype=torch.int64))


def test_classes_are_tokens_behind_the_vocabulary() -> None:
    prior = small(LlamaPrior)
    assert [prior.class_token(label) for label in ("a", 1, None)] == [7, 8, 9]
    with pytest.raises(InputError, match="labels='c' is no class"):
        prior.class_token("c")
    with pytest.raises(InputError, match="without class dropout"):
        small(LlamaPrior, class_dropout=0.0).class_token()


def test_only_tokens_of_the_position_s_codebook_are_left() -> None:
    mask = small(LlamaPrior).logits_processor()
    for position, slot in enumerate(LAYOUT.slot_of.tolist()):
        scores = mask(torch.zeros(2, position + 1, dtype=torch.int64), torch.zeros(2, 10))
        left = list(range(10))[LAYOUT.slots[slot].tokens]
        assert (scores == 0).nonzero()[:, 1].tolist() == 2 * left
        assert bool((scores[scores != 0] == -torch.inf).all())
    for length in (0, 6):
        with pytest.raises(InputError, match=rf"input_ids has {length} tokens; a class's and up to 4"):
            mask(torch.zeros(2, length, dtype=torch.int64), torch.zeros(2, 10))


@pytest.mark.parametrize("kind", [AutoregressivePrior, MaskedPrior])
def test_other_kinds_say_which_one_transformers_can_run(kind) -> None:
    with pytest.raises(InputError, match=rf"{kind.__name__}.to_transformers: .*--kind llama"):
        small(kind).to_transformers()


def test_without_the_library_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"to_transformers needs an extra: .*codebound\[trainers\]"):
        small(LlamaPrior).to_transformers()


def assert_same_logits(prior: LlamaPrior, model: Any, tokens: torch.Tensor, label: str | None) -> None:
    """At every position, of the tokens of its codebook."""
    first = torch.full((len(tokens), 1), prior.class_token(label))
    with torch.no_grad():
        found = model(torch.cat([first, tokens[:, :-1]], dim=1)).logits
        hidden = prior(tokens, prior.label_numbers(label, len(tokens)))
        for number, slot in enumerate(prior.layout.slots):
            positions = list(slot.positions)
            own = prior.logits(hidden[:, positions], prior.layout, number)
            assert own.std() > 0.5  # there is something to compare
            assert torch.allclose(found[:, positions, slot.tokens], own, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [SQUARE, LAYOUT, Layout([Grid(2, 3, (5,)), Grid(4, 6, (7, 3))])])
@pytest.mark.parametrize("label", [None, "b"])
def test_the_model_of_transformers_has_the_same_logits(
    transformers, layout: Layout, label: str | None
) -> None:
    prior = small(LlamaPrior, layout, width=24, heads=2)
    model = prior.to_transformers()
    assert isinstance(model, transformers.LlamaForCausalLM)
    assert not model.training
    sizes = [layout.slots[slot] for slot in layout.slot_of.tolist()]
    tokens = torch.stack([torch.randint(slot.first, slot.first + slot.size, (5,)) for slot in sizes], dim=1)
    assert_same_logits(prior, model, tokens, label)


@pytest.mark.slow
def test_greedy_generation_gives_the_same_picture(transformers) -> None:
    prior = small(LlamaPrior, SQUARE)
    model = prior.to_transformers()
    for label in ("a", "b", None):
        tokens = model.generate(torch.tensor([[prior.class_token(label)]]), do_sample=False)
        own = prior.sample(1, labels=label, temperature=0.0)
        assert torch.equal(prior.layout.unflatten(tokens[:, 1:]), own)
    # Without a first token a sequence begins with that of no class.
    assert torch.equal(model.generate(do_sample=False), tokens)


@pytest.mark.slow
def test_draws_keep_to_the_codebooks_of_several_grids_and_levels(transformers) -> None:
    prior = small(LlamaPrior)
    model, mask = prior.to_transformers(), [prior.logits_processor()]
    first = torch.full((16, 1), prior.class_token("a"))
    greedy = model.generate(first[:1], do_sample=False, logits_processor=mask)
    own = prior.sample(1, labels="a", temperature=0.0)
    assert all(map(torch.equal, prior.layout.unflatten(greedy[:, 1:]), own))
    drawn = model.generate(first, do_sample=True, top_k=0, logits_processor=mask)
    coarse, fine = prior.layout.unflatten(drawn[:, 1:])  # refuses a token of another codebook
    assert coarse.shape == (16, 1, 1, 1)
    assert fine.shape == (16, 1, 2, 2)
    assert len(drawn.unique(dim=0)) > 4


@pytest.mark.slow
def test_saved_by_transformers_it_is_the_same_model(transformers, tmp_path: Path) -> None:
    prior = small(LlamaPrior, SQUARE)
    prior.to_transformers().save_pretrained(tmp_path)
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    assert_same_logits(prior, again, torch.randint(11, (3, 24)), "a")
    greedy = again.generate(torch.tensor([[prior.class_token("a")]]), do_sample=False)
    assert torch.equal(prior.layout.unflatten(greedy[:, 1:]), prior.sample(1, labels="a", temperature=0.0))


@pytest.mark.slow
def test_weights_are_copies(transformers) -> None:
    prior = small(LlamaPrior)
    model, before = prior.to_transformers(), prior.log_prob(all_indices(), 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(prior.log_prob(all_indices(), 0), before)
