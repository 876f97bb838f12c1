"""Names, descriptions and colours: one place, so that every table and figure agrees."""

from __future__ import annotations

from typing import NamedTuple

from codebound.reporting.plots import Dashes
from codebound.studies.estimators.arms import BASELINE, EXACT_BETA, SINGLE
from codebound.studies.estimators.settings import Settings

# Colours are apart for colour-blind readers (Paul Tol's sets); protocols differ in their dashes.
COLOURS = {
    SINGLE: "#6699CC",
    BASELINE: "#004488",
    "straight_through": "#CC3311",
    "autograd": "#CC3311",
    "manual_numpy": "#AA4499",
    "rotation": "#009988",
    "projection": "#EE7733",
    "stop_gradient": "#777777",
}
NAMES = {
    SINGLE: "PCA + Lloyd, one restart",
    BASELINE: "PCA + Lloyd, best restart",
    "straight_through": "straight-through",
    "autograd": "straight-through by autograd",
    "manual_numpy": "straight-through by hand (NumPy)",
    "rotation": "rotation",
    "projection": "projection",
    "stop_gradient": "stop-gradient (commitment only)",
}
PROTOCOLS: dict[str, tuple[str, str]] = {
    "documents": (
        "The report's rates",
        "PCA encoder and k-means++ codewords to begin with; constant rates, as the report sets them.",
    ),
    "tuned": (
        "Tuned rates",
        "The same start; the codebook's rate ten times the report's (so that a codeword's time constant is far below "
        "the number of steps), both rates falling to zero as a cosine.",
    ),
    "lloyd": (
        "From Lloyd's best",
        "The report's rates, starting from PCA and the best of the Lloyd codebooks: what learning adds to it.",
    ),
    "random": (
        "Random encoder",
        "A random orthonormal encoder and k-means++ codewords in its latents; the report's rates.",
    ),
}
DASHES: dict[str, Dashes] = {"documents": "-", "tuned": (0, (5, 1.6)), "lloyd": (0, (1.2, 1.4))}
WAYS = {
    "manual_numpy": "by hand in NumPy, straight-through",
    "manual_batched": "by hand, batched in torch, straight-through",
    "rotation_batched": "by hand, batched, rotation",
    "projection_batched": "by hand, batched, projection",
    "manual_batched_many": "by hand, batched, share of 16 runs",
    "autograd": "autograd",
    "compiled": "autograd, compiled",
}
SOURCES: dict[str, tuple[str, str]] = {
    "gaussian": (
        "Gaussian",
        "The report's source: rank {rank} in {dim} dimensions, variances geometric from {top_variance:g} to "
        "{bottom_variance:g}, no noise.",
    ),
    "mixture": (
        "Mixture",
        "{mixture_components} Gaussian clusters of random centres in the same subspace, with exactly the same "
        "covariance: PCA sees no difference. Redrawn with each seed.",
    ),
    "laplace": ("Laplace", "Independent Laplace coordinates of the same variances: heavy tails."),
    "noisy": ("Noisy Gaussian", "The Gaussian with noise of deviation {noise:g} in all {dim} dimensions."),
    "high": (
        "High-dimensional Gaussian",
        "The Gaussian in {high_dim} dimensions, K = {high_codebook_size}.",
    ),
    "photos": (
        "Photographs",
        "8×8 luminance patches of real photographs, less their mean, scaled to the Gaussian's total variance; trained "
        "on some photographs, measured on others. Seeds draw other patches of the same few photographs, so the "
        "intervals speak for these photographs only.",
    ),
}


class Line(NamedTuple):
    """A line of the ranking: which runs it is of, and the heading that it stands under."""

    estimator: str
    protocol: str
    beta: float | None
    group: str

    @property
    def name(self) -> str:
        """For a reader; β where it is the exact gradient's."""
        return NAMES[self.estimator] + (f", β = {EXACT_BETA:g}" if self.beta == EXACT_BETA else "")


def lines(settings: Settings) -> list[Line]:
    """The lines of the ranking, in the order of every table; chosen before any run."""
    beta = settings.commitment
    trained = ("straight_through", "rotation", "projection")
    estimators = {
        "documents": ("autograd", "manual_numpy", "rotation", "projection"),
        "tuned": trained,
        "lloyd": trained,
        "random": trained,
    }
    ranking = [Line(name, "lloyd", None, "Baselines") for name in (SINGLE, BASELINE)]
    for protocol, names in estimators.items():
        group = PROTOCOLS[protocol][0]
        ranking += [Line(name, protocol, beta, group) for name in names]
        if beta != EXACT_BETA:
            ranking.append(Line("straight_through", protocol, EXACT_BETA, group))
    return ranking


def source_name(source: str) -> str:
    """The source's name in titles."""
    return SOURCES[source][0]


def protocol_name(protocol: str) -> str:
    """The protocol's name within a line."""
    first, *rest = PROTOCOLS[protocol][0]
    return first.lower() + "".join(rest)
