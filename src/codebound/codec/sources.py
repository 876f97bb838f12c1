"""The bytes behind what a caller has: bytes themselves, or a file that is open for reading."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from codebound.coding.errors import CodecError


@runtime_checkable
class Readable(Protocol):
    """An open binary file, a socket's file, `io.BytesIO`: what has `read`."""

    def read(self, size: int = -1, /) -> bytes: ...


Data = bytes | bytearray | memoryview | Readable


def read_bytes(data: Data) -> bytes:
    """All bytes, of a stream those from where it stands to its end.

    Raises:
        CodecError: neither, a text file, or one that can't be read.
    """
    if isinstance(data, Readable):
        try:
            data = data.read()
        except (OSError, ValueError) as error:
            raise CodecError(f"data can't be read: {error}") from None
    if not isinstance(data, bytes | bytearray | memoryview):
        raise CodecError(f"data must be bytes or an open binary file; got {type(data).__name__}")
    return bytes(data)
