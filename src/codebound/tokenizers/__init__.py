"""Whole models: an encoder, a quantizer, a decoder."""

from codebound.tokenizers.audio import AudioTokenizer
from codebound.tokenizers.hierarchy import HierarchicalTokenizer
from codebound.tokenizers.image import ImageTokenizer
from codebound.tokenizers.linear import LinearVQVAE
from codebound.tokenizers.pretrained import DamagedModel

__all__ = ["AudioTokenizer", "DamagedModel", "HierarchicalTokenizer", "ImageTokenizer", "LinearVQVAE"]
