"""What a training asks of its pictures."""

from __future__ import annotations

from typing import NamedTuple

from codebound.errors import InputError

MEMORY = 2**30  # bytes
WORKERS = 2


class PictureRequest(NamedTuple):
    """What a training asks of its pictures; fixed sets have a size and number of channels of their own.

    `memory` and `workers` say how pictures are read. The number of workers changes no number; the memory does only
    where it decides whether a set is held in memory or read as it goes.
    """

    crop: int = 32
    channels: int = 3
    held_out: int = 1024  # fixed crops or pictures
    memory: int = MEMORY  # bytes: a set whose pictures, at all their scales, need more is read as it goes
    workers: int = WORKERS  # processes that read ahead from such a set; 0: the training reads by itself

    def check(self) -> None:
        """Refuse what can't be read by.

        Raises:
            InputError: a negative memory or number of workers.
        """
        if self.memory < 0:
            raise InputError(f"memory={self.memory} bytes is not accepted; 0 or more is (0: hold nothing)")
        if self.workers < 0:
            raise InputError(
                f"workers={self.workers} is not accepted; 0 or more is (0: no process reads ahead)"
            )
