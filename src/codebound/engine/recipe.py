"""What decides a training besides its model and its pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass

from codebound.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """AdamW with linear warm-up and a cosine to zero, gradient clipping, averaged weights.

    Attributes:
        steps: updates.
        batch_size: pictures per update, over all devices.
        lr: of the networks, at its highest.
        codebook_lr: of codewords that an optimizer moves, at its highest.
        warmup: steps until `lr` is reached.
        codebook_warmup: the same for `codebook_lr`.
        weight_decay: of the networks' weights; biases and codewords have none.
        clip: largest norm of the gradient; 0 for none.
        average: decay of the running mean of the networks' weights, which is what is judged and saved; 0 for none.
        init_tokens: latents that the codebook is initialised from, at least.
        patience: steps in a row without a finite gradient after which training gives up.
        log_every, evaluate_every, checkpoint_every: steps.
        recolour: probability that a picture of a batch is shown in other colours (`data.recolour`).
        bf16: networks in bfloat16 under autocast; quantizers stay float32.
        seed: of the order of the pictures.
    """

    steps: int = 1000
    batch_size: int = 64
    lr: float = 1e-3
    codebook_lr: float = 1e-3
    warmup: int = 100
    codebook_warmup: int = 100
    weight_decay: float = 1e-4
    clip: float = 5.0
    average: float = 0.99
    init_tokens: int = 16384
    patience: int = 10
    log_every: int = 20
    evaluate_every: int = 200
    checkpoint_every: int = 200
    recolour: float = 0.0
    bf16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch_size",
            "init_tokens",
            "patience",
            "log_every",
            "evaluate_every",
            "checkpoint_every",
        ):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1; got {getattr(self, name)}")
        for name in ("lr", "codebook_lr", "warmup", "codebook_warmup", "weight_decay", "clip", "seed"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise InputError(f"{name} must be finite and not negative; got {value}")
        if not 0 <= self.recolour <= 1:
            raise InputError(f"recolour must be in [0, 1], a probability; got {self.recolour}")
        if not 0 <= self.average < 1:
            raise InputError(f"average must be in [0, 1), a decay; got {self.average}")

    def learning_rates(self, step: int) -> tuple[float, float]:
        """Of the networks and of the codewords in a step, the first being 0."""
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return (
            self.lr * fall * min(1.0, (step + 1) / max(self.warmup, 1)),
            self.codebook_lr * fall * min(1.0, (step + 1) / max(self.codebook_warmup, 1)),
        )
