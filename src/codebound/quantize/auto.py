"""One line for those who do not want to call `update_` themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from codebound.quantize.base import Quantized, Quantizer, UpdateReport
from codebound.quantize.compose import quantizers


class AutoUpdate:
    """What `auto_update` returns: the last reports, and the way to end it."""

    def __init__(self, by_name: Mapping[str, Quantizer], optimizer: torch.optim.Optimizer) -> None:
        self.reports: dict[str, UpdateReport] = {}
        self._quantizers = dict(by_name)
        self._pending: dict[str, list[Quantized]] = {name: [] for name in by_name}
        self._handles: list[Any] = [
            module.register_forward_hook(self._keeper(name)) for name, module in self._quantizers.items()
        ]
        self._handles.append(optimizer.register_step_post_hook(self._step))

    def remove(self) -> None:
        """Stop updating."""
        for handle in self._handles:
            handle.remove()

    def _keeper(self, name: str):
        def keep(module: nn.Module, inputs: Any, result: Quantized) -> None:
            # A forward inside backward is a checkpoint's recomputation of one that was kept already.
            if result.stats and torch._C._current_graph_task_id() == -1:
                still = result._replace(z_q=result.z_q.detach(), loss=result.loss.detach(), losses={})
                self._pending[name].append(still)

        return keep

    def _step(self, *_: Any) -> None:
        for name, results in self._pending.items():
            if results:
                self.reports[name] = self._quantizers[name].update_(*results)
                results.clear()


def auto_update(optimizer: torch.optim.Optimizer, model: nn.Module) -> AutoUpdate:
    """Call `update_` of every quantizer in `model` after each `optimizer.step()`, with all forwards since the last.

    Forwards in eval don't count, nor do those that activation checkpointing repeats inside backward. Quantizers
    inside another quantizer are its own affair.
    """
    return AutoUpdate(quantizers(model), optimizer)
