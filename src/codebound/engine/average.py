"""The running mean of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from codebound.engine.task import ReplacedRows


class WeightAverage:
    """Exponential mean of the parameters of some modules; buffers are taken as they are.

    `torch.optim.swa_utils.AveragedModel` would hold a second copy of every module with its buffers, and has no way to
    replace single rows: a revived codeword is no continuation of the one that it replaces.

    Args:
        modules: by name.
        decay: of the mean.
    """

    def __init__(self, modules: Mapping[str, nn.Module], decay: float) -> None:
        self._modules, self._decay = modules, decay
        self.means = {
            name: {key: p.detach().clone() for key, p in module.named_parameters()}
            for name, module in modules.items()
        }

    @torch.no_grad()
    def restart(self) -> None:
        """Begin again from the present weights."""
        for mean, parameter in self._pairs():
            mean.copy_(parameter)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after so many steps."""
        # As in Adam: early means are of few steps, so that they are no means of the beginning.
        decay = min(self._decay, (1 + step) / (10 + step))
        for mean, parameter in self._pairs():
            mean.lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def replace(self, replaced: ReplacedRows) -> None:
        """Take some rows of a parameter as they are."""
        for mean, parameter in self._pairs():
            if parameter is replaced.parameter:
                mean[replaced.rows] = parameter[replaced.rows]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """In the `with` block the modules hold their averaged weights and are in eval; afterwards all is as before."""
        # Remember who was training, and put the means in.
        training = {name: module.training for name, module in self._modules.items()}
        self._swap()
        try:
            for module in self._modules.values():
                module.eval()
            yield
        finally:
            # Back to training, and the weights back in.
            for name, module in self._modules.items():
                module.train(training[name])
            self._swap()

    def load(self, means: Mapping[str, Mapping[str, Any]]) -> None:
        """Take up the means of a checkpoint."""
        for name, own in self.means.items():
            for key, tensor in own.items():
                tensor.copy_(means[name][key])

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange means and weights, both in their own memory: nobody who holds a tensor notices."""
        for mean, parameter in self._pairs():
            present = parameter.detach().clone()
            parameter.copy_(mean)
            mean.copy_(present)

    def _pairs(self) -> Iterator[tuple[Tensor, nn.Parameter]]:
        """Each mean with the parameter that it is of."""
        for name, module in self._modules.items():
            for key, parameter in module.named_parameters():
                yield self.means[name][key], parameter
