"""Names, descriptions and looks: one place, so that every table and plot agrees."""

from __future__ import annotations

from dataclasses import dataclass

from codebound.studies.estimators.arms import BASELINE, EXACT_BETA, SINGLE
from codebound.studies.estimators.settings import Settings


@dataclass(frozen=True)
class Shown:
    """One line of the ranking: which runs it is of, its name and its colour."""

    estimator: str
    protocol: str
    beta: float | None
    name: str
    group: str
    colour: str


# Colours are apart for colour-blind readers (Paul Tol's sets); protocols differ in line style.
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
ESTIMATORS = {
    "straight_through": "straight-through",
    "autograd": "autograd straight-through",
    "manual_numpy": "manual NumPy straight-through",
    "rotation": "rotation",
    "projection": "projection",
    "stop_gradient": "stop-gradient (commitment only)",
}
PROTOCOLS: dict[str, tuple[str, str]] = {
    "documents": (
        "Documents' rates",
        "PCA encoder and k-means++ codewords to begin with; constant rates, as the documents set them.",
    ),
    "tuned": (
        "Tuned rates",
        "The same start; the codebook's rate ten times the documents' (so that a codeword's time constant is far below "
        "the number of steps), both rates falling to zero as a cosine.",
    ),
    "lloyd": (
        "From Lloyd's best",
        "The documents' rates, starting from PCA and the best of the Lloyd codebooks: what learning adds to it.",
    ),
    "random": (
        "Random encoder",
        "A random orthonormal encoder and k-means++ codewords in its latents; the documents' rates.",
    ),
}
DASHES = {"documents": "-", "tuned": (0, (5, 1.6)), "lloyd": (0, (1.2, 1.4)), "random": (0, (5, 1.5, 1, 1.5))}
WAYS = {
    "manual_numpy": "manual NumPy, straight-through",
    "manual_batched": "manual batched (torch), straight-through",
    "rotation_batched": "manual batched, rotation",
    "projection_batched": "manual batched, projection",
    "manual_batched_many": "manual batched, share of 16 runs",
    "autograd": "autograd",
    "compiled": "autograd, compiled",
}
SOURCES: dict[str, tuple[str, str]] = {
    "gaussian": (
        "Gaussian",
        "The documents' source: rank {rank} in {dim} dimensions, variances geometric from {top_variance:g} to "
        "{bottom_variance:g}, no noise.",
    ),
    "mixture": (
        "Mixture",
        "{mixture_components} Gaussian clusters of random centres in the same subspace, with exactly the same "
        "covariance: PCA sees no difference. Redrawn with each seed.",
    ),
    "laplace": ("Laplace", "Independent Laplace coordinates of the same variances: heavy tails."),
    "noisy": (
        "Noisy Gaussian",
        "The Gaussian with noise of standard deviation {noise:g} in all {dim} dimensions.",
    ),
    "high": ("High-dimensional Gaussian", "The Gaussian in {high_dim} dimensions, K = {high_codebook_size}."),
    "photos": (
        "Photographs",
        "8×8 luminance patches of real photographs, less their mean, scaled to the Gaussian's total variance; trained "
        "on some photographs, measured on others. Seeds draw other patches of the same few photographs.",
    ),
}


def shown(settings: Settings) -> list[Shown]:
    """The lines of the ranking, in the order of every table; chosen before any run."""
    beta, exact = settings.commitment, EXACT_BETA
    rows = [
        Shown(SINGLE, "lloyd", None, "PCA + Lloyd, one restart", "Baselines", COLOURS[SINGLE]),
        Shown(BASELINE, "lloyd", None, "PCA + Lloyd, best restart", "Baselines", COLOURS[BASELINE]),
    ]
    plan = {
        "documents": ("autograd", "manual_numpy", "rotation", "projection"),
        "tuned": ("straight_through", "rotation", "projection"),
        "lloyd": ("straight_through", "rotation", "projection"),
        "random": ("straight_through", "rotation", "projection"),
    }
    for protocol, names in plan.items():
        group = PROTOCOLS[protocol][0]
        rows += [Shown(n, protocol, beta, ESTIMATORS[n], group, COLOURS[n]) for n in names]
        if beta != exact:
            name = f"straight-through, β = {exact:g}"
            rows.append(Shown("straight_through", protocol, exact, name, group, COLOURS["straight_through"]))
    return rows


def source_name(source: str) -> str:
    """The source's name in titles."""
    return SOURCES.get(source, (source, ""))[0]


def source_text(source: str, settings: Settings) -> str:
    """A sentence about the source."""
    return SOURCES.get(source, ("", ""))[1].format(**settings.model_dump())
