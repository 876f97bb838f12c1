"""One warning for a layer that trains half-used: without `init_`, or without `update_`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch

from codebound.quantize.codebook import Codebook

PATIENCE = 300  # training forwards without an update before anything is said
KEEP = "What is to stay as it is takes update=Frozen() or codebook.freeze_()."


class Reminder:
    """Counts the training forwards of one codebook since its last `update_`, and says once what is missing.

    Forwards without gradients are no training. Compiled ones are not counted: a graph has no place for it. The members
    of a composition say each thing once for all.
    """

    def __init__(self) -> None:
        self.forwards = 0
        self.said: set[str] = set()

    def passed(self, codebook: Codebook, idle: bool) -> None:
        """A training forward was made; `idle` where an update would change nothing."""
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        self.forwards += 1
        if self.forwards != PATIENCE or codebook.held:
            return
        if not bool(codebook.initialised):
            self._say(
                "init_", "its codewords are where chance put them. Call init_(latents) once, at the start"
            )
        elif not idle:
            self._say(
                "update_",
                "its codewords, revival and noise stand still. Call update_(result) after each optimizer.step(), or "
                "auto_update(optimizer, model) once",
            )

    def updated(self) -> None:
        """An update was made: the next one is waited for as long."""
        self.forwards = 0

    def _say(self, missing: str, advice: str) -> None:
        if missing not in self.said:
            self.said.add(missing)
            said = f"{PATIENCE} training forwards of a quantizer without {missing}: {advice}. {KEEP}"
            warnings.warn(said, stacklevel=3)


def speak_as_one(reminders: Sequence[Reminder]) -> None:
    """What one of them has said, none of them says again."""
    said = set[str]().union(*(reminder.said for reminder in reminders))
    for reminder in reminders:
        reminder.said = said
