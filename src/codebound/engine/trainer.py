"""One training step of an image tokenizer, and everything that a step leaves behind."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from codebound.data.image_sets import ImageSet
from codebound.data.recolour import recoloured
from codebound.engine.checkpoints import random_state, restore_random_state
from codebound.engine.recipe import Recipe
from codebound.errors import InputError
from codebound.quantize import Quantizer, codebook_parameters
from codebound.quantize.base import Quantized, UpdateReport
from codebound.quantize.scalar import ScalarQuantizer
from codebound.quantize.vector import VectorQuantizer
from codebound.tokenizers.image import ImageTokenizer

INIT_STEP = 2**40  # where the batches for the codebook's start begin: steps that no training reaches
_BETAS = (0.9, 0.99)


class Stepped(NamedTuple):
    """What a step saw."""

    finite: bool  # otherwise nothing has moved
    values: dict[str, float]


@dataclass
class Progress:
    """Where a training stands."""

    step: int = 0
    skipped: int = 0  # steps without a finite gradient
    in_a_row: int = 0
    best: float = -math.inf


class Trainer:
    """Model, optimizer and averaged weights of one training; `step` is pure in (state, seed, step).

    Raises:
        InputError: a batch that the devices can't share equally.
    """

    def __init__(self, fabric: Fabric, tokenizer: ImageTokenizer, images: ImageSet, recipe: Recipe) -> None:
        if recipe.batch_size % fabric.world_size:
            raise InputError(
                f"batch_size={recipe.batch_size} is no multiple of the {fabric.world_size} devices"
            )
        self.fabric, self.images, self.recipe = fabric, images, recipe
        self.tokenizer = tokenizer.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        groups = _parameter_groups(self.tokenizer, recipe)
        # foreach: one kernel for all small tensors, and the same result as one after another.
        optimizer = torch.optim.AdamW(groups, betas=_BETAS, foreach=True)
        self.model, self.optimizer = fabric.setup(self.tokenizer, optimizer)
        self.average = {name: p.detach().clone() for name, p in self.tokenizer.named_parameters()}
        self.progress = Progress()

    def initialise(self) -> None:
        """The codebook from many batches of latents, joined over the devices."""
        per_picture = math.prod(-(-side // self.tokenizer.stride) for side in self.images.size)
        batches = -(-self.recipe.init_tokens // (per_picture * self.recipe.batch_size))
        latents = [self.tokenizer.latents(self._batch(INIT_STEP + i)) for i in range(batches)]
        self.tokenizer.quantizer.init_(torch.cat(latents))
        self._restart_average()

    def step(self) -> Stepped:
        """One update, or none where the loss, the gradient or a latent is not finite."""
        lr, codebook_lr = self.recipe.learning_rates(self.progress.step)
        for group in self.optimizer.param_groups:
            group["lr"] = codebook_lr if group["codewords"] else lr
        x = self.tokenizer.to_network(self._batch(self.progress.step))
        # Fabric's own bf16 would turn the float64 sums of the codebook's statistics into float32.
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            found = self.model(x)
        self.optimizer.zero_grad()
        self.fabric.backward(found.loss)
        norm = self._clip()
        first = found.quantized.indices[..., 0]  # depth dropout leaves out later stages, and gives them −1
        whole = norm.isfinite() & found.loss.isfinite() & (first >= 0).all()
        finite = self.everywhere(bool(whole))
        report = self._move(found.quantized) if finite else None
        self.progress.step += 1
        self.progress.skipped += not finite
        self.progress.in_a_row = 0 if finite else self.progress.in_a_row + 1
        return Stepped(finite, _values(found.loss, found.reconstruction, norm, lr, report))

    @contextmanager
    def averaged(self) -> Iterator[ImageTokenizer]:
        """The tokenizer in eval with the averaged weights in the place of the present ones."""
        self._swap()
        try:
            yield self.tokenizer.eval()
        finally:
            self.tokenizer.train()
            self._swap()

    def state(self) -> dict[str, Any]:
        """All that an exact resume needs."""
        return {
            "model": self.tokenizer.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "random": random_state(),
            "progress": asdict(self.progress),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Take up a `state`."""
        self.tokenizer.load_state_dict(state["model"])
        self.optimizer.load_state_dict(dict(state["optimizer"]))
        for name, tensor in self.average.items():
            tensor.copy_(state["average"][name])
        restore_random_state(state["random"])
        self.progress = Progress(**state["progress"])

    def _batch(self, step: int) -> Tensor:
        """This device's share of a step's pictures."""
        recipe = self.recipe
        whole = recoloured(
            self.images.batch(recipe.seed, step, recipe.batch_size), recipe.recolour, recipe.seed, step
        )
        return whole[self.fabric.global_rank :: self.fabric.world_size].to(self.fabric.device)

    def _clip(self) -> Tensor:
        """The gradient's norm, before it is cut to `clip`."""
        most = self.recipe.clip or math.inf
        norm = self.fabric.clip_gradients(self.model, self.optimizer, max_norm=most, error_if_nonfinite=False)
        assert norm is not None
        return norm

    def everywhere(self, here: bool) -> bool:
        """Whether it is so on every device."""
        if self.fabric.world_size == 1:
            return here
        total = self.fabric.all_reduce(torch.tensor(float(here)), reduce_op="sum")
        assert isinstance(total, Tensor)
        return int(total) == self.fabric.world_size

    def _move(self, quantized: Quantized) -> UpdateReport:
        self.optimizer.step()
        report = self.tokenizer.quantizer.update_(quantized)
        self._forget(report)
        # As in Adam: early means are of few steps, so that they are no means of the beginning.
        decay = min(self.recipe.average, (1 + self.progress.step) / (10 + self.progress.step))
        with torch.no_grad():
            for name, parameter in self.tokenizer.named_parameters():
                self.average[name].lerp_(parameter, 1 - decay)
        return report

    def _forget(self, report: UpdateReport) -> None:
        """Zero the optimizer's moments of codewords that were replaced: they belonged to others."""
        for leaf, rows in zip(leaves(self.tokenizer.quantizer), report.revived, strict=True):
            table = leaf.codebook.table if isinstance(leaf, VectorQuantizer) else None
            if len(rows) and isinstance(table, nn.Parameter):
                for moment in self.optimizer.state.get(table, {}).values():
                    if moment.shape == table.shape:
                        moment[rows] = 0
                self.average[self._name(table)][rows] = table.detach()[rows]

    def _name(self, parameter: nn.Parameter) -> str:
        return next(name for name, p in self.tokenizer.named_parameters() if p is parameter)

    def _swap(self) -> None:
        with torch.no_grad():
            for name, parameter in self.tokenizer.named_parameters():
                present = parameter.detach().clone()
                parameter.copy_(self.average[name])
                self.average[name].copy_(present)

    def _restart_average(self) -> None:
        for name, parameter in self.tokenizer.named_parameters():
            self.average[name].copy_(parameter.detach())


def leaves(quantizer: Quantizer) -> list[Quantizer]:
    """The quantizers inside that have codewords of their own, in the order of an `UpdateReport`."""
    return [m for m in quantizer.modules() if isinstance(m, VectorQuantizer | ScalarQuantizer)]


def _parameter_groups(tokenizer: ImageTokenizer, recipe: Recipe) -> list[dict[str, Any]]:
    """Weights, which decay; biases, which don't; codewords, with a learning rate of their own."""
    books = codebook_parameters(tokenizer)
    own = {id(parameter) for parameter in books}
    rest = [parameter for parameter in tokenizer.parameters() if id(parameter) not in own]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": recipe.weight_decay, "codewords": False},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0, "codewords": False},
        {"params": books, "weight_decay": 0.0, "codewords": True},
    ]
    return [group for group in groups if group["params"]]


def _values(
    loss: Tensor, reconstruction: Tensor, norm: Tensor, lr: float, report: UpdateReport | None
) -> dict[str, float]:
    seen = {"loss": loss, "reconstruction": reconstruction, "gradient_norm": norm}
    values = {name: float(value.detach()) for name, value in seen.items()} | {"lr": lr}
    if report is not None:
        usage, perplexity = report.window_usage, report.window_perplexity
        values |= {
            "window_usage": sum(usage) / len(usage),
            "window_perplexity": sum(perplexity) / len(perplexity),
            "revived": sum(len(rows) for rows in report.revived),
        }
        if report.slope is not None:
            values["slope"] = report.slope
    return values
