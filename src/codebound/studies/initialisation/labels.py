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


@dataclass(frozen=True)
class Look:
    """How an arm is shown: a name that fits a legend, a sentence, a colour and a line style."""

    name: str
    text: str
    family: Family
    colour: str
    dashes: tuple[float, ...] = ()  # empty: solid
    marker: str = "o"


_DASH, _DOT = (5, 1.6), (1.2, 1.4)

# Colours: Paul Tol's "muted" set and Okabe-Ito, apart for colour-blind readers; family is also in the line style.
LOOKS: dict[str, Look] = {
    "uniform": Look(
        "uniform ±1/n", "uniform on [−1/n, 1/n], the usual default", "documents", "#CC3311", marker="X"
    ),
    "kmeans": Look("k-means, batch", "k-means on a batch of latents", "documents", "#0077BB", marker="o"),
    "rd_gaussian": Look(
        "R(D) Gaussian", "Gaussian codewords of variance σ²(1−2^(−2R)), one σ² for all", "documents", "#EE7733", marker="s"
    ),
    "water_filling": Look(
        "water-filled", "Gaussian codewords with the water-filled spectrum of the batch", "theory", "#009988", _DASH, "^"
    ),
    "finite": Look(
        "finite-n Gaussian", "the Gaussian that is best for this n and k", "theory", "#117733", _DASH, "v"
    ),
    "synthetic": Look(
        "synthetic Lloyd", "water-filled, then Lloyd steps on samples of the fitted Gaussian", "theory", "#332288", _DASH, "D"
    ),
    "lattice": Look("lattice", "shells of a lattice (E8 at k = 8), scaled to the data", "theory", "#AA4499", _DASH, "h"),
    "sample": Look("data samples", "latents drawn from the batch", "data", "#999933", _DOT, "<"),
    "sample_lloyd": Look("samples + 1 Lloyd", "latents from the batch, one Lloyd step", "data", "#33BBEE", _DOT, ">"),
    "kmeans_pp": Look("k-means++ seeds", "k-means++ seeding and nothing more", "data", "#882255", _DOT, "P"),
    "kmeans_all": Look("k-means, all data", "k-means on all training latents", "data", "#6699CC", _DOT, "p"),
    "best": Look("best of several", "scores candidates on a held-out part of the batch, keeps the best", "choice", "#000000", marker="*"),
}  # fmt: skip

OPTIMIZERS: dict[str, str] = {
    "adam": "Adam, the documents' setting",
    "adam_cosine": "Adam, tuned (larger rate, cosine)",
    "ema": "EMA",
}

SOURCES: dict[str, tuple[str, str]] = {
    "isotropic": (
        "Isotropic Gaussian",
        "The linear-Gaussian source, normalised: every latent dimension has variance 1. The documents' figures "
        "assume it.",
    ),
    "anisotropic": (
        "Anisotropic Gaussian",
        "The linear-Gaussian source with Σ = BBᵀ, scaled to mean variance 1: a few strong directions, several "
        "weak ones. Redrawn with each seed.",
    ),
    "raw": (
        "Raw Gaussian",
        "The linear-Gaussian source exactly as the documents define it, not normalised. Redrawn with each seed.",
    ),
    "photos": (
        "Photographs",
        "8×8 luminance patches of real photographs, projected by PCA; trained on some photographs, measured on "
        "others.",
    ),
    "data": ("Your data", "The vectors given by --data, projected by PCA, split into train and held out."),
}

UNDOCUMENTED = Look("?", "", "data", "#777777")


def look(arm: str) -> Look:
    """The look of an arm; a grey one under its own name if it is not known here."""
    return LOOKS.get(arm) or Look(arm, "", "data", UNDOCUMENTED.colour)


def in_order(arms: set[str]) -> list[str]:
    """The arms in the order of every table: by family, unknown ones last."""
    return [a for a in LOOKS if a in arms] + sorted(arms - set(LOOKS))


def source_name(source: str) -> str:
    """The source's name in titles."""
    return SOURCES.get(source, (source, ""))[0]
