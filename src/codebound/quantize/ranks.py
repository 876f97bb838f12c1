"""Which processes quantize parts of one batch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

DRAIN = 0.1  # seconds; a thread of gloo needs the interpreter's lock once, for microseconds


@dataclass(frozen=True)
class Ranks:
    """The processes whose batches count as one in `init_` and `update_`.

    A group belongs to the process that made it: a deep copy has the same one, a pickled copy the default group.
    """

    sync: bool = True  # False: this process alone
    group: Any = None  # a torch.distributed.ProcessGroup; None for the default one

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        return self

    def __reduce__(self) -> tuple[type[Ranks], tuple[bool]]:
        return Ranks, (self.sync,)


def end_group() -> None:
    """Leave the default process group, if there is one, so that this process can end.

    Gloo's threads let go of the last tensors some time after a collective has returned, and need the interpreter's
    lock for it. Destroying the group doesn't wait for them, and a thread that asks an interpreter at its end is aborted
    ("terminate called without an active exception"; pytorch issues 179291, 190489): so they get the time here.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
        time.sleep(DRAIN)
