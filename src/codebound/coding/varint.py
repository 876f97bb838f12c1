"""Whole numbers in one to five bytes, seven bits each, the low ones first (LEB128, as in DWARF and protobuf)."""

from __future__ import annotations

from codebound.coding.errors import DamagedFile

LONGEST = 5  # bytes: numbers below 2^35


def write(number: int) -> bytes:
    """The shortest bytes for `number`, 0 … 2^35 − 1."""
    if not 0 <= number < 1 << (7 * LONGEST):
        raise ValueError(f"number must be in 0 … 2^35 − 1; got {number}")
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Reader:
    """Bytes read from the front; what isn't there raises `DamagedFile`."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = memoryview(data), 0

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes."""
        if count > len(self.data) - self.at:
            left = len(self.data) - self.at
            raise DamagedFile(f"the file is cut off in its {what}: {count} bytes announced, {left} there")
        self.at += count
        return bytes(self.data[self.at - count : self.at])

    def number(self, what: str, least: int, most: int) -> int:
        """The next varint, in its shortest form and in least … most."""
        value = 0
        for place in range(LONGEST):
            (byte,) = self.take(1, what)
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                if byte == 0 and place:
                    raise DamagedFile(f"the file's {what} is not written in its shortest form")
                if not least <= value <= most:
                    raise DamagedFile(f"the file's {what} is {value}; accepted: {least} … {most}")
                return value
        raise DamagedFile(f"the file's {what} is longer than {LONGEST} bytes")
