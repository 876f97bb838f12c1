"""One line for those who do not want to call `update_` themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from codebound.errors import InputError
from codebound.quantize.base import CodeStats, Quantized, Quantizer, UpdateReport
from codebound.quantize.compose import quantizers
from codebound.quantize.moments import forget_rows
from codebound.quantize.version import Version


class AutoUpdate:
    """What `auto_update` returns: the last reports, and the way to end it."""

    def __init__(self, by_name: Mapping[str, Quantizer], optimizer: torch.optim.Optimizer) -> None:
        self.reports: dict[str, UpdateReport] = {}
        self._optimizer = optimizer
        self._collectors = {name: _Collector(quantizer, self) for name, quantizer in by_name.items()}
        self._handle = optimizer.register_step_post_hook(self._step)

    def remove(self) -> None:
        """Stop updating."""
        for collector in list(self._collectors.values()):
            self._release(collector)

    def _release(self, collector: _Collector) -> None:
        """Leave one quantizer alone; without any, there is nothing to do after the optimizer's steps."""
        collector.stop()
        self._collectors = {name: c for name, c in self._collectors.items() if c is not collector}
        if not self._collectors:
            self._handle.remove()

    def _step(self, *_: Any) -> None:
        for name, collector in self._collectors.items():
            quantizer, result = collector.quantizer, collector.take()
            if quantizer is not None and result is not None:
                self.reports[name] = quantizer.update_(result)
                self._forget(quantizer, self.reports[name])

    def _forget(self, quantizer: Quantizer, report: UpdateReport) -> None:
        """Revived codewords are no continuation of those that they replace: their moments begin at 0."""
        trained = {
            i: b.table for i, b in enumerate(quantizer.codebooks()) if b and isinstance(b.table, nn.Parameter)
        }
        for i, table in trained.items():
            forget_rows(self._optimizer, table, report.revived[i])


class _Collector:
    """The forward hook of one quantizer: the joined statistic of its training forwards since the last step.

    What is copied or pickled along with the quantizer is an empty one, which collects nothing: the copy is another
    quantizer, and the optimizer is not its own.
    """

    def __init__(self, quantizer: Quantizer | None = None, owner: AutoUpdate | None = None) -> None:
        self.quantizer, self.owner = quantizer, owner
        self._result: Quantized | None = None
        if quantizer is not None:
            self._versions = [module for module in quantizer.modules() if isinstance(module, Version)]
            self._starts = self._present_starts()
            self._handle = quantizer.register_forward_hook(self)

    def __call__(self, module: nn.Module, inputs: Any, result: Quantized) -> None:
        if self.quantizer is None or not result.stats or _inside_backward():
            return
        kept = self.take()
        self._result = _lean(result.stats, result) if kept is None else _joined(kept, result)

    def take(self) -> Quantized | None:
        """What was collected, unless it is from before `init_`; nothing of it stays."""
        kept, self._result = self._result, None
        before, self._starts = self._starts, self._present_starts()
        return kept if before == self._starts else None

    def stop(self) -> None:
        """Collect no more."""
        self._handle.remove()
        self.quantizer = self.owner = self._result = None

    def __reduce__(self) -> tuple[type[_Collector], tuple[()]]:
        return _Collector, ()

    def _present_starts(self) -> list[int]:
        return [version.starts for version in self._versions]


def _inside_backward() -> bool:
    """Whether this forward is a checkpoint's recomputation of one that was seen; a compiled one is not run again."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def _joined(one: Quantized, other: Quantized) -> Quantized:
    """One result in the place of two, so that any number of forwards needs the memory of one."""
    stats = []
    for places in zip(one.stats, other.stats, strict=True):
        # A place that was in eval for one of them has a statistic of the other alone.
        filled = tuple(place for place in places if place.counts.shape[0])
        stats.append(CodeStats.merge(filled or places))
    return _lean(tuple(stats), other)


def _lean(stats: tuple[CodeStats, ...], like: Quantized) -> Quantized:
    """A result of which `update_` needs nothing but the statistics: no reproduction, no graph."""
    nothing = like.z_q.new_zeros(0, like.z_q.shape[-1])
    return Quantized(nothing, like.indices[:0].clone(), nothing.sum(), {}, stats)


def auto_update(optimizer: torch.optim.Optimizer, model: nn.Module) -> AutoUpdate:
    """Call `update_` of every quantizer in `model` after each `optimizer.step()`, with all forwards since the last.

    All training forwards count, also those without a gradient and those of another optimizer's step, as they do for
    batch normalisation; put the quantizer in eval where they should not. Their statistics are added up as they come,
    so memory does not grow with their number. Forwards in eval don't count, nor do those that activation checkpointing
    repeats inside backward, nor those from before `init_`. Quantizers inside another quantizer are its own affair.

    Where the optimizer trains the codewords, its moments of revived ones are zeroed. A quantizer has one `auto_update`:
    a second call takes the place of the first. A copy of the model, or a file of it, has none.

    Raises:
        InputError: no optimizer of torch's kind, no module, or no quantizer in it.
    """
    if not hasattr(optimizer, "register_step_post_hook"):
        raise InputError(f"optimizer must be a torch.optim.Optimizer; got {type(optimizer).__name__}")
    found = quantizers(model)
    if not found:
        raise InputError(f"model must hold a quantizer; {type(model).__name__} holds none")

    # An earlier call, on these or on quantizers inside them, ends here.
    for module in (inner for quantizer in found.values() for inner in quantizer.modules()):
        for hook in list(module._forward_hooks.values()):
            if isinstance(hook, _Collector) and hook.owner is not None:
                hook.owner._release(hook)
    return AutoUpdate(found, optimizer)
