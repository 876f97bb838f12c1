"""Quantizers: a codebook and five small choices.

`nearest(z, codebook)` is the search that they all stand on.
"""

from codebound.quantize.base import CodeStats, Quantized, Quantizer, UpdateReport
from codebound.quantize.binary import BSQ, LFQ
from codebound.quantize.codebook import Codebook
from codebound.quantize.contract import check_quantizer
from codebound.quantize.scalar import FSQ
from codebound.quantize.vector import VectorQuantizer
from codebound.search import nearest

__all__ = [
    "BSQ",
    "FSQ",
    "LFQ",
    "CodeStats",
    "Codebook",
    "Quantized",
    "Quantizer",
    "UpdateReport",
    "VectorQuantizer",
    "check_quantizer",
    "nearest",
]
