"""Batches one after the other: read ahead by other processes where that helps, and how long their reader waited."""

from __future__ import annotations

import itertools
import signal
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

T = TypeVar("T")
U = TypeVar("U")
PREFETCH = 2  # batches that each process holds ready


class BatchStream(Iterator[T]):
    """An iterator over batches; `close` it when no more are needed.

    Attributes:
        waited: seconds that `next` has taken so far, in all.
    """

    def __init__(self, batches: Iterator[T]) -> None:
        self._batches = batches
        self.waited = 0.0

    def __next__(self) -> T:
        began = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self.waited += time.perf_counter() - began

    def map(self, change: Callable[[T, int], U], first_step: int) -> BatchStream[U]:
        """The same batches, each changed by a function of itself and its step; closing it closes this one."""

        def changed() -> Generator[U, None, None]:
            try:
                for step, batch in enumerate(self, first_step):
                    yield change(batch, step)
            finally:
                self.close()

        return BatchStream(changed())

    def close(self) -> None:
        """End the processes that read ahead, if there are any."""
        batches, self._batches = self._batches, iter(())
        if isinstance(batches, Generator):
            batches.close()


def read_ahead(read: Callable[[int], T], first: int, workers: int) -> Iterator[T]:
    """`read(first)`, `read(first + 1)`, … without end, in this order whatever the number of processes.

    Args:
        read: a pure function of the step; picklable where processes are not forked.
        workers: processes that read; 0: this one reads, when it is asked.
    """
    # The loader keeps the order of the steps whatever its number of workers.
    with warnings.catch_warnings():
        # torch advises against more workers than cores; how many there are is its user's choice.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        loader = DataLoader(
            _StepReader(read),
            batch_size=None,  # a step is a batch already
            sampler=_StepNumbers(first),
            collate_fn=_unchanged,
            num_workers=workers,
            prefetch_factor=PREFETCH if workers else None,
            worker_init_fn=_ignore_interrupts,
            # Of its own: a loader draws a number when it begins, and a resumed training must not see that.
            generator=torch.Generator(),
        )
        batches = iter(loader)
    yield from batches


class _StepReader(Dataset[T], Generic[T]):
    """A map from steps to what is read for them."""

    def __init__(self, read: Callable[[int], T]) -> None:
        self._read = read

    def __getitem__(self, step: int) -> T:
        return self._read(step)


class _StepNumbers(Sampler[int]):
    """All steps from one on."""

    def __init__(self, first: int) -> None:
        self._first = first

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self._first)


def _unchanged(item: Any) -> Any:
    return item


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the first one finishes its step, for which it needs its batch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
