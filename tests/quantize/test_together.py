"""All pairs of choices: each does what its classes say, or is refused in the constructor by name."""

import copy
from collections.abc import Mapping
from itertools import combinations, product
from typing import Any

import pytest
import torch
from torch import Tensor
from zoo import INITS

from codebound import VectorQuantizer, check_quantizer
from codebound.errors import InputError
from codebound.quantize import assign, estimator, form, revival, update
from codebound.search import nearest

DIM, SIZE = 4, 8
CHOICES: dict[str, dict[str, Any]] = {
    "assign": {
        "nearest": assign.Nearest(),
        "cosine": assign.Cosine(),
        "stochastic": assign.Stochastic(),
        "gumbel": assign.Gumbel(),
        "entropy_constrained": assign.EntropyConstrained(weight=0.5),
        "soft": assign.Soft(steps=40),
    },
    "estimator": {
        "straight_through": estimator.StraightThrough(),
        "stop_gradient": estimator.StopGradient(),
        "rotation": estimator.Rotation(),
        "projection": estimator.Projection(),
        "nsvq": estimator.NSVQ(),
        "diveq": estimator.DiVeQ(),
        "gumbel": estimator.Gumbel(),
        "softmax_all": estimator.SoftmaxAll(),
    },
    "update": {
        "ema": update.EMA(0.8),
        "gradient": update.Gradient(),
        "frozen": update.Frozen(),
        "blahut_arimoto": update.BlahutArimoto(),
    },
    "revival": {
        "never": revival.Never(),
        "resample": revival.Resample(threshold=0.2, window=4.0),
        "split": revival.Split(threshold=0.2, window=4.0),
    },
    "form": {"table": form.Table(), "linear": form.Linear(), "unit": form.Unit()},
    "init": INITS,
}
PAIRS = [
    (one, a, other, b)
    for one, other in combinations(CHOICES, 2)
    for a, b in product(CHOICES[one], CHOICES[other])
]

# A choice, and what it can't be without.
NEEDS = [
    ("assign", "gumbel", "estimator", {"gumbel"}),
    ("estimator", "gumbel", "assign", {"gumbel"}),
    ("assign", "soft", "update", {"blahut_arimoto"}),
    ("update", "blahut_arimoto", "assign", {"soft"}),
    ("assign", "entropy_constrained", "update", {"ema"}),
    ("update", "frozen", "revival", {"never"}),
    ("form", "linear", "update", {"gradient"}),
    ("form", "linear", "revival", {"never"}),
]


def fits(names: Mapping[str, str]) -> bool:
    return all(
        other not in names or names[other] in allowed
        for one, a, other, allowed in NEEDS
        if names.get(one) == a
    )


def completed(names: dict[str, str]) -> dict[str, str] | None:
    """The pair with what its members need; None where these contradict each other."""
    names = dict(names)
    for _ in NEEDS:
        for one, a, other, allowed in NEEDS:
            if names.get(one) == a:
                names.setdefault(other, min(allowed))
    return names if fits(names) else None


def normal(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed))


def made(names: Mapping[str, str]) -> VectorQuantizer:
    return VectorQuantizer(DIM, SIZE, **{slot: CHOICES[slot][name] for slot, name in names.items()})


@pytest.mark.parametrize(
    ("one", "a", "other", "b"),
    # A start meets the other choices in `init_` alone: one of them here, all in `make test-slow`.
    [
        pytest.param(
            *pair, marks=pytest.mark.slow if pair[2] == "init" and pair[3] != next(iter(INITS)) else []
        )
        for pair in PAIRS
    ],
    ids=lambda value: value,
)
def test_a_pair_works_or_is_refused(one: str, a: str, other: str, b: str) -> None:
    names = completed({one: a, other: b})
    if names is None:
        with pytest.raises(InputError, match="need"):
            made({one: a, other: b})
    else:
        works(names)


def works(names: Mapping[str, str]) -> None:
    """Train it, and see that each of its choices has the effect that it promises."""
    quantizer = made(names)
    if "init" not in names:  # how codewords begin has no part in the gradient
        check_quantizer(quantizer, checks=["declared_jacobian"])
    quantizer.init_(normal(300, seed=5))
    start = copy.deepcopy(quantizer)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2)), *quantizer.parameters()], lr=0.05)
    others, soft, revived, used = 0, 0, 0, set[int]()
    for seed in range(3):
        # Latents are narrower than what the codebook began from, also in angle, so that codewords fall out of use.
        z = (0.3 * normal(64, seed) + torch.eye(DIM)[0]).requires_grad_()
        result = quantizer(z)
        codewords = quantizer.codebook.codewords().detach()
        near = nearest(z.detach(), codewords)
        others += int((result.indices.squeeze(-1) != near).sum())
        used.update(near.tolist())
        soft += int((result.stats[0].counts % 1 != 0).sum())
        optimizer.zero_grad()
        (result.z_q.sum() + result.loss).backward()
        optimizer.step()
        revived += len(quantizer.update_(result).revived[0])
        assert z.grad is not None
        assert bool(z.grad.isfinite().all())
    assert bool(quantizer.codebook.codewords().isfinite().all())

    # The assignment: all but two choose otherwise than the nearest; of unit codewords the nearest has the least angle.
    chosen, same = names.get("assign", "nearest"), names.get("form") == "unit"
    expected = {"nearest": False, "soft": False, "cosine": not same}.get(chosen, True)
    if len(used) > 1:  # from some starts one codeword takes all
        assert (others > 0) == expected
    assert (soft > 0) == (chosen == "soft")

    # Update and revival: codewords move, unless they are frozen; dead ones are revived, unless never.
    moved = not torch.equal(quantizer.codebook.codewords(), start.codebook.codewords())
    assert moved == (names.get("update") != "frozen")
    never = names.get("revival", "never" if names.get("form") == "linear" else "resample") == "never"
    if never or "revival" in names:
        assert (revived > 0) == (not never)
