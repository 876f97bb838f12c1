"""What is trained: the one thing that the engine asks of a model family."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from torch import Tensor, nn

from codebound.data.batch_stream import BatchStream
from codebound.engine.recipe import Schedule

Batch = TypeVar("Batch")
Figures = Mapping[str, float | None]


class Score(NamedTuple):
    """The figure of an evaluation that says which checkpoint is the best."""

    name: str
    better: Literal["higher", "lower"]

    @property
    def worst(self) -> float:
        """A value that every other one is better than."""
        return -math.inf if self.better == "higher" else math.inf

    def improves(self, value: float | None, best: float) -> bool:
        """Whether a value is better than the best one so far."""
        return value is not None and (value > best if self.better == "higher" else value < best)


class ParameterGroup(NamedTuple):
    """Parameters of one optimizer that share a learning rate and a weight decay."""

    parameters: Sequence[nn.Parameter]
    schedule: Schedule
    weight_decay: float = 0.0


class OptimizerPlan(NamedTuple):
    """One AdamW (Loshchilov & Hutter 2019): what it moves, and how.

    Attributes:
        groups: each parameter of the task stands in one group of one optimizer.
        betas: decays of the means of the gradient and of its square.
        clip: largest norm of the gradient of all groups together; 0 for none.
    """

    groups: Sequence[ParameterGroup]
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 0.0


class StepLosses(NamedTuple):
    """What a step's forward passes give the engine to learn from.

    Attributes:
        losses: a scalar for each optimizer by name: it follows the gradient of its own loss, with regard to its own
            parameters.
        values: what the log shows besides; tensors of one element.
        record: what `after_step` needs of this pass, such as the quantizer's result.
        usable: a truth value, false where the pass is not fit to learn from although its losses are finite.
    """

    losses: Mapping[str, Tensor]
    values: Mapping[str, Tensor]
    record: Any = None
    usable: Tensor | None = None


class ReplacedRows(NamedTuple):
    """Rows of a parameter that now hold something else, such as codewords that were moved to where data lie.

    Optimizers forget their moments, and the running mean of the weights begins anew there.
    """

    parameter: nn.Parameter
    rows: Tensor


class AfterStep(NamedTuple):
    """What `Task.after_step` moved itself, as no optimizer does: codebooks, say.

    Attributes:
        values: figures for the log.
        replaced: rows whose past no longer counts.
    """

    values: Mapping[str, float]
    replaced: Sequence[ReplacedRows] = ()


class Task(ABC, Generic[Batch]):
    """A model family in training.

    The engine owns the loop, the optimizers' steps, averaged weights, devices, precision, checkpoints and the log. A
    task says what is computed. Everything random must come from (seed, step) or from torch's generator, whose state
    a checkpoint holds: then a resumed training is the uninterrupted one bit for bit.

    Attributes:
        kind: its name, in a checkpoint and in a run's settings.
        unit: what a batch counts, in the plural: "images".
        score: which figure of `evaluate` chooses the best checkpoint.
        modules: everything that has weights or buffers, by name.
        averaged: names of the modules that are judged and saved with averaged weights.
    """

    kind: ClassVar[str]
    unit: ClassVar[str]
    score: ClassVar[Score]
    modules: Mapping[str, nn.Module]
    averaged: tuple[str, ...]

    def networks(self) -> Sequence[nn.Module]:
        """What `torch.compile` is for, where the user asks for it."""
        return list(self.modules.values())

    @abstractmethod
    def optimizers(self) -> Mapping[str, OptimizerPlan]:
        """The optimizers by name; they step in this order."""

    @abstractmethod
    def batches(self, seed: int, first_step: int, size: int) -> BatchStream[Batch]:
        """The whole batches of a step and all that follow; the engine gives each device its share.

        A batch is a tensor, or a tuple of tensors, whose first axis counts the items.
        """

    @abstractmethod
    def initialise(self, batches: Iterator[Batch], devices: int) -> None:
        """What happens once, before the first step: codebooks begin from data.

        Args:
            batches: this device's share of batches that no step of the training will see; take as many as needed.
            devices: how many of them have a share; all must take equally many.
        """

    @abstractmethod
    def losses(self, batch: Batch, step: int) -> StepLosses:
        """The forward passes of a step, under the engine's precision; nothing moves in here."""

    def after_step(self, records: Sequence[Any]) -> AfterStep:
        """Move what no optimizer moves, after all of them stepped; called only where every gradient was finite.

        Args:
            records: of the passes of this step: one, or as many as gradients are accumulated over.
        """
        return AfterStep({})

    @abstractmethod
    def evaluate(self) -> Figures:
        """Figures on held-out data; called on the first device only, with averaged weights, modules in eval."""
