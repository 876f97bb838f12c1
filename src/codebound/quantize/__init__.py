"""Quantizers: a codebook and five small choices, all of them importable from here.

Two choices are called `Gumbel` in their modules, as they belong together: here `GumbelAssign` and `GumbelEstimator`.
`nearest(z, codebook)` is the search that they all stand on.
"""

from typing import TYPE_CHECKING

from codebound.extras import on_demand
from codebound.quantize.assign import Cosine, EntropyConstrained, Nearest, Soft, Stochastic
from codebound.quantize.assign import Gumbel as GumbelAssign
from codebound.quantize.auto import AutoUpdate, auto_update
from codebound.quantize.base import CodeStats, Quantized, Quantizer, UpdateReport
from codebound.quantize.binary import BSQ, LFQ
from codebound.quantize.bit_trellis import BitTrellis
from codebound.quantize.codebook import Codebook
from codebound.quantize.compose import Product, codebook_parameters, quantizers
from codebound.quantize.estimator import (
    NSVQ,
    DiVeQ,
    Projection,
    Rotation,
    SoftmaxAll,
    StopGradient,
    StraightThrough,
)
from codebound.quantize.estimator import Gumbel as GumbelEstimator
from codebound.quantize.form import Linear, Table, Unit
from codebound.quantize.init import (
    Best,
    KMeans,
    Lattice,
    Normal,
    RateDistortion,
    Sample,
    Synthetic,
    Uniform,
    Xavier,
)
from codebound.quantize.layout import channel_first, channel_first_decode, length_mask
from codebound.quantize.multiscale import MultiScale
from codebound.quantize.residual import Residual
from codebound.quantize.revival import Never, Resample, Split
from codebound.quantize.scalar import FSQ
from codebound.quantize.trellis import Trellis
from codebound.quantize.update import EMA, BlahutArimoto, Frozen, Gradient
from codebound.quantize.vector import VectorQuantizer
from codebound.quantize.wrap import Pooled, Projected, Scaled
from codebound.search import nearest

if TYPE_CHECKING:
    from codebound.quantize.contract import check_quantizer
    from codebound.quantize.spec import from_spec, load, save, to_spec

__all__ = [
    "BSQ",
    "EMA",
    "FSQ",
    "LFQ",
    "NSVQ",
    "AutoUpdate",
    "Best",
    "BitTrellis",
    "BlahutArimoto",
    "CodeStats",
    "Codebook",
    "Cosine",
    "DiVeQ",
    "EntropyConstrained",
    "Frozen",
    "Gradient",
    "GumbelAssign",
    "GumbelEstimator",
    "KMeans",
    "Lattice",
    "Linear",
    "MultiScale",
    "Nearest",
    "Never",
    "Normal",
    "Pooled",
    "Product",
    "Projected",
    "Projection",
    "Quantized",
    "Quantizer",
    "RateDistortion",
    "Resample",
    "Residual",
    "Rotation",
    "Sample",
    "Scaled",
    "Soft",
    "SoftmaxAll",
    "Split",
    "Stochastic",
    "StopGradient",
    "StraightThrough",
    "Synthetic",
    "Table",
    "Trellis",
    "Uniform",
    "Unit",
    "UpdateReport",
    "VectorQuantizer",
    "Xavier",
    "auto_update",
    "channel_first",
    "channel_first_decode",
    "check_quantizer",
    "codebook_parameters",
    "from_spec",
    "length_mask",
    "load",
    "nearest",
    "quantizers",
    "save",
    "to_spec",
]

# pydantic, and what checks a quantizer, take a tenth of a second: for those who ask.
__getattr__ = on_demand(
    __name__,
    {
        "check_quantizer": "codebound.quantize.contract",
        **dict.fromkeys(("from_spec", "load", "save", "to_spec"), "codebound.quantize.spec"),
    },
)
