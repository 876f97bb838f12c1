"""The image tokenizer as a task: one network around a quantizer, one optimizer, codebooks that move after it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from codebound.data.augment import Augmentation, augmented
from codebound.data.batch_stream import BatchStream
from codebound.data.image_sets import ImageSet
from codebound.engine.recipe import Schedule
from codebound.engine.task import (
    AfterStep,
    Figures,
    OptimizerPlan,
    ParameterGroup,
    ReplacedRows,
    Score,
    StepLosses,
    Task,
)
from codebound.evaluate.tokenizers import QUICK_SAMPLES, held_out_figures
from codebound.quantize import codebook_parameters
from codebound.quantize.base import Quantized, Quantizer, UpdateReport
from codebound.tokenizers.image import ImageTokenizer

BETAS = (0.9, 0.99)
TOKENS_TO_START = 2  # latents for each codeword that a codebook begins from, at least


class TokenizerOptimization(Augmentation):
    """How an image tokenizer is trained, besides the loop's settings, and what is done to its pictures.

    Attributes:
        lr, warmup: of the networks: the highest rate, and the steps until it is reached.
        codebook_lr, codebook_warmup: the same of codewords that an optimizer moves.
        weight_decay: of the networks' weights; biases and codewords have none.
        clip: largest norm of the gradient; 0 for none.
        init_tokens: latents that the codebook begins from, at least.
    """

    lr: float = Field(default=6e-3, ge=0, allow_inf_nan=False)
    codebook_lr: float = Field(default=6e-3, ge=0, allow_inf_nan=False)
    warmup: int = Field(default=100, ge=0)
    codebook_warmup: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0, allow_inf_nan=False)
    clip: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    init_tokens: int = Field(default=16384, ge=1)


class TokenizerTask(Task[Tensor]):
    """An `ImageTokenizer` on a set of pictures.

    Args:
        tokenizer: what is trained.
        images: batches to train on and held-out pictures to judge by.
        settings: rates and the like.
    """

    kind = "tokenizer"
    unit = "images"
    score = Score("psnr", "higher")
    averaged = ("tokenizer",)

    def __init__(self, tokenizer: ImageTokenizer, images: ImageSet, settings: TokenizerOptimization) -> None:
        self.tokenizer = tokenizer.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.images, self.settings = images, settings
        self.modules: Mapping[str, nn.Module] = {"tokenizer": self.tokenizer}

    def networks(self) -> Sequence[nn.Module]:
        """Encoder and decoder; the quantizer between them is not compiled."""
        return self.tokenizer.encoder, self.tokenizer.decoder

    def optimizers(self) -> Mapping[str, OptimizerPlan]:
        """Weights, which decay; biases, which don't; codewords, with a learning rate of their own."""
        # Codewords that an optimizer moves have a rate of their own; all other parameters are the networks'.
        settings = self.settings
        codewords = codebook_parameters(self.tokenizer)
        own = {id(parameter) for parameter in codewords}
        rest = [parameter for parameter in self.tokenizer.parameters() if id(parameter) not in own]

        # Two schedules, and weight decay for matrices and kernels alone.
        networks = Schedule(peak=settings.lr, warmup=settings.warmup)
        codebooks = Schedule(peak=settings.codebook_lr, warmup=settings.codebook_warmup)
        groups = [
            ParameterGroup([p for p in rest if p.ndim > 1], networks, settings.weight_decay),
            ParameterGroup([p for p in rest if p.ndim <= 1], networks),
            ParameterGroup(codewords, codebooks),
        ]
        return {"tokenizer": OptimizerPlan([g for g in groups if g.parameters], BETAS, settings.clip)}

    def batches(self, seed: int, first_step: int, size: int) -> BatchStream[Tensor]:
        """The batches of the set of pictures, augmented."""
        stream = self.images.batches(seed, first_step, size)
        return stream.map(lambda batch, step: augmented(batch, self.settings, seed, step), first_step)

    def initialise(self, batches: Iterator[Tensor], devices: int) -> None:
        """Codebooks begin from the latents of as many pictures as `init_tokens` needs, joined over the devices."""
        # How many latents the largest codebook needs, at least.
        quantizer = self.tokenizer.quantizer
        largest = max((len(book.table) for book in quantizer.codebooks() if book is not None), default=0)
        missing = max(self.settings.init_tokens, TOKENS_TO_START * largest)

        # Encode batches until there are as many, counting what the other devices encode meanwhile.
        latents: list[Tensor] = []
        while missing > 0:
            latents.append(self.tokenizer.latents(next(batches)))
            missing -= devices * math.prod(latents[-1].shape[:-1])
        quantizer.init_(torch.cat(latents))

    def losses(self, batch: Tensor, step: int) -> StepLosses:
        """Encode, quantize and decode; fit to learn from only where every latent has an index."""
        result = self.tokenizer(self.tokenizer.to_network(batch))
        first = result.quantized.indices[..., 0]  # depth dropout leaves out later stages, and gives them −1
        return StepLosses(
            {"tokenizer": result.loss},
            {"loss": result.loss, "reconstruction": result.reconstruction},
            record=result.quantized,
            usable=(first >= 0).all(),
        )

    def after_step(self, records: Sequence[Quantized]) -> AfterStep:
        """Codebooks move; codewords that were revived are no continuation of those that they replace."""
        return update_codebooks(self.tokenizer.quantizer, records)

    def evaluate(self) -> Figures:
        """Figures of the held-out pictures, from fewer latents than the final ones: it must not take long."""
        return held_out_figures(self.tokenizer, self.images.held_out, QUICK_SAMPLES)


def update_codebooks(quantizer: Quantizer, records: Sequence[Quantized]) -> AfterStep:
    """Move a quantizer's codebooks by what passes found, and say which codewords begin anew."""
    report = quantizer.update_(*records)
    replaced = [
        ReplacedRows(book.table, rows)
        for book, rows in zip(quantizer.codebooks(), report.revived, strict=False)
        if book is not None and isinstance(book.table, nn.Parameter) and len(rows)
    ]
    return AfterStep(_values(report), replaced)


def _values(report: UpdateReport) -> dict[str, float]:
    """The figures of an update for the log, means over the codebooks that count."""
    values = {
        "window_usage": _mean(report.window_usage),
        "window_perplexity": _mean(report.window_perplexity),
        "revived": sum(len(rows) for rows in report.revived),
    }
    return values if report.slope is None else {**values, "slope": report.slope}


def _mean(values: tuple[float, ...]) -> float:
    """The mean of those that are known."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
