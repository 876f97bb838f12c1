"""The hierarchical tokenizer as a task: as the image tokenizer's, with a codebook for each level."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from codebound.data.image_sets import ImageSet
from codebound.engine.task import AfterStep, Figures, StepLosses
from codebound.evaluate.hierarchies import hierarchy_figures
from codebound.quantize.base import Quantized
from codebound.tasks.tokenizer import TOKENS_TO_START, TokenizerOptimization, TokenizerTask, update_codebooks
from codebound.tokenizers.hierarchy import HierarchicalTokenizer

QUICK = 256  # held-out pictures that judge it while it trains


class HierarchyTask(TokenizerTask):
    """A `HierarchicalTokenizer` on a set of pictures.

    Args:
        tokenizer: what is trained.
        images: batches to train on and held-out pictures to judge by.
        settings: rates and the like, as for the image tokenizer.
    """

    kind = "vqvae2"
    tokenizer: HierarchicalTokenizer  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self, tokenizer: HierarchicalTokenizer, images: ImageSet, settings: TokenizerOptimization
    ) -> None:
        self.tokenizer = tokenizer.to(memory_format=torch.channels_last)  # pyright: ignore
        self.images, self.settings = images, settings
        self.modules: Mapping[str, nn.Module] = {"tokenizer": self.tokenizer}

    def networks(self) -> Sequence[nn.Module]:
        """All but the quantizers."""
        return [*self.tokenizer.down, *self.tokenizer.across, *self.tokenizer.up]

    def initialise(self, batches: Iterator[Tensor], devices: int) -> None:
        """Codebooks begin from as many pictures as the coarsest grid, which has the fewest latents, needs."""
        # Latents that the largest codebook needs, at least, from the coarsest grid, counting the other devices'.
        largest = max(size for sizes in self.tokenizer.codebook_sizes for size in sizes)
        height, width, _ = self.tokenizer.grids(self.images.size)[0]
        missing = max(self.settings.init_tokens, TOKENS_TO_START * largest)
        images: list[Tensor] = []
        while missing > 0:
            images.append(next(batches))
            missing -= devices * len(images[-1]) * math.prod((height, width))
        self.tokenizer.init_(torch.cat(images))

    def losses(self, batch: Tensor, step: int) -> StepLosses:
        """Encode, quantize and decode all levels; fit to learn from only where every latent has an index."""
        result = self.tokenizer(self.tokenizer.to_network(batch))
        known = [(quantized.indices[..., 0] >= 0).all() for quantized in result.quantized]
        return StepLosses(
            {"tokenizer": result.loss},
            {"loss": result.loss, "reconstruction": result.reconstruction},
            record=result.quantized,
            usable=torch.stack(known).all(),
        )

    def after_step(self, records: Sequence[tuple[Quantized, ...]]) -> AfterStep:  # pyright: ignore
        """The codebooks of every level move; figures in the log carry the level's number."""
        values, replaced = {}, []
        for level, results in enumerate(zip(*records, strict=True)):
            after = update_codebooks(self.tokenizer.quantizers[level], results)  # pyright: ignore
            values |= {f"{name}_{level}": value for name, value in after.values.items()}
            replaced += after.replaced
        return AfterStep(values, replaced)

    def evaluate(self) -> Figures:
        """Figures of some held-out pictures."""
        found = hierarchy_figures(self.tokenizer, self.images.held_out[:QUICK])
        levels = {f"worth_db_{n}": level["worth_db"] for n, level in enumerate(found["levels"])}
        return {"psnr": found["psnr"], "usage": found["usage"], **levels}
