"""Files that are larger than their bytes: refused before anything is decoded, with the bound that lets them through."""

import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from samples import random_prior

from codebound import codec
from codebound.codec import CodecError, decompress_grids, grids, token_pictures
from codebound.codec.bounds import in_memory
from codebound.coding import container
from codebound.coding.container import NO_MODEL, Container, Mode, Picture, Segment


def bomb(height: int, width: int, mode: Mode, prior: bool = False, size: int = 9) -> bytes:
    """A file whose every check passes until it is decoded."""
    model = random_prior((size,)).digest()[:8] if prior else NO_MODEL
    stream = bytes(container.least_bytes(height, width, 1))
    return container.pack(Container(model, (size,), None, (Segment(height, width, (mode,), stream, 0),)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bomb(1, 2**24, Mode.NETWORK, prior=True), "diagonals"),
        (bomb(2**24, 1, Mode.ADAPTIVE), "diagonals"),
        (bomb(2**14, 2**14, Mode.RAW), "268,435,456 indices"),
        (bomb(2**15, 2**15, Mode.CONTEXT), "indices"),
    ],
)
def test_a_bomb_is_refused_at_once(data: bytes, message: str) -> None:
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(CodecError, match=message):
        decompress_grids(data, prior=random_prior((9,)))
    assert time.perf_counter() - started < 0.5
    assert tracemalloc.get_traced_memory()[1] < 4 * len(data) + 1_000_000
    tracemalloc.stop()


def test_many_small_grids_count_together() -> None:
    one = container.unpack(bomb(2**11, 2**11, Mode.RAW))
    with pytest.raises(CodecError, match="indices"):
        decompress_grids(container.pack(one._replace(segments=one.segments * 9)))


def test_the_bound_is_the_user_s() -> None:
    grid = np.zeros((4, 5, 1), dtype=np.int64)
    data = codec.compress_indices(grid, (9,))
    with pytest.raises(CodecError, match="20 indices; max_pixels=159 allows 19"):
        codec.decompress_indices(data, max_pixels=159)
    assert np.array_equal(codec.decompress_indices(data, max_pixels=2**14), grid)

    pixels = np.zeros((16, 24, 3), dtype=np.uint8)
    data = codec.compress(pixels, model=codec.default_model(), quality=1)
    for read in (codec.decompress, codec.verify):
        with pytest.raises(CodecError, match="384 pixels; max_pixels=383"):
            read(data, max_pixels=383)
    larger = container.unpack(data)._replace(picture=Picture(2**24, 2**24, False))
    with pytest.raises(CodecError, match="pixels"):
        codec.decompress(container.pack(larger))


def test_too_little_memory_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    data = codec.compress_indices(np.zeros((4, 5, 1), dtype=np.int64), (9,))
    pixels = np.zeros((16, 24, 3), dtype=np.uint8)
    model = codec.default_model()
    picture = codec.compress(pixels, model=model, quality=1)

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 2 TiB")

    monkeypatch.setattr(grids, "decode_grid", fail)
    monkeypatch.setattr(token_pictures, "decode_grid", fail)
    monkeypatch.setattr(token_pictures, "encode_grid", fail)
    calls: list[Callable[[], object]] = [
        lambda: codec.decompress_grids(data),
        lambda: codec.decompress(picture),
        lambda: codec.verify(picture),
        lambda: codec.compress(pixels, model=model, quality=1),
    ]
    for call in calls:
        with pytest.raises(CodecError, match="memory"):
            call()


def test_pytorch_s_way_to_say_it_is_known_and_other_errors_are_not_hidden() -> None:
    def raising(text: str) -> None:
        with in_memory("it"):
            raise RuntimeError(text)

    with pytest.raises(CodecError):
        raising("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes")
    with pytest.raises(RuntimeError, match="a mistake"):
        raising("a mistake")
