"""A training inside a cell: from the first step to the last, without folder, log or checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import closing
from copy import deepcopy
from typing import Any

from codebound.engine.devices import launch
from codebound.engine.recipe import Recipe
from codebound.engine.task import Task
from codebound.engine.trainer import Trainer


def train_through(
    task: Task[Any],
    recipe: Recipe,
    *,
    points: Collection[int] = (),
    judge: Callable[[int], None] = lambda step: None,
) -> int:
    """Train a task on the CPU; afterwards its modules hold their averaged weights and are in eval.

    Args:
        points: numbers of steps after which `judge` is called with that number, averaged weights in place.

    Returns:
        How many steps were skipped, as a gradient was not finite.
    """
    with closing(Trainer(launch("cpu"), task, recipe)) as trainer:
        # All steps; a judge sees the weights that a run would save.
        trainer.initialise()
        for step in range(recipe.steps + 1):
            if step:
                trainer.step()
            if step in points:
                with trainer.averaged():
                    judge(step)

        # What is kept has the averaged weights.
        with trainer.averaged():
            states = {name: deepcopy(module.state_dict()) for name, module in task.modules.items()}
        for name, module in task.modules.items():
            module.load_state_dict(states[name])
            module.eval()
        return trainer.progress.skipped
