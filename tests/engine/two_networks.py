"""A task of two networks that play against each other, with two optimizers: small enough to be killed often.

The generator moves a Gaussian towards the data, a ring; the discriminator tells them apart (Goodfellow et al. 2014,
with the hinge loss).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from codebound.data.batch_stream import BatchStream
from codebound.engine.checkpoints import Checkpoints
from codebound.engine.devices import launch
from codebound.engine.journal import Journal
from codebound.engine.loop import Hooks, fit
from codebound.engine.recipe import Recipe, Schedule
from codebound.engine.task import AfterStep, Figures, OptimizerPlan, ParameterGroup, Score, StepLosses, Task
from codebound.engine.trainer import Trainer

RECIPE = Recipe(steps=40, batch_size=16, log_every=4, evaluate_every=10, checkpoint_every=6, average=0.9)


def network(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 16), nn.LeakyReLU(0.2), nn.Linear(16, outputs))


class Duel(Task[tuple[Tensor, Tensor]]):
    """Generator and discriminator."""

    kind, unit = "duel", "points"
    score = Score("distance", "lower")
    averaged = ("generator",)

    def __init__(self, poison: int | None = None, blur: float = 0.05) -> None:
        torch.manual_seed(0)
        self.blur = blur
        self.generator, self.discriminator = network(2, 2), network(2, 1)
        self.modules = {"generator": self.generator, "discriminator": self.discriminator}
        self.poison = poison  # a step in which the discriminator's gradient is not finite
        self.moved = 0

    def optimizers(self) -> dict[str, OptimizerPlan]:
        def plan(module: nn.Module, rate: float) -> OptimizerPlan:
            group = ParameterGroup(list(module.parameters()), Schedule(peak=rate, warmup=3))
            return OptimizerPlan([group], (0.5, 0.9), 1.0)

        return {"generator": plan(self.generator, 1e-3), "discriminator": plan(self.discriminator, 4e-3)}

    def batches(self, seed: int, first_step: int, size: int) -> BatchStream[tuple[Tensor, Tensor]]:
        def read() -> Iterator[tuple[Tensor, Tensor]]:
            step = first_step
            while True:
                draw = torch.Generator().manual_seed(1000 * seed + step)
                angle = 2 * math.pi * torch.rand(size, generator=draw)
                yield torch.stack([angle.cos(), angle.sin()], 1), torch.randn(size, 2, generator=draw)
                step += 1

        return BatchStream(read())

    def initialise(self, batches: Iterator[tuple[Tensor, Tensor]], devices: int) -> None:
        data, _ = next(batches)
        with torch.no_grad():  # not the mean of the data: every device has other items
            self.generator[2].bias.fill_(data.shape[1])

    def losses(self, batch: tuple[Tensor, Tensor], step: int) -> StepLosses:
        data, noise = batch
        made = self.generator(noise)
        # torch's own generator decides, too: its state must come back with a resume.
        blurred = data + self.blur * torch.randn_like(data)
        real, fake = self.discriminator(blurred), self.discriminator(made.detach())
        judge = (1 - real).relu().mean() + (1 + fake).relu().mean()
        if step == self.poison:
            judge = judge * float("nan")
        return StepLosses(
            {"generator": -self.discriminator(made).mean(), "discriminator": judge},
            {"judge": judge},
            record=len(data),
        )

    def after_step(self, records: list[int]) -> AfterStep:
        self.moved += sum(records)
        return AfterStep({"moved": float(self.moved > 0)})

    def evaluate(self) -> Figures:
        draw = torch.Generator().manual_seed(7)
        made = self.generator(torch.randn(64, 2, generator=draw).to(next(self.generator.parameters()).device))
        return {"distance": float((made.norm(dim=1) - 1).abs().mean())}


def run(folder: Path, devices: int = 1, blur: float = 0.05) -> Trainer:
    trainer = Trainer(launch("cpu", devices), Duel(blur=blur), RECIPE)
    fit(trainer, Checkpoints(folder / "checkpoints", 3), Journal(folder), Hooks())
    return trainer
