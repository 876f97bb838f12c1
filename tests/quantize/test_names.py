"""Names: every choice is importable from `codebound.quantize`, and arguments of other libraries are answered."""

import inspect
import re
from types import ModuleType
from typing import get_args

import pytest
import vector_quantize_pytorch as peer

import codebound
from codebound import BSQ, FSQ, LFQ, Residual, VectorQuantizer, quantize
from codebound.errors import InputError
from codebound.quantize import assign, estimator, form, habits, init, revival, spec, update


@pytest.mark.parametrize(
    ("module", "union"),
    [
        (assign, assign.Assign),
        (estimator, estimator.Estimator),
        (form, form.Form),
        (revival, revival.Revival),
        (update, update.Update),
        (init, spec._Init | init.Best),
    ],
)
def test_every_choice_is_importable_from_the_package(module: ModuleType, union: object) -> None:
    exported = {getattr(quantize, name) for name in quantize.__all__}
    choices = get_args(union)
    assert len(choices) >= 3
    for choice in choices:
        assert choice.__module__ == module.__name__
        assert choice in exported, choice


def test_one_line_is_at_hand_where_a_reader_looks() -> None:
    assert codebound.auto_update is quantize.auto_update
    for name in ("channel_first", "channel_first_decode", "length_mask"):
        assert name in quantize.__all__
    with pytest.raises(AttributeError, match="no attribute 'Gumbel'"):
        quantize.Gumbel  # noqa: B018  which of the two?


PEERS = [
    (peer.VectorQuantize, VectorQuantizer, habits.VECTOR),
    (peer.ResidualVQ, Residual, habits.RESIDUAL),
    (peer.FSQ, FSQ, habits.FSQ),
    (peer.LFQ, LFQ, habits.BINARY),
]


@pytest.mark.parametrize(("theirs", "ours", "known"), PEERS)
def test_every_argument_of_the_peer_is_one_of_ours_or_answered(theirs, ours, known) -> None:
    own = set(inspect.signature(ours).parameters)
    assert not own & set(known), "an argument of ours would be refused"
    arguments = set(inspect.signature(theirs).parameters) - {"self", "vq_kwargs"}
    assert arguments <= own | set(known)


@pytest.mark.parametrize(("theirs", "ours", "known"), [*PEERS, (None, BSQ, habits.BINARY)])
def test_an_argument_of_the_peer_is_answered_with_what_to_write_here(theirs, ours, known) -> None:
    for name, answer in known.items():
        words = re.escape(f"{ours.__name__} takes no {name}=0.5; instead: {answer.format(0.5)}")
        with pytest.raises(InputError, match=words):
            ours(**{name: 0.5})


def test_all_habits_are_answered_at_once_and_what_is_written_instead_is_accepted() -> None:
    with pytest.raises(InputError) as error:
        VectorQuantizer(8, 512, decay=0.9, use_cosine_sim=True)  # pyright: ignore[reportCallIssue]
    assert str(error.value).splitlines() == [
        "VectorQuantizer takes no decay=0.9; instead: update=EMA(0.9)",
        "VectorQuantizer takes no use_cosine_sim=True; instead: assign=Cosine(), form=Unit()",
    ]
    made = VectorQuantizer(8, 512, update=quantize.EMA(0.9), assign=quantize.Cosine(), form=quantize.Unit())
    assert made.update == quantize.EMA(decay=0.9)
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        VectorQuantizer(8, 512, colour="red")  # pyright: ignore[reportCallIssue]


def test_what_the_answers_name_exists() -> None:
    """Every class and function that an answer mentions is a name of the package."""
    known = {*quantize.__all__, "True"}
    answers = " ".join([*habits.VECTOR.values(), *habits.RESIDUAL.values(), *habits.FSQ.values()])
    answers += " ".join(habits.BINARY.values())
    called = set(re.findall(r"\b([A-Z]\w+)\(", answers))
    assert called
    assert called <= known
