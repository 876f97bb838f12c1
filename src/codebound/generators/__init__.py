"""Priors that sample: new grids of indices, which a tokenizer decodes."""

from codebound.generators.autoregressive import AutoregressivePrior
from codebound.generators.layout import Grid, Layout
from codebound.generators.llama import LlamaPrior
from codebound.generators.masked import MaskedPrior
from codebound.generators.packaged import PictureModel, default_model
from codebound.generators.sounds import SoundPrior

__all__ = [
    "AutoregressivePrior",
    "Grid",
    "Layout",
    "LlamaPrior",
    "MaskedPrior",
    "PictureModel",
    "SoundPrior",
    "default_model",
]
