"""The contract on every public class, on every choice, on compositions, and on a class from outside.

The quick checks run on all. What takes seconds each (compiler, exporter, two ranks) runs on one of each kind here, on
all of them in `make test-slow`; one pair of processes serves all for the two ranks.
"""

import inspect
import re
from typing import get_args

import pytest
import torch
from torch import Tensor
from zoo import EVERY, INITS, RANDOM, Sign

import codebound.quantize
from codebound import VectorQuantizer, check_quantizer
from codebound.quantize import (
    BitTrellis,
    Quantizer,
    Residual,
    Trellis,
    assign,
    estimator,
    form,
    init,
    revival,
    update,
)
from codebound.quantize.contract import CHECKS, ContractError, check_two_ranks
from codebound.quantize.contract.case import Case
from codebound.quantize.contract.machinery import STEPS

NAMES = [check.__name__ for check in CHECKS]
COMPILER = ["compiles", "exports"]
# jaxtyping refuses wrong input before our code sees it: that check runs without its hook.
UNTYPED = ["refuses_wrong_input", *COMPILER]
QUICK = [name for name in NAMES if name not in {*UNTYPED, "two_ranks"}]
COMPARES = {  # two training forwards, or a result's statistic
    "mask_invariance", "non_finite_tokens", "variable_lengths", "input_dtypes", "autocast",
    "update_reports", "accumulation", "permutation",
}  # fmt: skip
# One of each kind of graph; what else there is differs from these in numbers only.
COMPILED = [
    "ema, resample", "rotation", "gumbel, soft", "blahut_arimoto", "simvq", "fsq 8555", "lfq", "bsq",
    "residual, dropout", "heads, shared", "trellis",
]  # fmt: skip


COMPOSED = re.compile("residual|product|heads|projected|multiscale|pooled|scaled")


def may_skip(name: str) -> set[str]:
    """What does not apply, so that a check that skips too much shows."""
    quantizer = EVERY[name]()
    skipped = set()
    if not any(isinstance(module, VectorQuantizer | Trellis | BitTrellis) for module in quantizer.modules()):
        skipped.add("init_before_update")
    if type(quantizer).declared_jacobian is Quantizer.declared_jacobian or (
        isinstance(quantizer, Residual) and quantizer.estimator is None
    ):
        skipped.add("declared_jacobian")
    return skipped | COMPARES if name in RANDOM else skipped


# What it gives back is a sum over all codewords: a product of matrices, whose last bits depend on the number of rows.
SUMMED = {"gumbel, soft"}

# One of each way in which ranks meet.
RANKS = [
    "ema, resample", "ema, split", "gradient, resample", "stochastic", "blahut_arimoto", "residual, dropout",
    "heads, shared", "projected", "trellis",
]  # fmt: skip


# Of the compositions one of each way to compose here; the others differ in their members.
KINDS = {*COMPILED, *RANKS, "residual", "product", "scaled", "residual of kinds", "multiscale"}
LONG = {
    "projected trellis",
    "trellis, dither",
    "bit trellis, rotated",
}  # a step of Python for each value, as "trellis" has
OFTEN = {name for name in EVERY if name in KINDS or not COMPOSED.search(name)} - LONG


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in OFTEN else pytest.mark.slow) for name in EVERY]
)
def test_contract(name: str) -> None:
    quantizer = EVERY[name]()
    before = {key: tensor.clone() for key, tensor in quantizer.state_dict().items()}
    report = check_quantizer(quantizer, checks=QUICK, exact=name not in SUMMED)
    assert set(report.skipped) == may_skip(name)
    assert set(report.passed) | set(report.skipped) == set(QUICK)
    for key, tensor in quantizer.state_dict().items():
        assert torch.equal(tensor, before[key])  # it checked copies


# An entropy of means is no mean over tokens, stages left out make their losses means over other tokens, and parts of a
# sequence have other paths than the whole.
OTHERS = ("lfq", "LFQ", "bsq", "dropout", "beam", "trellis")
ADDITIVE = [name for name in EVERY if not any(word in name for word in OTHERS)]


@pytest.mark.parametrize("name", ADDITIVE)
def test_gradients_accumulate_to_those_of_the_large_batch(name: str) -> None:
    quantizer = EVERY[name]()
    z = torch.randn(300, quantizer.dim, generator=torch.Generator().manual_seed(0))
    quantizer.init_(z)
    direction = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))

    def gradients(parts: list[int]) -> list[Tensor]:
        leaf = z.clone().requires_grad_()
        wanted = [leaf, *(p for p in quantizer.parameters() if p.requires_grad)]
        for tensor in wanted:
            tensor.grad = None
        for piece, along in zip(leaf.split(parts), direction.split(parts), strict=True):
            result = quantizer(piece)
            loss = (result.z_q * along).sum() / len(z) + result.loss * (len(piece) / len(z))
            if loss.requires_grad:
                loss.backward()
        return [torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for tensor in wanted]

    for got, wanted in zip(gradients([100, 7, 193]), gradients([300]), strict=True):
        assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.untyped
@pytest.mark.parametrize("name", EVERY)
def test_refusals(name: str) -> None:
    assert check_quantizer(EVERY[name], checks=["refuses_wrong_input"]).passed == ("refuses_wrong_input",)


@pytest.mark.untyped
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in COMPILED else pytest.mark.slow) for name in EVERY]
)
def test_compiles_and_exports(name: str) -> None:
    report = check_quantizer(EVERY[name], checks=COMPILER)
    assert set(report.passed) == ({"exports"} if name in RANDOM else set(COMPILER))


@pytest.mark.untyped
@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_inductor_gives_what_eager_gives(name: str) -> None:
    quantizer = EVERY[name]()
    z = torch.randn(300, quantizer.dim, generator=torch.Generator().manual_seed(0))
    quantizer.init_(z)
    torch._dynamo.reset()
    compiled = torch.compile(quantizer, fullgraph=True)
    wanted, got = quantizer(z), compiled(z)
    assert torch.equal(got.indices, wanted.indices)
    assert torch.allclose(got.z_q, wanted.z_q, atol=1e-5)
    assert torch.allclose(got.loss, wanted.loss, rtol=1e-4)


@pytest.mark.untyped
def test_two_ranks() -> None:
    """50 steps from k-means on, with revival; built before the process group; equal to one process bit for bit.

    In the same pair of processes one whose ranks drift apart late: it is caught, and no other.
    """

    class Alone(VectorQuantizer):  # of a function: travels by value
        def update_(self, *results):
            self.distribute_(sync=int(self.codebook.step) < 30)
            return super().update_(*results)

    equal = [*(EVERY[name] for name in RANKS), lambda: Sign(4)]
    with pytest.raises(ContractError, match="after update 31") as caught:
        check_two_ranks(*equal, Alone(8, 16))
    message = str(caught.value)
    assert message.startswith(f"Alone (number {len(equal)}): ")
    assert message.count("(number ") == 1


@pytest.mark.untyped
@pytest.mark.slow
def test_two_ranks_for_all() -> None:
    inits = [VectorQuantizer(4, 16, init=kind) for kind in INITS.values()]
    check_two_ranks(*(make for name, make in EVERY.items() if name not in RANDOM), *inits)


@pytest.mark.untyped
@pytest.mark.parametrize("name", ["ema, resample", "ema, split", "heads, shared"])
def test_two_ranks_saw_revival(name: str) -> None:
    """Else the check above would say nothing of it."""
    quantizer = EVERY[name]()
    z = torch.randn(256, quantizer.dim, generator=torch.Generator().manual_seed(0))
    quantizer.init_(z)
    reports = [quantizer.update_(quantizer(batch)) for batch in Case(quantizer, z).batches(STEPS)]
    assert STEPS >= 50
    assert sum(len(rows) for report in reports for rows in report.revived) > 10


@pytest.mark.parametrize("name", INITS)
def test_inits_keep_the_contract(name: str) -> None:
    checks = ["init_before_update", "init_is_deterministic", "state_dict_round_trip", "forward_is_pure"]
    made = VectorQuantizer(4, 16, init=INITS[name])
    assert check_quantizer(made, checks=checks).passed == tuple(n for n in NAMES if n in checks)


@pytest.mark.untyped
def test_a_class_from_outside() -> None:
    report = check_quantizer(lambda: Sign(4))
    assert set(report.skipped) == {"declared_jacobian", "init_before_update", "update_reports"}
    assert set(report.passed) | set(report.skipped) == set(NAMES)


def test_nothing_public_is_missing() -> None:
    public = {
        kind
        for kind in vars(codebound.quantize).values()
        if isinstance(kind, type) and issubclass(kind, Quantizer) and not inspect.isabstract(kind)
    }
    made = [module for make in EVERY.values() for module in make().modules()]
    assert public - {type(module) for module in made} == set()
    vectors = [module for module in made if isinstance(module, VectorQuantizer)]
    for union, name in (
        (assign.Assign, "assign"),
        (estimator.Estimator, "estimator"),
        (update.Update, "update"),
        (revival.Revival, "revival"),
        (form.Form, "form"),
    ):
        assert set(get_args(union)) == {type(getattr(vector, name)) for vector in vectors}, name
    kinds = [kind for kind in vars(init).values() if isinstance(kind, type)]
    inits = {kind for kind in kinds if "kind" in getattr(kind, "__annotations__", {})}
    assert inits == {type(kind) for kind in INITS.values()}
