"""codebound: vector quantization where every number stands next to its limit."""

from importlib.metadata import version
from typing import TYPE_CHECKING

from codebound.extras import on_demand

if TYPE_CHECKING:
    from codebound.quantize import (
        BSQ,
        FSQ,
        LFQ,
        BitTrellis,
        Product,
        Projected,
        Residual,
        Trellis,
        VectorQuantizer,
        auto_update,
        check_quantizer,
        quantizers,
    )

__version__ = version("codebound")

__all__ = [
    "BSQ",
    "FSQ",
    "LFQ",
    "BitTrellis",
    "Product",
    "Projected",
    "Residual",
    "Trellis",
    "VectorQuantizer",
    "__version__",
    "auto_update",
    "check_quantizer",
    "quantizers",
]

# PyTorch takes seconds, which whoever looks into a file need not wait.
__getattr__ = on_demand(
    __name__,
    {
        **dict.fromkeys(__all__, "codebound.quantize"),
        **{name: f"codebound.{name}" for name in ("errors", "quantize", "search")},
    },
)
