"""Compressed files: grids of indices to bytes and back, exactly, on any machine."""

from codebound.codec.grids import Level, Report, compress_indices, decompress_indices, inspect
from codebound.coding.errors import CodecError, DamagedFile, UnsupportedFile, WrongModel

__all__ = [
    "CodecError",
    "DamagedFile",
    "Level",
    "Report",
    "UnsupportedFile",
    "WrongModel",
    "compress_indices",
    "decompress_indices",
    "inspect",
]
