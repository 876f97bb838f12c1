"""codebound: vector quantization where every number stands next to its limit."""

from importlib.metadata import version

from codebound.quantize import (
    BSQ,
    FSQ,
    LFQ,
    Product,
    Projected,
    Residual,
    VectorQuantizer,
    check_quantizer,
    quantizers,
)

__version__ = version("codebound")

__all__ = [
    "BSQ",
    "FSQ",
    "LFQ",
    "Product",
    "Projected",
    "Residual",
    "VectorQuantizer",
    "__version__",
    "check_quantizer",
    "quantizers",
]
