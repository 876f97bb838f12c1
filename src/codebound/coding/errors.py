"""What a file can be refused for. All of it is bad input: one line, no traceback on the command line."""

from codebound.errors import InputError


class CodecError(InputError):
    """Indices, a picture or a file can't be compressed or decompressed."""


class DamagedFile(CodecError):
    """The bytes are not a `.cbd` file as it was written: cut off, changed, or never one."""


class UnsupportedFile(CodecError):
    """A `.cbd` file of a version or kind that this package doesn't read."""


class WrongModel(CodecError):
    """The file was written with another model than the one at hand; the message names both by their hashes."""
