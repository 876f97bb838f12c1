"""The arms: ways to begin a codebook, and what each may look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from codebound.quantize import init
from codebound.quantize.update import EMA
from codebound.studies.initialisation.settings import ArmName, Settings
from codebound.train.codebooks import Adam

OptimizerName = Literal["adam", "adam_cosine", "ema"]


@dataclass(frozen=True)
class Arm:
    """An initialisation, and whether it sees the init batch or all training latents."""

    init: init.Init
    title: str
    sees: Literal["nothing", "batch", "all"] = "batch"


ARMS: dict[ArmName, Arm] = {
    "uniform": Arm(init.Uniform(), "Uniform ±1/n (documents)", sees="nothing"),
    "kmeans": Arm(init.KMeans(), "k-means on the batch (documents)"),
    "rd_gaussian": Arm(init.RateDistortion("isotropic"), "R(D) Gaussian, isotropic (documents)"),
    "water_filling": Arm(init.RateDistortion("water_filling"), "R(D) Gaussian, water-filled"),
    "finite": Arm(init.RateDistortion("finite"), "Best Gaussian for this n"),
    "sample": Arm(init.Sample(), "Data samples"),
    "sample_lloyd": Arm(init.KMeans(1, "sample"), "Data samples, one Lloyd step"),
    "kmeans_pp": Arm(init.KMeans(0), "k-means++ seeds only"),
    "kmeans_all": Arm(init.KMeans(), "k-means on all training data", sees="all"),
    "synthetic": Arm(init.Synthetic(), "Synthetic: Lloyd on the fitted Gaussian"),
    "lattice": Arm(init.Lattice(), "Lattice (E8 at k = 8)"),
    "best": Arm(init.Best(), "Best of five, by held-out score"),
}


def optimizers(settings: Settings) -> dict[OptimizerName, Adam | EMA]:
    """The documents' Adam, and two that are tuned better."""
    return {
        "adam": Adam(settings.lr),
        "adam_cosine": Adam(settings.tuned_lr, "cosine"),
        "ema": EMA(settings.ema_decay),
    }


def arms_of(optimizer: OptimizerName, settings: Settings) -> tuple[ArmName, ...]:
    """The arms that an optimizer trains."""
    if optimizer == "adam":
        return settings.arms
    return tuple(arm for arm in settings.tuned_arms if arm in settings.arms)
