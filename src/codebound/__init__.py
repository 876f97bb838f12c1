"""codebound: vector quantization where every number stands next to its limit."""

from importlib.metadata import version
from typing import TYPE_CHECKING

from codebound.extras import on_demand
from codebound.quantize import (
    BSQ,
    FSQ,
    LFQ,
    Product,
    Projected,
    Residual,
    VectorQuantizer,
    auto_update,
    quantizers,
)

if TYPE_CHECKING:
    from codebound.quantize import check_quantizer

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
    "auto_update",
    "check_quantizer",
    "quantizers",
]

__getattr__ = on_demand(__name__, {"check_quantizer": "codebound.quantize.contract"})
