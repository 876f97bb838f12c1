"""Fit a prior to segments of frames: networks trained in float, then rounded to the integers that code files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from jaxtyping import Float64, Int64
from pydantic import Field
from torch import Tensor, nn

from codebound import config
from codebound.coding.range_coder import Meter
from codebound.errors import InputError
from codebound.priors.fitting import quantized_layer
from codebound.priors.frame_prior import (
    FramePrior,
    StageNetwork,
    first_inputs,
    groups,
    halvings,
    inputs_of,
    later_inputs,
)
from codebound.priors.network import HIGHEST
from codebound.sound.frames import StagedCode

UNIT = 1 / 512  # of an input, as a trained network sees it
CALIBRATION = 1 << 13  # rows that the range of activations is taken from


class FrameFitSettings(config.Settings):
    """How a prior of frames is trained; each stage has a network of its own.

    Attributes:
        steps: of AdamW with a one-cycle rate.
        batch_size: segments per step.
        hidden: units in each of the two hidden layers.
        learning_rate, weight_decay: of AdamW.
        seed: of first weights and draws.
    """

    steps: int = Field(default=1200, ge=1)
    batch_size: int = Field(default=12, ge=1)
    hidden: int = Field(default=64, ge=1, le=512)
    learning_rate: float = Field(default=3e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=1e-2, ge=0, allow_inf_nan=False)
    seed: int = 0


class FloatStage(nn.Module):
    """`StageNetwork` while it is trained; logits in nats."""

    def __init__(self, inputs: int, hidden: int, codebook_size: int) -> None:
        super().__init__()
        self.groups, self.members = groups(codebook_size)
        self.first, self.second = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)
        self.high, self.low = nn.Linear(hidden, self.groups), nn.Linear(hidden, codebook_size)

    def hidden(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activations of both hidden layers."""
        first = torch.relu(self.first(x))
        return first, torch.relu(self.second(first))

    def loss(self, x: Tensor, indices: Tensor) -> Tensor:
        """Mean −ln of the probability of each index."""
        hidden = self.hidden(x)[1]
        group, member = indices // self.members, indices % self.members
        missing = self.groups * self.members - len(self.low.bias)
        weight = nn.functional.pad(self.low.weight, (0, 0, 0, missing)).view(self.groups, self.members, -1)
        bias = nn.functional.pad(self.low.bias, (0, missing), value=-1e4).view(self.groups, self.members)
        logits = torch.einsum("nmh,nh->nm", weight[group], hidden) + bias[group]
        of_groups = nn.functional.cross_entropy(self.high(hidden), group)
        return of_groups + nn.functional.cross_entropy(logits, member)


def fit_frame_prior(
    segments: Int64[np.ndarray, "n t q"],
    code: StagedCode,
    settings: FrameFitSettings = FrameFitSettings(),  # noqa: B008  immutable
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> FramePrior:
    """A prior for segments like these.

    Args:
        segments: indices of consecutive frames.
        progress: called with steps done and steps in all.

    Raises:
        InputError: no segment, or of other stages than the code has.
    """
    if not len(segments) or segments.shape[2] != code.stages:
        raise InputError(f"segments have shape {segments.shape}; [n, t, {code.stages}], n > 0, is accepted")
    size, stages = code.codebooks.shape[1], code.stages
    generator = np.random.default_rng(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        models = nn.ModuleList(
            FloatStage(inputs_of(stage, code.dim), settings.hidden, size) for stage in range(stages)
        )

    # All stages learn at once, each from what it will see of the others.
    optimizer = torch.optim.AdamW(models.parameters(), weight_decay=settings.weight_decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1
    )
    for step in range(settings.steps):
        progress(step, settings.steps)
        drawn = segments[generator.integers(len(segments), size=settings.batch_size)]
        optimizer.zero_grad()
        for model, (inputs, indices) in zip(models, examples(drawn, code), strict=True):
            assert isinstance(model, FloatStage)
            x = torch.from_numpy(inputs).float() * UNIT
            model.loss(x, torch.from_numpy(indices)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
    progress(settings.steps, settings.steps)

    # To integers, with activations over their range in some segments.
    some = segments[generator.integers(len(segments), size=max(CALIBRATION // segments.shape[1], 1))]
    networks = []
    for model, (inputs, _) in zip(models, examples(some, code), strict=True):
        assert isinstance(model, FloatStage)
        networks.append(rounded(model, torch.from_numpy(inputs).float() * UNIT))
    return FramePrior(size, code.dim, tuple(networks))


def examples(
    segments: Int64[np.ndarray, "n t q"], code: StagedCode
) -> list[tuple[Int64[np.ndarray, "m i"], Int64[np.ndarray, " m"]]]:
    """What the network of each stage sees, and what it is to predict."""
    inputs: list[list[np.ndarray]] = [[] for _ in range(code.stages)]
    values: list[list[np.ndarray]] = [[] for _ in range(code.stages)]
    for indices in segments:
        known = np.zeros((len(indices), code.dim), dtype=np.int32)
        for distance, at in halvings(len(indices)):
            inputs[0].append(first_inputs(known, at, distance))
            values[0].append(indices[at, 0])
            known[at] = code.decode(indices[at, :1])
        total = known
        for stage in range(1, code.stages):
            inputs[stage].append(later_inputs(total))
            values[stage].append(indices[:, stage])
            total = total + code.codebooks[stage][indices[:, stage]].astype(np.int32) * code.steps[stage]
    return [(np.concatenate(x), np.concatenate(y)) for x, y in zip(inputs, values, strict=True)]


@torch.no_grad()
def rounded(model: FloatStage, x: Tensor) -> StageNetwork:
    """The integer network nearest to a trained one."""
    units = [float(activation.max().clamp_min(1e-6)) / HIGHEST for activation in model.hidden(x)]
    bits = math.log(2) / 256
    return StageNetwork(
        quantized_layer(model.first, UNIT, units[0]),
        quantized_layer(model.second, units[0], units[1]),
        quantized_layer(model.high, units[1], bits),
        quantized_layer(model.low, units[1], bits),
    )


def stage_bits(
    prior: FramePrior, segments: Iterable[Int64[np.ndarray, "_ q"]], code: StagedCode
) -> Float64[np.ndarray, " q"]:
    """−log2 of the probability that the integer networks give, in bits per index, of each stage; of segments that are
    each coded by themselves."""
    segments, bits = list(segments), []
    frames = sum(map(len, segments))
    for stages in range(1, segments[0].shape[1] + 1):
        meter = Meter()
        for indices in segments:
            prior.code(meter, indices[:, :stages], code)
        bits.append(meter.bits / frames)
    return np.diff(np.array([0.0, *bits]))
