"""Names, descriptions and looks of the arms: one place, so that every table and plot agrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Family = Literal["documents", "theory", "data", "choice"]
FAMILIES: dict[Family, str] = {
    "documents": "The documents' three",
    "theory": "From theory",
    "data": "From data",
    "choice": "Chosen by score",
}


_DASH, _DOT = (5.0, 1.6), (1.2, 1.4)
_DASHES: dict[Family, tuple[float, ...]] = {"documents": (), "theory": _DASH, "data": _DOT, "choice": ()}


@dataclass(frozen=True)
class Look:
    """How an arm is shown: a name that fits a legend, a sentence and a colour. Its family gives the line style."""

    name: str
    text: str
    family: Family
    colour: str

    @property
    def dashes(self) -> tuple[float, ...]:
        """On and off lengths; empty is a solid line."""
        return _DASHES[self.family]


# Colours are apart for colour-blind readers within a family (Paul Tol's sets); families differ in line style.
_LOOKS: dict[str, tuple[str, str, Family, str]] = {
    "uniform": ("uniform ±1/n", "uniform on [−1/n, 1/n], the usual default", "documents", "#CC3311"),
    "kmeans": ("k-means, batch", "k-means on a batch of latents", "documents", "#0077BB"),
    "rd_gaussian": (
        "R(D) Gaussian",
        "random Gaussian codewords of variance σ²(1−2^(−2R)), one σ² for all dimensions",
        "documents",
        "#EE7733",
    ),
    "water_filling": (
        "water-filled",
        "random Gaussian codewords with the water-filled spectrum of the batch",
        "theory",
        "#009988",
    ),
    "finite": ("finite-n Gaussian", "the Gaussian that is best for this n and k", "theory", "#117733"),
    "synthetic": (
        "synthetic Lloyd",
        "water-filled codewords, then Lloyd steps on samples of the Gaussian fitted to the batch",
        "theory",
        "#332288",
    ),
    "lattice": ("lattice", "shells of a lattice (E8 at k = 8), scaled to the data", "theory", "#AA4499"),
    "sample": ("data samples", "latents drawn from the batch", "data", "#999933"),
    "sample_lloyd": ("samples + 1 Lloyd", "latents from the batch, one Lloyd step", "data", "#33BBEE"),
    "kmeans_pp": ("k-means++ seeds", "k-means++ seeding and nothing more", "data", "#882255"),
    "kmeans_all": ("k-means, all data", "k-means on all training latents", "data", "#6699CC"),
    "best": (
        "best of several",
        "scores several of these on a held-out part of the batch and keeps the best",
        "choice",
        "#000000",
    ),
}
LOOKS = {arm: Look(*parts) for arm, parts in _LOOKS.items()}

OPTIMIZERS: dict[str, str] = {
    "adam": "Adam, the documents' setting",
    "adam_cosine": "Adam, tuned (larger rate, cosine)",
    "ema": "EMA",
}

SOURCES: dict[str, tuple[str, str]] = {
    "isotropic": (
        "Isotropic Gaussian",
        "The linear-Gaussian source, normalised: every latent dimension has variance 1. The documents' "
        "figures assume it.",
    ),
    "anisotropic": (
        "Anisotropic Gaussian",
        "The linear-Gaussian source with Σ = BBᵀ, scaled to mean variance 1: a few strong directions, "
        "several weak ones. Redrawn with each seed.",
    ),
    "raw": (
        "Raw Gaussian",
        "The linear-Gaussian source exactly as the documents define it, not normalised. Redrawn with each "
        "seed.",
    ),
    "photos": (
        "Photographs",
        "8×8 luminance patches of real photographs, projected by PCA and scaled to mean variance 1; trained "
        "on some photographs, measured on others. Seeds draw other patches of the same photographs.",
    ),
    "data": (
        "Your data",
        "The vectors given by --data, projected by PCA and scaled to mean variance 1; each seed splits them "
        "anew into train and held out.",
    ),
}


def look(arm: str) -> Look:
    """The look of an arm; a grey one under its own name if it is not known here."""
    return LOOKS.get(arm) or Look(arm, "", "data", "#777777")


def in_order(arms: set[str]) -> list[str]:
    """The arms in the order of every table: by family, unknown ones last."""
    return [a for a in LOOKS if a in arms] + sorted(arms - set(LOOKS))


def source_name(source: str) -> str:
    """The source's name in titles."""
    return SOURCES.get(source, (source, ""))[0]
