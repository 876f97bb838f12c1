"""Compressed files: pictures and grids of indices to bytes and back, the indices exactly, on any machine."""

from typing import TYPE_CHECKING

from codebound.codec.inspection import Grid, Report, SoundReport, inspect, inspect_sound
from codebound.coding.errors import CodecError, DamagedFile, UnsupportedFile, WrongModel
from codebound.extras import on_demand

if TYPE_CHECKING:
    from codebound.codec.drawings import better_png, exact_png
    from codebound.codec.grids import compress_grids, compress_indices, decompress_grids, decompress_indices
    from codebound.codec.hierarchies import compress_levels, decompress_levels
    from codebound.codec.model import Model, default_model, load_model
    from codebound.codec.picture_input import SourcePicture, read_picture
    from codebound.codec.pictures import check_settings, compress, decompress, verify
    from codebound.codec.sound_model import SoundModel, default_sound_model, load_sound_model
    from codebound.codec.sounds import SoundWriter, compress_sound, decompress_sound, verify_sound
    from codebound.codec.vectors import VectorReport, compress_vectors, decompress_vectors, inspect_vectors

__all__ = [
    "CodecError",
    "DamagedFile",
    "Grid",
    "Model",
    "Report",
    "SoundModel",
    "SoundReport",
    "SoundWriter",
    "SourcePicture",
    "UnsupportedFile",
    "VectorReport",
    "WrongModel",
    "better_png",
    "check_settings",
    "compress",
    "compress_grids",
    "compress_indices",
    "compress_levels",
    "compress_sound",
    "compress_vectors",
    "decompress",
    "decompress_grids",
    "decompress_indices",
    "decompress_levels",
    "decompress_sound",
    "decompress_vectors",
    "default_model",
    "default_sound_model",
    "exact_png",
    "inspect",
    "inspect_sound",
    "inspect_vectors",
    "load_model",
    "load_sound_model",
    "read_picture",
    "verify",
    "verify_sound",
]

# What codes and decodes indices needs PyTorch, which takes seconds: it is imported when it is asked for.
_HOMES = {
    "grids": ("compress_grids", "compress_indices", "decompress_grids", "decompress_indices"),
    "hierarchies": ("compress_levels", "decompress_levels"),
    "model": ("Model", "default_model", "load_model"),
    "picture_input": ("SourcePicture", "read_picture"),
    "pictures": ("check_settings", "compress", "decompress", "verify"),
    "token_pictures": (),
    "wavelet_pictures": (),
    "vectors": ("VectorReport", "compress_vectors", "decompress_vectors", "inspect_vectors"),
    "sound_model": ("SoundModel", "default_sound_model", "load_sound_model"),
    "sounds": ("SoundWriter", "compress_sound", "decompress_sound", "verify_sound"),
    "drawings": ("better_png", "exact_png"),
}
__getattr__ = on_demand(
    __name__,
    {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in (module, *names)},
)
