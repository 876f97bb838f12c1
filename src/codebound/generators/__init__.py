"""Priors that sample: new grids of indices, which a tokenizer decodes."""

from codebound.generators.autoregressive import AutoregressivePrior
from codebound.generators.layout import Grid, Layout
from codebound.generators.masked import MaskedPrior
from codebound.generators.packaged import PictureModel, default_model
from codebound.generators.sounds import SoundPrior

__all__ = [
    "AutoregressivePrior",
    "Grid",
    "Layout",
    "MaskedPrior",
    "PictureModel",
    "SoundPrior",
    "default_model",
]
