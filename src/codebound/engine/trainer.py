"""One training step of any task, and everything that a step leaves behind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor

from codebound.data.batch_stream import BatchStream
from codebound.engine.average import WeightAverage
from codebound.engine.checkpoints import random_state, restore_random_state
from codebound.engine.optimize import Optimizers, mean_over_devices
from codebound.engine.recipe import Recipe
from codebound.engine.task import StepLosses, Task
from codebound.errors import InputError

INIT_STEP = 2**40  # where the batches for a codebook's start begin: steps that no training reaches
VERSION = 2  # of a checkpoint's content; the first version held one model and one optimizer

Batch = TypeVar("Batch")


class StepResult(NamedTuple):
    """What a step did: whether anything moved, and its figures for the log.

    Of several devices, `values` other than the norms are of the first one's share of the batch.
    """

    finite: bool  # otherwise nothing has moved
    values: dict[str, float]


@dataclass
class Progress:
    """Where a training stands."""

    step: int = 0
    skipped: int = 0  # steps without a finite gradient
    in_a_row: int = 0
    best: float = 0.0  # of the task's score


class Trainer(Generic[Batch]):
    """A task with its optimizers and averaged weights; `step` is a pure function of (state, seed, step).

    Raises:
        InputError: a batch that the devices, or the parts that gradients are accumulated over, can't share equally.
    """

    def __init__(self, fabric: Fabric, task: Task[Batch], recipe: Recipe) -> None:
        # A batch must divide evenly, or some items would weigh more than others.
        parts = fabric.world_size * recipe.accumulate
        if recipe.batch_size % parts:
            raise InputError(
                f"batch_size={recipe.batch_size} is no multiple of {parts}, the {fabric.world_size} devices times "
                f"accumulate={recipe.accumulate}"
            )

        # Networks on their device, compiled if that is asked for.
        self.fabric, self.task, self.recipe = fabric, task, recipe
        for module in task.modules.values():
            module.to(fabric.device)
        for network in task.networks() if recipe.compile else ():
            network.compile()  # in place: the names in a checkpoint stay

        # What learns and what remembers: made after the move, since they hold the parameters themselves.
        self.optimizers = Optimizers(task.optimizers(), recipe.steps)
        self.average = WeightAverage({name: task.modules[name] for name in task.averaged}, recipe.average)
        self.progress = Progress(best=task.score.worst)
        self._stream: BatchStream[Batch] | None = None

    def initialise(self) -> None:
        """What the task does once before its first step, from batches that no step sees."""
        stream = self.task.batches(self.recipe.seed, INIT_STEP, self.recipe.batch_size)
        try:
            self.task.initialise((self._share(batch) for batch in stream), self.fabric.world_size)
        finally:
            stream.close()
        self.average.restart()

    def step(self) -> StepResult:
        """One update, or none where a loss, a gradient or what the task looks at is not finite."""
        # Learning rates follow the step number alone.
        progress = self.progress
        rates = self.optimizers.set_rates(progress.step)

        # All gradients, summed over the parts of this device's share, then their mean over the devices.
        self.optimizers.zero_grad()
        passes = [self._forward_backward(part) for part in self._parts(self._share(self._next_batch()))]
        for name in self.optimizers.names:
            mean_over_devices(self.optimizers.parameters(name), self.fabric.world_size)
        norms = self.optimizers.clip()

        # All of them finite, on every device: then all step, otherwise none does.
        finite = self.everywhere(
            all(bool(norm.isfinite()) for norm in norms.values()) and all(map(_usable, passes))
        )
        moved = self._move(passes) if finite else {}

        # The count goes on in any case, so a bad batch is met once; a row of skipped steps is remembered.
        progress.step += 1
        progress.skipped += not finite
        progress.in_a_row = 0 if finite else progress.in_a_row + 1
        return StepResult(finite, {**_mean_values(passes), **self._norms_and_rates(norms, rates), **moved})

    def averaged(self) -> AbstractContextManager[None]:
        """The averaged weights in the place of the present ones, for as long as the context lasts."""
        return self.average.in_place()

    def evaluate(self) -> Mapping[str, float | None]:
        """The task's figures with averaged weights, equal on every device."""
        # One device judges, the others wait for it.
        figures: Mapping[str, float | None] = {}
        if self.fabric.is_global_zero:
            with self.averaged(), torch.no_grad():
                figures = self.task.evaluate()
        self.fabric.barrier()
        # Every device must agree on which checkpoint is the best.
        return self.fabric.broadcast(figures)

    def everywhere(self, here: bool) -> bool:
        """Whether it is so on every device."""
        if self.fabric.world_size == 1:
            return here
        total = self.fabric.all_reduce(torch.tensor(float(here)), reduce_op="sum")
        return int(torch.as_tensor(total)) == self.fabric.world_size

    @property
    def waited(self) -> float:
        """Seconds that steps waited for data since the stream of batches began."""
        return 0.0 if self._stream is None else self._stream.waited

    def state(self) -> dict[str, Any]:
        """All that an exact resume needs."""
        return {
            "kind": self.task.kind,
            "version": VERSION,
            "modules": {name: module.state_dict() for name, module in self.task.modules.items()},
            "average": self.average.means,
            "optimizers": self.optimizers.state_dict(),
            "random": random_state(),
            "progress": asdict(self.progress),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Take up a `state`, also one of the first version, which knew one module and one optimizer.

        Raises:
            InputError: the state of another kind of task, or of a version that came after this one.
        """
        # Everything that a later step depends on is put back.
        state = self._upgraded(state)
        for name, module in self.task.modules.items():
            module.load_state_dict(state["modules"][name])
        self.optimizers.load_state_dict(state["optimizers"])
        self.average.load(state["average"])
        restore_random_state(state["random"])
        self.progress = Progress(**state["progress"])

        # Batches that were read ahead are of another step.
        self.close()

    def close(self) -> None:
        """End whatever reads batches ahead; the next step begins anew."""
        if self._stream is not None:
            self._stream.close()
        self._stream = None

    def _next_batch(self) -> Batch:
        """The whole batch of this step; the stream of batches is opened where training stands."""
        if self._stream is None:
            recipe = self.recipe
            self._stream = self.task.batches(recipe.seed, self.progress.step, recipe.batch_size)
        return next(self._stream)

    def _share(self, whole: Batch) -> Batch:
        """This device's items of a batch: every so many-th one."""
        rank, world = self.fabric.global_rank, self.fabric.world_size
        return _each(whole, lambda tensor: tensor[rank::world].to(self.fabric.device))

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        """The parts of a device's share that gradients are accumulated over."""
        count = self.recipe.accumulate
        if count == 1:
            yield batch
            return
        for i in range(count):
            yield _each(batch, lambda tensor, i=i: tensor.chunk(count)[i])

    def _forward_backward(self, part: Batch) -> StepLosses:
        """Losses of a part and their gradients, which are added to those of the parts before."""
        # Fabric's own bf16 would turn the float64 sums of the codebook's statistics into float32.
        with torch.autocast(self.fabric.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            result = self.task.losses(part, self.progress.step)
        self.optimizers.backward(result.losses, 1 / self.recipe.accumulate)
        return result

    def _move(self, passes: list[StepLosses]) -> Mapping[str, float]:
        """Everything that moves in a step: optimizers, codebooks, averages."""
        # Optimizers first, then what only the task can move.
        self.optimizers.step()
        after = self.task.after_step([result.record for result in passes])

        # Rows that hold something else have no past: neither moments nor an average.
        for replaced in after.replaced:
            self.optimizers.forget(replaced)
        self.average.update(self.progress.step)
        for replaced in after.replaced:
            self.average.replace(replaced)
        return after.values

    def _norms_and_rates(self, norms: Mapping[str, Tensor], rates: Mapping[str, float]) -> dict[str, float]:
        """Gradient norm and learning rate of each optimizer; its name is left out where it is the only one."""
        names = self.optimizers.names
        suffix = {name: "" if len(names) == 1 else f"_{name}" for name in names}
        return {f"gradient_norm{suffix[n]}": float(norms[n]) for n in names} | {
            f"lr{suffix[n]}": rates[n] for n in names
        }

    def _upgraded(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """The state in the present version's form, or a refusal that names what it is of."""
        # Neither a later version nor another kind of task can be taken up.
        version = state.get("version", 1)
        if version > VERSION:
            raise InputError(
                f"checkpoint of version {version}; this codebound reads up to {VERSION}: install a newer one"
            )
        kind = state.get("kind", "tokenizer")
        if kind != self.task.kind:
            raise InputError(f"checkpoint of a {kind}; this is a training of a {self.task.kind}")

        # The first version held one module and one optimizer, without names.
        if version > 1:
            return state
        return {
            **state,
            "modules": {"tokenizer": state["model"]},
            "average": {"tokenizer": state["average"]},
            "optimizers": {"tokenizer": state["optimizer"]},
        }


def _each(batch: Any, change: Any) -> Any:
    """A batch with every tensor of it changed."""
    return tuple(change(t) for t in batch) if isinstance(batch, tuple) else change(batch)


def _usable(result: StepLosses) -> bool:
    """Whether a pass may be learned from: its losses are finite, and the task has nothing against it."""
    finite = all(bool(loss.isfinite()) for loss in result.losses.values())
    return finite and (result.usable is None or bool(result.usable))


def _mean_values(passes: list[StepLosses]) -> dict[str, float]:
    """What the passes report, their mean where gradients were accumulated."""
    names = itertools.chain.from_iterable(result.values for result in passes)
    return {
        name: sum(float(result.values[name].detach()) for result in passes) / len(passes)
        for name in dict.fromkeys(names)
    }
