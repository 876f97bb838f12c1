"""The audio tokenizer as a task: its networks learn, on codebooks that are fitted once or that learn with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from codebound import config
from codebound.data.batch_stream import BatchStream
from codebound.data.sound_sets import SoundSet
from codebound.engine.recipe import Schedule
from codebound.engine.task import AfterStep, Figures, OptimizerPlan, ParameterGroup, Score, StepLosses, Task
from codebound.evaluate.sounds import bitrates, held_out_figures
from codebound.metrics import sound as metrics
from codebound.sound.resampling import LOUDEST
from codebound.tasks.audio_codes import AudioCodes, FixedCodes, LearnedCodes
from codebound.tokenizers.audio import AudioTokenizer
from codebound.tokenizers.audio_fitting import FrameCodeSettings

BETAS = (0.8, 0.98)


class AudioOptimization(config.Settings):
    """How an audio tokenizer is trained, besides the loop's settings.

    Attributes:
        seconds: of a crop.
        fit_frames: frames that transform and codebooks are fitted to.
        lr, warmup, weight_decay, clip: of the network.
        magnitude, complex, mel: weights of the losses: compressed spectra, their magnitudes and their complex values,
            and log-mel magnitudes.
        full_depth: share of crops that are coded by all stages; the others by 2 … all, uniformly (from 1 on where
            codebooks learn).
        commitment: weight of the distance of latents from their codewords, where an encoder learns.
    """

    seconds: float = Field(default=2.0, gt=0, le=60)
    fit_frames: int = Field(default=60_000, ge=16)
    lr: float = Field(default=1.2e-3, ge=0, allow_inf_nan=False)
    warmup: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=1e-3, ge=0, allow_inf_nan=False)
    clip: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    magnitude: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    complex: float = Field(default=4.0, ge=0, allow_inf_nan=False)
    mel: float = Field(default=0.02, ge=0, allow_inf_nan=False)
    full_depth: float = Field(default=0.25, ge=0, le=1)
    commitment: float = Field(default=0.02, ge=0, allow_inf_nan=False)


Crops = tuple[Float[Tensor, "b n"], Int64[Tensor, " b"]]
"""Whole samples, and by how many stages each crop is coded."""


class AudioTask(Task[Crops]):
    """An `AudioTokenizer` on a set of sound.

    Args:
        tokenizer: with a network. With a transform this and the codebooks are fitted before the first step; those of a
            `Seanet` begin there, and learn.
        sounds: crops to train on and held-out recordings to judge by.
        settings: rates and the like.
        code: how transform and codebooks are fitted.
        seed: of what is drawn besides the crops.
        begun: the tokenizer has its transform and codebooks already: only its decoder is trained.
    """

    kind = "audio"
    unit = "crops"
    score = Score("mel", "lower")
    averaged = ("tokenizer",)

    def __init__(
        self,
        tokenizer: AudioTokenizer,
        sounds: SoundSet,
        settings: AudioOptimization,
        code: FrameCodeSettings,
        seed: int = 0,
        begun: bool = False,
    ) -> None:
        self.begun = begun
        self.tokenizer, self.sounds, self.settings, self.code, self.seed = (
            tokenizer,
            sounds,
            settings,
            code,
            seed,
        )
        make = FixedCodes if tokenizer.seanet is None else LearnedCodes
        self.codes: AudioCodes = make(tokenizer, settings, code, seed)
        hops = max(round(settings.seconds * tokenizer.frame_rate), 1)
        self.length = hops * tokenizer.hop
        self.modules: Mapping[str, torch.nn.Module] = {"tokenizer": tokenizer, **self.codes.modules}

    def optimizers(self) -> Mapping[str, OptimizerPlan]:
        """Matrices and kernels, which decay; all others, which don't."""
        return {"tokenizer": plan(self.tokenizer, self.settings, BETAS)}

    def batches(self, seed: int, first_step: int, size: int) -> BatchStream[Crops]:
        """Crops, each at a speed, a gain and a depth of its own: drawn here, before devices take their shares."""
        crops = self.sounds.batches(seed, first_step, size, self.length)
        return crops.map(lambda batch, step: (batch, self.depths(step, len(batch))), first_step)

    def depths(self, step: int, size: int) -> Int64[Tensor, " size"]:
        """How many stages code each crop of a step; all, where the codes draw it themselves."""
        stages, rng = len(self.tokenizer.codebook_sizes), np.random.default_rng((self.seed, step, 1))
        if not self.codes.takes_depths:
            return torch.full((size,), stages)
        drawn = []
        for _ in range(size):
            full = rng.random() < self.settings.full_depth or stages < 2
            drawn.append(stages if full else int(rng.integers(2, stages + 1)))
        return torch.tensor(drawn)

    def initialise(self, batches: Iterator[Crops], devices: int) -> None:
        """Codebooks, and a transform, begin from crops."""
        if not self.begun:
            self.codes.begin((crops for crops, _ in batches), devices)

    def losses(self, batch: Crops, step: int) -> StepLosses:
        """Decode the codes of each crop at a depth of its own, and compare spectra."""
        x = batch[0] / LOUDEST
        coded = self.codes.coded(*batch)
        values = self.distances(x, self.tokenizer(coded.z), step)
        loss = self.weighed(values) + coded.loss
        values |= {"loss": loss, **coded.values}
        return StepLosses({"tokenizer": loss}, values, coded.record, coded.usable)

    def after_step(self, records: Sequence[Any]) -> AfterStep:
        """Codebooks move, where they learn."""
        return self.codes.after_step(records)

    def weighed(self, values: Mapping[str, Tensor]) -> Tensor:
        """The sum of the distances, each times its weight in the settings."""
        return torch.stack([getattr(self.settings, name) * value for name, value in values.items()]).sum()

    def distances(self, x: Float[Tensor, "b n"], made: Float[Tensor, "b n"], step: int) -> dict[str, Tensor]:
        """What training lowers, unweighted: windows of 256 to 2048 samples by turns."""
        size = (512, 1024, 256, 2048)[step % 4]
        magnitude, both = metrics.compressed_distances(made, x, 512)
        mel = metrics.mel_distance(made, x, self.tokenizer.sample_rate, (size,))
        return {"magnitude": magnitude, "complex": both, "mel": mel}

    def evaluate(self) -> Figures:
        """Figures of a few held-out recordings at all stages."""
        self.codes.settle()
        clips = self.sounds.judged()[:4]
        return held_out_figures(self.tokenizer, clips, bitrates(self.tokenizer)[-1])


def plan(module: torch.nn.Module, settings: AudioOptimization, betas: tuple[float, float]) -> OptimizerPlan:
    """AdamW of all parameters, weight decay for matrices and kernels alone."""
    parameters, schedule = list(module.parameters()), Schedule(peak=settings.lr, warmup=settings.warmup)
    groups = [
        ParameterGroup([p for p in parameters if p.ndim > 1], schedule, settings.weight_decay),
        ParameterGroup([p for p in parameters if p.ndim <= 1], schedule),
    ]
    return OptimizerPlan(groups, betas, settings.clip)
