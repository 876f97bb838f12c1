"""The loop: steps, log, evaluations and checkpoints, from wherever a training stands to its end."""

from __future__ import annotations

import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from codebound.engine.checkpoints import Checkpoints
from codebound.engine.journal import Journal
from codebound.engine.task import Figures
from codebound.engine.trainer import StepResult, Trainer
from codebound.errors import InputError


class DivergenceError(InputError):
    """Training was given up: too many steps in a row without a finite gradient."""


class TrainingInterrupt(KeyboardInterrupt):
    """Stopped by the user, after a checkpoint."""


class ProgressEvent(NamedTuple):
    """What a progress bar or a log line shows.

    Attributes:
        step: steps done.
        values: of the last logged step and the last evaluation.
        items_per_s: speed since the last event; `unit` says what is counted.
        evaluated: whether this step had an evaluation.
    """

    step: int
    values: Figures
    items_per_s: float
    unit: str
    evaluated: bool


class Hooks(NamedTuple):
    """Who is told about logged steps; called on the first device only."""

    progress: Callable[[ProgressEvent], None] = lambda event: None
    track: Callable[[int, Figures], None] = lambda step, values: None


def fit(trainer: Trainer, checkpoints: Checkpoints, journal: Journal, hooks: Hooks) -> None:
    """Train to the end of the recipe, from the newest whole checkpoint if there is one.

    Whatever is written about a step depends on the training's state in that step alone, so the log of a resumed
    training is that of an uninterrupted one.

    Raises:
        DivergenceError: `patience` steps in a row were not finite; the last checkpoint is from before them.
        TrainingInterrupt: Ctrl-C; the present step was finished and is in a checkpoint.
        OSError: a file could not be written; the last checkpoint is whole.
    """
    # Resume or begin.
    loop = _Loop(trainer, checkpoints, journal, hooks)
    loop.begin()

    # Step until the end; an interrupt on any device stops all of them after a whole step.
    try:
        with _deferred_interrupt() as interrupted:
            while trainer.progress.step < trainer.recipe.steps:
                loop.one_step()
                if not trainer.everywhere(not interrupted()):
                    loop.checkpoint()
                    raise TrainingInterrupt
    finally:
        trainer.close()


class _Loop:
    """One run of `fit`: what is due after each step, and who is told."""

    def __init__(self, trainer: Trainer, checkpoints: Checkpoints, journal: Journal, hooks: Hooks) -> None:
        self.trainer, self.checkpoints, self.journal, self.hooks = trainer, checkpoints, journal, hooks
        self.recipe, self.first = trainer.recipe, trainer.fabric.is_global_zero
        self.values: dict[str, float | None] = {}
        self.saved_step = -1
        self.clock = _Clock(trainer)

    def begin(self) -> None:
        """Resume, or start with an evaluation before the first step."""
        # The newest checkpoint that is whole; damaged ones are named.
        trainer, damaged = self.trainer, []
        checkpoint = next(self.checkpoints.whole(damaged), None)
        for message in damaged:
            if self.first:
                warnings.warn(message, stacklevel=3)

        # Take up the newest whole checkpoint; what the log says beyond it will be written again.
        if checkpoint is not None:
            trainer.resume(checkpoint.state)
            self.saved_step = checkpoint.step
        if self.first:
            self.journal.rewind(trainer.progress.step if checkpoint is not None else -1)

        # Without one, begin: codebooks from data, the figures of step 0, and a checkpoint to come back to.
        if checkpoint is None:
            trainer.initialise()
            self._write(0, self.trainer.evaluate(), self.clock.read(), evaluated=True)
            self.checkpoint()  # never the best one: nothing has been learned

        # From here on modules train and the clock runs.
        for module in trainer.task.modules.values():
            module.train()
        self.clock.restart()

    def one_step(self) -> None:
        """A step and what is due after it."""
        # Learn from one batch.
        recipe, result = self.recipe, self.trainer.step()
        step = self.trainer.progress.step

        # What the step number makes due; the last step has everything.
        due = {
            name: step % every == 0 or step == recipe.steps
            for name, every in (
                ("log", recipe.log_every),
                ("evaluate", recipe.evaluate_every),
                ("checkpoint", recipe.checkpoint_every),
            )
        }
        self.clock.count(recipe.batch_size)

        # Evaluate, write the log, give up or go on, save. The clock is of the steps alone.
        written = any((due["log"], due["evaluate"], not result.finite))
        timing = self.clock.read() if written else None
        with self.clock.stopped():
            figures = self.trainer.evaluate() if due["evaluate"] else {}
            if timing is not None:
                self._write(step, {**result.values, **figures}, timing, evaluated=due["evaluate"])
            self._check(result)
            if (due["checkpoint"] or due["evaluate"]) and result.finite:
                self.checkpoint(figures)

    def checkpoint(self, figures: Figures | None = None) -> None:
        """Save the present state, unless it is saved; `figures` say whether it is the best so far."""
        # Is it the best so far? The mark to beat is part of what is saved.
        progress, score = self.trainer.progress, self.trainer.task.score
        value = (figures or {}).get(score.name)
        best = value is not None and score.improves(value, progress.best)
        if value is not None and best:
            progress.best = value

        # One device writes, the others wait.
        if self.first and self.saved_step != progress.step:
            self.checkpoints.save(progress.step, self.trainer.state(), best=best)
            self.journal.write_csv()
        self.saved_step = progress.step
        self.trainer.fabric.barrier()

    def _check(self, result: StepResult) -> None:
        """Say that a step was skipped; after too many in a row, give up."""
        # Most steps are finite, and there is nothing to say.
        progress = self.trainer.progress
        if result.finite:
            return

        # One bad step is no harm, since nothing has moved.
        if self.first:
            warnings.warn(
                f"step {progress.step}: a loss, a gradient or a latent is not finite; the step was skipped "
                f"({progress.in_a_row} in a row)",
                stacklevel=4,
            )

        # Many in a row will not become better by themselves.
        if progress.in_a_row >= self.recipe.patience:
            last = next(iter(self.checkpoints.files()), None)
            raise DivergenceError(
                f"training stopped at step {progress.step}: {progress.in_a_row} steps in a row were not finite; the "
                f"last good checkpoint is {last}; try a smaller lr or clip ({self.trainer.optimizers.describe()})"
            )

    def _write(self, step: int, values: Figures, timing: tuple[float, float], *, evaluated: bool) -> None:
        """A row of the log, sent to whoever watches, too; timings stand apart from what a resume must repeat."""
        speed, waited = timing
        row = {**values, "skipped": self.trainer.progress.skipped}
        self.values |= row

        # One device tells.
        if self.first:
            unit = self.trainer.task.unit
            row |= {f"{unit}_per_s": round(speed, 1), "data_wait": round(waited, 4)}
            self.journal.add(step, row)
            self.hooks.track(step, row)
            self.hooks.progress(ProgressEvent(step, self.values, speed, unit, evaluated))


class _Clock:
    """Items per second, and the share of the time that steps waited for data, since the last reading."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.restart()

    def restart(self) -> None:
        self._since, self._items, self._waited = time.perf_counter(), 0, self._trainer.waited

    def count(self, items: int) -> None:
        self._items += items

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What happens in the block takes no time: evaluations, checkpoints."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - start

    def read(self) -> tuple[float, float]:
        elapsed = max(time.perf_counter() - self._since, 1e-9)
        rates = self._items / elapsed, (self._trainer.waited - self._waited) / elapsed
        self.restart()
        return rates


@contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Ctrl-C waits for the end of the step, where the state is whole; a second one does not wait."""
    # The first Ctrl-C is noted, the second one acts at once.
    interrupted = False

    def note(signum: int, frame: Any) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True

    # Put our handler in the place of the present one for as long as the block lasts.
    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread: whoever runs it there handles signals
        yield lambda: False
        return

    # Whatever happens inside, the earlier handler comes back.
    try:
        yield lambda: interrupted
    finally:
        signal.signal(signal.SIGINT, before)
