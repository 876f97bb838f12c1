"""Which processes quantize parts of one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
