"""The arms: which gradient, from which start, at which β. Judged ones are named here, before any run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from codebound.batched.linear import Rule
from codebound.quantize.estimator import Estimator, Projection, Rotation, StraightThrough
from codebound.studies.estimators.settings import Settings

EstimatorName = Literal["straight_through", "rotation", "projection"]
Protocol = Literal["documents", "tuned", "random", "lloyd"]

ESTIMATORS: dict[EstimatorName, Estimator] = {
    "straight_through": StraightThrough(),
    "rotation": Rotation(),
    "projection": Projection(),
}
# PCA + Lloyd: the best of the restarts on training data; the first.
BASELINE, SINGLE = "lloyd_best", "lloyd_one"
EXACT_BETA = 1.0  # straight-through is then the exact gradient (linear_numpy)


class Arm(NamedTuple):
    """One trained run at one codebook size."""

    estimator: EstimatorName
    protocol: Protocol
    beta: float


def arms(settings: Settings, main: bool) -> list[Arm]:
    """The runs at one codebook size, equal estimators together: `main` has the ablation of β as well."""
    chosen = set(_main(settings) if main else _scaling(settings))
    return sorted(chosen, key=lambda arm: (list(ESTIMATORS).index(arm.estimator), arm[1:]))


def _main(settings: Settings) -> Iterator[Arm]:
    judged = (settings.commitment, EXACT_BETA)
    for protocol in ("documents", "tuned"):
        for beta in settings.commitments:
            yield Arm("straight_through", protocol, beta)
            yield Arm("rotation", protocol, beta)
    for protocol in ("documents", "tuned", "lloyd"):
        for estimator in ESTIMATORS:
            for beta in judged:
                yield Arm(estimator, protocol, beta)
    for estimator in ESTIMATORS:
        yield Arm(estimator, "random", settings.commitment)
    yield Arm("straight_through", "random", EXACT_BETA)


def _scaling(settings: Settings) -> Iterator[Arm]:
    for protocol in ("documents", "tuned", "lloyd"):
        for beta in (settings.commitment, EXACT_BETA):
            yield Arm("straight_through", protocol, beta)
        yield Arm("rotation", protocol, settings.commitment)


def rule(settings: Settings, arm: Arm) -> Rule:
    """How an arm's run moves."""
    tuned = arm.protocol == "tuned"
    return Rule(
        ESTIMATORS[arm.estimator],
        lr_encoder=settings.lr_encoder,
        lr_codebook=settings.lr_codebook * (settings.tuned_factor if tuned else 1.0),
        commitment=arm.beta,
        codebook_weight=settings.codebook_weight,
        schedule="cosine" if tuned else "constant",
    )
