"""Compressed files: pictures and grids of indices to bytes and back, the indices exactly, on any machine."""

from codebound.codec.grids import (
    Grid,
    Report,
    compress_grids,
    compress_indices,
    decompress_grids,
    decompress_indices,
    inspect,
)
from codebound.codec.model import Model, default_model, load_model
from codebound.codec.picture_input import SourcePicture, read_picture
from codebound.codec.pictures import compress, decompress, verify
from codebound.coding.errors import CodecError, DamagedFile, UnsupportedFile, WrongModel

__all__ = [
    "CodecError",
    "DamagedFile",
    "Grid",
    "Model",
    "Report",
    "SourcePicture",
    "UnsupportedFile",
    "WrongModel",
    "compress",
    "compress_grids",
    "compress_indices",
    "decompress",
    "decompress_grids",
    "decompress_indices",
    "default_model",
    "inspect",
    "load_model",
    "read_picture",
    "verify",
]
