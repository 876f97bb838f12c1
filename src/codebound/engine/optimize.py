"""The optimizers of a task: all gradients first, all of them checked, then all step or none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from codebound.engine.task import OptimizerPlan, ReplacedRows
from codebound.errors import InputError
from codebound.quantize.moments import forget_rows


class Optimizers:
    """One AdamW for each plan.

    Args:
        plans: by name.
        steps: of the whole training, for the schedules.

    Raises:
        InputError: a parameter in two groups.
    """

    def __init__(self, plans: Mapping[str, OptimizerPlan], steps: int) -> None:
        self._plans, self._steps = plans, steps
        self._refuse_shared()
        # foreach: one kernel for all small tensors, and the same result as one after another.
        self._adams = {
            name: torch.optim.AdamW(_groups(plan), betas=plan.betas, foreach=True)
            for name, plan in plans.items()
        }

    @property
    def names(self) -> list[str]:
        """In the order of the task."""
        return list(self._plans)

    def parameters(self, name: str) -> list[nn.Parameter]:
        """All parameters of an optimizer."""
        return [p for group in self._plans[name].groups for p in group.parameters]

    def backward(self, losses: Mapping[str, Tensor], share: float) -> None:
        """Add `share` times the gradient of each loss to its own optimizer's parameters, and to no others."""
        for i, name in enumerate(self._plans):
            # A graph may serve several losses: it is let go after the last one.
            more = i + 1 < len(self._plans)
            loss = losses[name] if share == 1 else losses[name] * share
            loss.backward(inputs=self.parameters(name), retain_graph=more)

    def clip(self) -> dict[str, Tensor]:
        """Each optimizer's gradient norm, before it is cut to the plan's `clip`."""
        return {
            name: nn.utils.clip_grad_norm_(self.parameters(name), plan.clip or math.inf)
            for name, plan in self._plans.items()
        }

    def set_rates(self, step: int) -> dict[str, float]:
        """The learning rates of a step; returns that of each optimizer's first group."""
        for name, plan in self._plans.items():
            for group, own in zip(self._adams[name].param_groups, plan.groups, strict=True):
                group["lr"] = own.schedule.at(step, self._steps)
        return {name: adam.param_groups[0]["lr"] for name, adam in self._adams.items()}

    def describe(self) -> str:
        """Peak rates and clips, for a message."""
        return "; ".join(
            f"{name}: lr {plan.groups[0].schedule.peak:g}, clip {plan.clip:g}"
            for name, plan in self._plans.items()
        )

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for adam in self._adams.values():
            adam.zero_grad()

    def step(self) -> None:
        """All optimizers step."""
        for adam in self._adams.values():
            adam.step()

    def forget(self, replaced: ReplacedRows) -> None:
        """Zero the moments of rows that were replaced: they belonged to others."""
        for adam in self._adams.values():
            forget_rows(adam, replaced.parameter, replaced.rows)

    def state(self, name: str, parameter: nn.Parameter) -> dict[str, Tensor]:
        """The moments of a parameter."""
        return self._adams[name].state[parameter]

    def state_dict(self) -> dict[str, Any]:
        """Moments and counters, by optimizer."""
        return {name: adam.state_dict() for name, adam in self._adams.items()}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Take up a `state_dict`."""
        for name, adam in self._adams.items():
            adam.load_state_dict(dict(states[name]))

    def _refuse_shared(self) -> None:
        """Two optimizers that move one parameter would undo each other's steps."""
        every = [id(p) for name in self._plans for p in self.parameters(name)]
        if len(set(every)) < len(every):
            raise InputError(
                "optimizers: a parameter stands in two groups; each one is moved by one group of one optimizer"
            )


def _groups(plan: OptimizerPlan) -> list[dict[str, Any]]:
    """The parameter groups of a plan, as `torch.optim` takes them."""
    return [
        {"params": list(g.parameters), "weight_decay": g.weight_decay, "lr": g.schedule.peak}
        for g in plan.groups
    ]


def mean_over_devices(parameters: Sequence[nn.Parameter], world_size: int) -> None:
    """Replace each gradient by its mean over the devices, one message for all of them.

    In place of DistributedDataParallel, whose hooks expect one backward pass through one module: here several losses go
    through several modules.
    """
    # One device has nothing to share.
    gradients = [p.grad for p in parameters if p.grad is not None]
    if world_size == 1 or not gradients:
        return
    # Precisions may differ: a message holds one.
    for dtype in dict.fromkeys(g.dtype for g in gradients):
        same = [g for g in gradients if g.dtype == dtype]
        message = torch.cat([g.flatten() for g in same])
        torch.distributed.all_reduce(message)
        message /= world_size
        for gradient, part in zip(same, message.split([g.numel() for g in same]), strict=True):
            gradient.copy_(part.view_as(gradient))


def tensor_over_devices(values: Tensor) -> Tensor:
    """The mean of a tensor over the devices, for what a task remembers of its own."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    total = values.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()
