"""A prior over a tokenizer's indices as a task: one network, one optimizer, nothing that moves by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from codebound import config
from codebound.data.augment import Augmentation
from codebound.data.batch_stream import BatchStream
from codebound.data.image_sets import step_random
from codebound.engine.recipe import Schedule
from codebound.engine.task import Figures, OptimizerPlan, ParameterGroup, Score, StepLosses, Task
from codebound.generators.prior import TokenPrior
from codebound.metrics.usage import entropy_rate
from codebound.tasks.codes import Codes
from codebound.tokenizers.opening import PictureTokenizer

BETAS = (0.9, 0.95)
QUICK = 512  # held-out pictures that judge it while it trains
DRAWS = 2**41  # where the streams of what is random in a step begin: beyond those of its pictures

PriorBatch = tuple[Tensor, Tensor, Tensor]  # pictures or indices, labels, numbers in [0, 1)


class TokenOptimization(config.Settings):
    """How a prior is trained, besides the loop's settings.

    Attributes:
        lr, warmup: the highest rate, and the steps until it is reached.
        weight_decay: of the transformer's matrices; embeddings, head, norms and biases have none.
        clip: largest norm of the gradient; 0 for none.
    """

    lr: float = Field(default=3e-3, ge=0, allow_inf_nan=False)
    warmup: int = Field(default=200, ge=0)
    weight_decay: float = Field(default=0.02, ge=0, allow_inf_nan=False)
    clip: float = Field(default=1.0, ge=0, allow_inf_nan=False)


class PriorOptimization(TokenOptimization, Augmentation):
    """The same, and what is done to pictures before they are encoded."""


class PriorTask(Task[PriorBatch]):
    """A `TokenPrior` on codes.

    Args:
        prior: what is trained; of the layout and the classes of the codes.
        codes: batches to train on and held-out ones to judge by.
        settings: rates and the like.
        tokenizer: what the codes are of, for whoever writes it beside the prior.
    """

    kind = "prior"
    unit = "images"
    score = Score("bits_per_token", "lower")
    averaged = ("prior",)

    def __init__(
        self,
        prior: TokenPrior,
        codes: Codes,
        settings: PriorOptimization,
        tokenizer: PictureTokenizer | None = None,
    ) -> None:
        self.prior, self.codes, self.settings, self.tokenizer = prior, codes, settings, tokenizer
        self.modules: Mapping[str, nn.Module] = {"prior": prior}

    def optimizers(self) -> Mapping[str, OptimizerPlan]:
        """The matrices of the transformer, which decay; all others, which don't."""
        return {"prior": plan(self.prior, self.prior.body, self.settings)}

    def batches(self, seed: int, first_step: int, size: int) -> BatchStream[PriorBatch]:
        """The batches of the codes, the class of some hidden, with numbers for whatever else is random."""

        def with_draws(batch: tuple[Tensor, Tensor], step: int) -> PriorBatch:
            pictures, labels = batch
            draws = step_random(seed, DRAWS + step).random(
                (size, self.prior.layout.length + 2), dtype=np.float32
            )
            draws = torch.from_numpy(draws)
            hidden = draws[:, -1] < self.prior.class_dropout
            return pictures, labels.masked_fill(hidden, self.prior.no_class), draws[:, :-1]

        return self.codes.batches(seed, first_step, size).map(with_draws, first_step)

    def initialise(self, batches: Iterator[PriorBatch], devices: int) -> None:
        """Nothing begins from data."""

    def losses(self, batch: PriorBatch, step: int) -> StepLosses:
        """Cross-entropy of the tokens."""
        pictures, labels, draws = batch
        loss = self.prior.loss(self.codes.tokens(pictures), labels, draws)
        return StepLosses({"prior": loss}, {"loss": loss})

    def evaluate(self) -> Figures:
        """Bits per token of the first held-out pictures, given their classes."""
        bits = self.held_out_bits(QUICK)
        return {"bits_per_token": float(bits.mean()) / self.prior.layout.length}

    def held_out_bits(self, count: int | None = None) -> Tensor:
        """Bits of each held-out picture given its class, exactly or at most (`TokenPrior.exact`)."""
        tokens, labels = (part[:count] for part in self.codes.held_out)
        indices = self.prior.layout.unflatten(tokens)
        return self.prior.bits(indices, labels if self.codes.classes else None)


def plan(prior: nn.Module, body: nn.Module, settings: TokenOptimization) -> OptimizerPlan:
    """AdamW of all parameters, weight decay for the matrices of the transformer alone."""
    schedule = Schedule(peak=settings.lr, warmup=settings.warmup)
    decayed = [p for p in body.parameters() if p.ndim > 1]
    own = {id(p) for p in decayed}
    groups = [
        ParameterGroup(decayed, schedule, settings.weight_decay),
        ParameterGroup([p for p in prior.parameters() if id(p) not in own], schedule),
    ]
    return OptimizerPlan(groups, BETAS, settings.clip)


def order_zero_bits(codes: Codes) -> float:
    """Bits per token of the held-out codes by the entropy of each codebook's indices alone (Miller–Madow)."""
    tokens, _ = codes.held_out
    bits = 0.0
    for slot in codes.layout.slots:
        part = tokens[:, list(slot.positions)] - slot.first
        bits += entropy_rate(part.flatten().bincount(minlength=slot.size)) * len(slot.positions)
    return bits / codes.layout.length


def nominal_bits(codes: Codes) -> float:
    """Bits per token without any knowledge: log₂ K, the mean over the tokens."""
    return codes.layout.nominal_bits / codes.layout.length
