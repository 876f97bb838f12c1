"""Who waits for a long computation is told how far it is.

```python
with progress.to(print):
    quantizer.init_(z)      # k-means of 8,192 codewords: Progress(what='k-means', done=12, of=50, seconds=4.1)
```
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

PATIENCE = 2.0  # seconds before the first word
PAUSE = 1.0  # seconds between two


@dataclass(frozen=True)
class Progress:
    """`done` steps `of` so many at most, `seconds` after the beginning."""

    what: str
    done: int
    of: int
    seconds: float


_listener: ContextVar[Callable[[Progress], None] | None] = ContextVar("progress", default=None)


@contextmanager
def to(listener: Callable[[Progress], None]) -> Iterator[None]:
    """While this lasts, what takes more than 2 seconds tells `listener`, at most once a second."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class Steps:
    """The steps of one long computation, told to whoever listens."""

    def __init__(self, what: str, of: int) -> None:
        self._what, self._of = what, of
        self._began = time.monotonic()
        self._next = self._began + PATIENCE

    def done(self, count: int) -> None:
        """So many steps are done."""
        listener, now = _listener.get(), time.monotonic()
        if listener is not None and now >= self._next:
            self._next = now + PAUSE
            listener(Progress(self._what, count, self._of, now - self._began))
