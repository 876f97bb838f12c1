"""Quantizers: a codebook and five small choices.

`nearest(z, codebook)` is the search that they all stand on.
"""

from typing import TYPE_CHECKING

from codebound.extras import on_demand
from codebound.quantize.base import CodeStats, Quantized, Quantizer, UpdateReport
from codebound.quantize.binary import BSQ, LFQ
from codebound.quantize.codebook import Codebook
from codebound.quantize.compose import Product, codebook_parameters, quantizers
from codebound.quantize.residual import Residual
from codebound.quantize.scalar import FSQ
from codebound.quantize.vector import VectorQuantizer
from codebound.quantize.wrap import Projected, Scaled
from codebound.search import nearest

if TYPE_CHECKING:
    from codebound.quantize.contract import check_quantizer
    from codebound.quantize.spec import from_spec, load, save, to_spec

__all__ = [
    "BSQ",
    "FSQ",
    "LFQ",
    "CodeStats",
    "Codebook",
    "Product",
    "Projected",
    "Quantized",
    "Quantizer",
    "Residual",
    "Scaled",
    "UpdateReport",
    "VectorQuantizer",
    "check_quantizer",
    "codebook_parameters",
    "from_spec",
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
