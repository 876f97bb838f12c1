"""What decoding a file takes, known from its header: too much of it is refused before anything is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from codebound.coding.container import Container, Mode
from codebound.coding.errors import CodecError
from codebound.data.picture_reading import MAX_PIXELS

PIXELS_PER_INDEX = 8  # an index takes the memory and the time of so many pixels, more or less
PIXELS_PER_STEP = 1024  # and so does a diagonal, which can be decoded only after the one before it


def check_pixels(pixels: int, max_pixels: int | None) -> None:
    """Refuse a picture of more than `max_pixels`, `MAX_PIXELS` if not given.

    Raises:
        CodecError: it has more.
    """
    most = MAX_PIXELS if max_pixels is None else max_pixels
    if pixels > most:
        raise CodecError(f"the file holds {pixels:,} pixels; max_pixels={most:,} allows {most:,}")


def check_work(contents: Container, max_pixels: int | None) -> None:
    """Refuse a file that would take longer, or more memory, than a picture of `max_pixels`.

    A small file can honestly be large: a flat picture takes next to nothing. So its sizes are bounded, not how many
    of them a byte stands for: pixels, indices (an eighth as many) and diagonals (1/1024 as many).

    Raises:
        CodecError: it would.
    """
    most = MAX_PIXELS if max_pixels is None else max_pixels
    picture = contents.picture
    if picture is not None:
        check_pixels(picture.height * picture.width, max_pixels)
    indices = sum(segment.height * segment.width * len(segment.modes) for segment in contents.segments)
    steps = sum(
        (segment.width + 2 * segment.height) * sum(mode is not Mode.RAW for mode in segment.modes)
        for segment in contents.segments
    )
    for what, count, worth in (
        ("indices", indices, PIXELS_PER_INDEX),
        ("diagonals of indices", steps, PIXELS_PER_STEP),
    ):
        if count * worth > most:
            raise CodecError(f"the file holds {count:,} {what}; max_pixels={most:,} allows {most // worth:,}")


@contextmanager
def in_memory(what: str) -> Iterator[None]:
    """`CodecError` in place of what NumPy and PyTorch raise where the memory does not suffice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        raise CodecError(f"{what} is too large for the memory that there is") from None
