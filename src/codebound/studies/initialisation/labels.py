"""Names and looks of arms, optimizers, sources and limits: one place, so that every table and figure agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from codebound.reporting import plots
from codebound.studies.framework.declare import Look, Swatch
from codebound.studies.initialisation.settings import Settings

Family = Literal["proposal", "theory", "data", "choice"]
FAMILIES: dict[Family, tuple[str, plots.Dashes]] = {  # its name, and how its lines are drawn
    "proposal": ("The proposal's three", "-"),
    "theory": ("From theory", (0, (5.0, 1.6))),
    "data": ("From data", (0, (1.2, 1.4))),
    "choice": ("Chosen by score", "-"),
}


class ArmLabel(NamedTuple):
    """An arm for a reader: a name that fits a legend, what it is, its family and its colour."""

    name: str
    text: str
    family: Family
    colour: str

    @property
    def swatch(self) -> Swatch:
        return Swatch(self.colour, self.name)


# Colours are apart for colour-blind readers within a family (Paul Tol's sets); families differ in line style.
ARMS: dict[str, ArmLabel] = {
    "uniform": ArmLabel("uniform ±1/n", "uniform on [−1/n, 1/n], the usual default", "proposal", "#CC3311"),
    "kmeans": ArmLabel("k-means, batch", "k-means on a batch of latents", "proposal", "#0077BB"),
    "rd_gaussian": ArmLabel(
        "R(D) Gaussian", "random Gaussian codewords of variance σ²(1−2^(−2R)), one σ² for all", "proposal", "#EE7733"
    ),
    "water_filling": ArmLabel(
        "water-filled", "random Gaussian codewords with the water-filled spectrum of the batch", "theory", "#009988"
    ),
    "finite": ArmLabel("finite-n Gaussian", "the Gaussian that is best for this n and k", "theory", "#117733"),
    "synthetic": ArmLabel(
        "synthetic Lloyd", "water-filled, then Lloyd steps on samples of the fitted Gaussian", "theory", "#332288"
    ),
    "lattice": ArmLabel("lattice", "shells of a lattice, scaled to the data", "theory", "#AA4499"),
    "sample": ArmLabel("data samples", "latents drawn from the batch", "data", "#999933"),
    "sample_lloyd": ArmLabel("samples + 1 Lloyd", "latents from the batch, one Lloyd step", "data", "#33BBEE"),
    "kmeans_pp": ArmLabel("k-means++ seeds", "k-means++ seeding and nothing more", "data", "#882255"),
    "kmeans_all": ArmLabel("k-means, all data", "k-means on all training latents", "data", "#6699CC"),
    "best": ArmLabel(
        "best of several", "scores several on a held-out part of the batch, keeps the best", "choice", "#000000"
    ),
}  # fmt: skip
LOOKS = {arm: Look(label.name, label.colour, dashes=FAMILIES[label.family][1]) for arm, label in ARMS.items()}

OPTIMIZERS = {
    "adam": ("Adam as proposed", "#CC3311"),
    "adam_cosine": ("Adam, tuned", "#0077BB"),
    "ema": ("EMA", "#009988"),
}

SOURCES: dict[str, tuple[str, str]] = {
    "isotropic": ("Isotropic Gaussian", "Every latent dimension has variance 1, as the proposal assumes."),
    "anisotropic": ("Anisotropic Gaussian", "A few strong directions, several weak ones; mean variance 1."),
    "raw": ("Raw Gaussian", "The source exactly as the proposal defines it, not normalised."),
    "photos": ("Photographs", "8×8 patches by PCA, measured on photographs that were not trained on."),
}

# Bounds first; the best code known may be improved on, and real data may come under the Gaussian reference.
LIMITS = {
    "shannon": "Shannon bound",
    "converse": "Converse, this n and k",
    "best_known": "Best code known",
    "random_codebook": "Random codewords",
    "gaussian_reference": "Gaussian reference",
    "isotropic_formula": "k·σ²·2^(−2R)",
}


def arm(name: str) -> ArmLabel:
    """The label of an arm; a grey one under its own name if it is not known here."""
    return ARMS.get(name) or ArmLabel(name, "", "data", "#777777")


def in_order(arms: set[str]) -> list[str]:
    """The arms in the order of every table: by family, unknown ones last."""
    return [name for name in ARMS if name in arms] + sorted(arms - set(ARMS))


def source_name(source: str, settings: Settings) -> str:
    """The source's name in titles; the user's data go by their file."""
    if source == "data" and settings.data is not None:
        return Path(settings.data).name
    return SOURCES.get(source, (source, ""))[0]
