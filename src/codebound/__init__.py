"""codebound: vector quantization where every number stands next to its limit."""

from importlib.metadata import version

from codebound.quantize import BSQ, FSQ, LFQ, VectorQuantizer, check_quantizer

__version__ = version("codebound")

__all__ = ["BSQ", "FSQ", "LFQ", "VectorQuantizer", "__version__", "check_quantizer"]
