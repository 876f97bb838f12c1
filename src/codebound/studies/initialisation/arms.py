"""The arms: ways to begin a codebook, and what each may look at."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Literal

from codebound.batched.codebooks import Adam
from codebound.quantize import init
from codebound.quantize.update import EMA
from codebound.studies.initialisation.settings import ArmName, Settings

OptimizerName = Literal["adam", "adam_cosine", "ema"]


@dataclass(frozen=True)
class Arm:
    """An initialisation, and whether it sees the init batch or all training latents."""

    init: init.Init
    sees: Literal["nothing", "batch", "all"] = "batch"

    @property
    def code(self) -> str:
        """The initialisation as one writes it: `KMeans(iterations=1, seeding='sample')`."""
        given = {
            f.name: getattr(self.init, f.name)
            for f in fields(self.init)  # pyright: ignore[reportArgumentType]  # every Init is a dataclass
            if getattr(self.init, f.name) != f.default and f.default_factory is MISSING
        }
        return (
            f"{type(self.init).__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"
        )


ARMS: dict[ArmName, Arm] = {
    "uniform": Arm(init.Uniform(), sees="nothing"),
    "kmeans": Arm(init.KMeans()),
    "rd_gaussian": Arm(init.RateDistortion("isotropic")),
    "water_filling": Arm(init.RateDistortion("water_filling")),
    "finite": Arm(init.RateDistortion("finite")),
    "sample": Arm(init.Sample()),
    "sample_lloyd": Arm(init.KMeans(1, "sample")),
    "kmeans_pp": Arm(init.KMeans(0)),
    "kmeans_all": Arm(init.KMeans(), sees="all"),
    "synthetic": Arm(init.Synthetic()),
    "lattice": Arm(init.Lattice()),
    "best": Arm(init.Best()),
}


def optimizers(settings: Settings) -> dict[OptimizerName, Adam | EMA]:
    """The proposal's Adam, and two that are tuned better."""
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
