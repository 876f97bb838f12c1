"""Settings of the training loop, the same for every task."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from codebound import config


class LoopSettings(config.Settings):
    """How long, how large and how often, but for what depends on the data.

    Attributes:
        batch_size: items per update, over all devices.
        accumulate: parts that a device's share of a batch is divided into, one after the other; less memory, the same
            gradient up to rounding.
        average: decay of the running mean of the weights, which is what is judged and saved; 0 for none.
        patience: steps in a row without a finite gradient after which training gives up.
        log_every, checkpoint_every: steps.
        keep: checkpoints that stay, besides the best one.
        precision: of the networks; quantizers stay float32. `bf16` is autocast, on a CPU only with AMX.
        compile: `torch.compile` the networks.
        seed: of the weights' start and of the order of the data.
    """

    batch_size: int = Field(default=64, ge=1)
    accumulate: int = Field(default=1, ge=1)
    average: float = Field(default=0.99, ge=0, lt=1)
    patience: int = Field(default=10, ge=1)
    log_every: int = Field(default=20, ge=1)
    checkpoint_every: int = Field(default=200, ge=1)
    keep: int = Field(default=3, ge=1)
    precision: Literal["32", "bf16"] = "32"
    compile: bool = False
    seed: int = Field(default=0, ge=0)


class Recipe(LoopSettings):
    """All that the loop needs.

    Attributes:
        steps: updates, in all.
        evaluate_every: steps.
    """

    steps: int = Field(default=1000, ge=1)
    evaluate_every: int = Field(default=200, ge=1)


class Schedule(config.Settings):
    """A learning rate over the steps: linear warm-up times a cosine that ends at zero (Loshchilov & Hutter 2017).

    Attributes:
        peak: the highest rate, about; it is reached where the warm-up ends.
        warmup: steps until then.
    """

    peak: float = Field(ge=0, allow_inf_nan=False)
    warmup: int = Field(default=0, ge=0)

    def at(self, step: int, steps: int) -> float:
        """The rate in a step, the first being 0, of a training of so many."""
        fall = 0.5 * (1 + math.cos(math.pi * step / steps))
        return self.peak * fall * min(1.0, (step + 1) / max(self.warmup, 1))
