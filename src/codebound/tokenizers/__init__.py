"""Whole models: an encoder, a quantizer, a decoder."""

from codebound.tokenizers.hierarchy import HierarchicalTokenizer
from codebound.tokenizers.image import ImageTokenizer
from codebound.tokenizers.linear import LinearVQVAE
from codebound.tokenizers.pretrained import DamagedModel

__all__ = ["DamagedModel", "HierarchicalTokenizer", "ImageTokenizer", "LinearVQVAE"]
