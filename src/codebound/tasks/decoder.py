"""The decoder of an image tokenizer alone, on frozen codes: files and priors of the codes stay valid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from codebound.engine.recipe import Schedule
from codebound.engine.task import AfterStep, OptimizerPlan, ParameterGroup, StepLosses
from codebound.quantize.base import Quantized
from codebound.quantize.layout import channel_first
from codebound.tasks.tokenizer import BETAS, TokenizerTask
from codebound.tokenizers.image import ImageTokenizer, Reconstruction


class DecoderTask(TokenizerTask):
    """An `ImageTokenizer` of which only the decoder learns, by squared error.

    Args:
        tokenizer, images, settings: as `TokenizerTask`; encoder and quantizer are those of a finished training.
    """

    kind = "decoder"

    def optimizers(self) -> Mapping[str, OptimizerPlan]:
        """That of the decoder."""
        return {"tokenizer": OptimizerPlan([decoder_group(self)], BETAS, self.settings.clip)}

    def initialise(self, batches: Iterator[Tensor], devices: int) -> None:
        """The codebooks stay as they are."""

    def losses(self, batch: Tensor, step: int) -> StepLosses:
        """The squared error of what frozen codes decode to."""
        result = from_frozen_codes(self.tokenizer, self.tokenizer.to_network(batch))
        known = (result.quantized.indices[..., 0] >= 0).all()
        values = {"loss": result.loss, "reconstruction": result.reconstruction}
        return StepLosses({"tokenizer": result.loss}, values, record=result.quantized, usable=known)

    def after_step(self, records: Sequence[Quantized]) -> AfterStep:
        """No codebook moves."""
        return AfterStep({})


def decoder_group(task: TokenizerTask) -> ParameterGroup:
    """All weights of the decoder, at the rate of the networks."""
    schedule = Schedule(peak=task.settings.lr, warmup=task.settings.warmup)
    return ParameterGroup(list(task.tokenizer.decoder.parameters()), schedule)


def from_frozen_codes(tokenizer: ImageTokenizer, x: Tensor) -> Reconstruction:
    """A forward pass whose codes have neither gradient nor losses of their own; x in [−1, 1]."""
    with torch.no_grad():
        quantized = channel_first(tokenizer.quantizer.eval(), tokenizer.encoder(x))
    x_hat = tokenizer.decoder(quantized.z_q)
    error = (x - x_hat).square().mean() * (tokenizer.channels * tokenizer.stride**2)
    return Reconstruction(x_hat, error, error, quantized)
