"""The loop: steps, log, evaluations and checkpoints, from wherever a training stands to its end."""

from __future__ import annotations

import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from codebound.engine.checkpoints import Checkpoints
from codebound.engine.journal import Journal
from codebound.engine.trainer import Stepped, Trainer
from codebound.errors import InputError
from codebound.tokenizers.image import ImageTokenizer

Figures = Mapping[str, float | None]


class Diverged(InputError):
    """Training was given up: too many steps in a row without a finite gradient."""


class Interrupted(KeyboardInterrupt):
    """Stopped by the user, after a checkpoint."""


class Seen(NamedTuple):
    """What a progress bar shows."""

    step: int
    values: Figures  # of the last logged step and the last evaluation
    images_per_s: float


class Hooks(NamedTuple):
    """What a run adds to the loop; called on the first device only.

    `evaluate` gives figures of the held-out pictures, of which `psnr` says which checkpoint is the best.
    """

    evaluate: Callable[[ImageTokenizer], Figures]
    progress: Callable[[Seen], None] = lambda seen: None
    track: Callable[[int, Figures], None] = lambda step, values: None


def fit(trainer: Trainer, checkpoints: Checkpoints, journal: Journal, hooks: Hooks) -> None:
    """Train to the end of the recipe, from the newest whole checkpoint if there is one.

    Whatever is written about a step depends on the training's state in that step alone, so the log of a resumed
    training is that of an uninterrupted one.

    Raises:
        Diverged: `patience` steps in a row were not finite; the last checkpoint is from before them.
        Interrupted: Ctrl-C; the present step was finished and is in a checkpoint.
        OSError: a file could not be written; the last checkpoint is whole.
    """
    loop = _Loop(trainer, checkpoints, journal, hooks)
    loop.begin()
    with _deferred_interrupt() as wanted:
        while trainer.progress.step < trainer.recipe.steps:
            loop.one_step()
            if not trainer.everywhere(not wanted()):
                loop.checkpoint()
                raise Interrupted


class _Loop:
    def __init__(self, trainer: Trainer, checkpoints: Checkpoints, journal: Journal, hooks: Hooks) -> None:
        self.trainer, self.checkpoints, self.journal, self.hooks = trainer, checkpoints, journal, hooks
        self.recipe, self.first = trainer.recipe, trainer.fabric.is_global_zero
        self.seen: dict[str, float | None] = {}
        self.saved = -1
        self.since, self.pictures = time.perf_counter(), 0

    def begin(self) -> None:
        """Resume, or start with an evaluation before the first step."""
        trainer, damaged = self.trainer, []
        found = next(self.checkpoints.whole(damaged), None)
        for message in damaged:
            if self.first:
                warnings.warn(message, stacklevel=3)
        if found is not None:
            trainer.resume(found.state)
            self.saved = found.step
        if self.first:
            self.journal.rewind(trainer.progress.step if found is not None else -1)
        if found is None:
            trainer.initialise()
            self._write(0, self._evaluate())
            self.checkpoint()
        trainer.tokenizer.train()

    def one_step(self) -> None:
        """A step and what is due after it."""
        recipe, stepped = self.recipe, self.trainer.step()
        step = self.trainer.progress.step
        self.pictures += recipe.batch_size
        due = {
            name: step % every == 0 or step == recipe.steps
            for name, every in (
                ("log", recipe.log_every),
                ("evaluate", recipe.evaluate_every),
                ("checkpoint", recipe.checkpoint_every),
            )
        }
        figures = self._evaluate() if due["evaluate"] else {}
        if any((due["log"], due["evaluate"], not stepped.finite)):
            self._write(step, {**stepped.values, **figures})
        self._check(stepped)
        if (due["checkpoint"] or due["evaluate"]) and stepped.finite:
            self.checkpoint(figures)

    def checkpoint(self, figures: Figures | None = None) -> None:
        """Save the present state, unless it is saved."""
        progress = self.trainer.progress
        psnr = (figures or {}).get("psnr")
        best = psnr is not None and psnr > progress.best
        if best and psnr is not None:
            progress.best = psnr
        if self.first and self.saved != progress.step:
            self.checkpoints.save(progress.step, self.trainer.state(), best=best)
            self.journal.write_csv()
        self.saved = progress.step
        self.trainer.fabric.barrier()

    def _check(self, stepped: Stepped) -> None:
        progress, recipe = self.trainer.progress, self.recipe
        if stepped.finite:
            return
        if self.first:
            warnings.warn(
                f"step {progress.step}: the loss, the gradient or a latent is not finite; the step was skipped "
                f"({progress.in_a_row} in a row)",
                stacklevel=4,
            )
        if progress.in_a_row >= recipe.patience:
            last = next(iter(self.checkpoints.files()), None)
            raise Diverged(
                f"training stopped at step {progress.step}: {progress.in_a_row} steps in a row were not finite; the "
                f"last good checkpoint is {last}; try a smaller lr (now {recipe.lr:g}) or clip (now {recipe.clip:g})"
            )

    def _evaluate(self) -> Figures:
        figures: Figures = {}
        if self.first:
            with self.trainer.averaged() as tokenizer, torch.no_grad():
                figures = self.hooks.evaluate(tokenizer)
        self.trainer.fabric.barrier()
        # Every device must agree on which checkpoint is the best.
        return self.trainer.fabric.broadcast(figures)

    def _write(self, step: int, values: Figures) -> None:
        elapsed = max(time.perf_counter() - self.since, 1e-9)
        speed = self.pictures / elapsed
        self.since, self.pictures = time.perf_counter(), 0
        row = {**values, "skipped": self.trainer.progress.skipped}
        self.seen |= row
        if self.first:
            self.journal.add(step, {**row, "images_per_s": round(speed, 1)})
            self.hooks.track(step, {**row, "images_per_s": speed})
            self.hooks.progress(Seen(step, self.seen, speed))


@contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Ctrl-C waits for the end of the step, where the state is whole; a second one does not wait."""
    wanted = False

    def note(signum: int, frame: Any) -> None:
        nonlocal wanted
        if wanted:
            raise KeyboardInterrupt
        wanted = True

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread: whoever runs it there handles signals
        yield lambda: False
        return
    try:
        yield lambda: wanted
    finally:
        signal.signal(signal.SIGINT, before)
