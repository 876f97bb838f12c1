"""Grids of indices through files: exact, never longer than raw, and nothing wrong passes silently."""

import io
from pathlib import Path

import numpy as np
import pytest
from machines import KERNELS, output
from samples import SIZES, grid, random_prior, random_sizes

from codebound.codec import (
    CodecError,
    DamagedFile,
    WrongModel,
    compress_grids,
    compress_indices,
    decompress_grids,
    decompress_indices,
    inspect,
)
from codebound.codec.grids import encode_grid
from codebound.codec.streams import encode_levels
from codebound.coding import container
from codebound.coding.container import INDICES_PER_BYTE, NO_MODEL, Container, Mode
from codebound.priors.field import Field
from codebound.priors.grid_prior import load_prior

GOLDEN = Path(__file__).parent / "golden"


def round_trip(seed: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = random_sizes(rng)
    indices = grid(rng, int(rng.integers(1, side)), int(rng.integers(1, side)), sizes)
    prior = random_prior(sizes, seed) if seed % 4 == 0 else None
    for mode in Mode if prior else (Mode.RAW, Mode.ADAPTIVE, Mode.CONTEXT):
        data = compress_indices(indices, sizes, prior=prior, modes=[mode], verify=False)
        assert np.array_equal(decompress_indices(data, prior=prior), indices), (seed, mode)
        assert set(inspect(data).grids[0].modes) == {mode.name.lower()}


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_random_grids_in_every_mode(first: int) -> None:
    for seed in range(first, first + 10):
        round_trip(seed, 7)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 10_000, 500))
def test_ten_thousand_random_grids_in_every_mode(first: int) -> None:
    for seed in range(first, first + 500):
        round_trip(seed, 7)


@pytest.mark.parametrize("size", SIZES)
def test_every_mode_for_one_larger_grid_of_each_codebook_size(size: int) -> None:
    indices = grid(np.random.default_rng(size), 16, 7, (size,))
    prior = random_prior((size,))
    for mode in Mode:
        data = compress_indices(indices, (size,), prior=prior, modes=[mode])  # verifies
        assert inspect(data).grids[0][:2] == (16, 7)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2), (5, 3)])
def test_grids_of_any_shape(shape: tuple[int, int]) -> None:
    sizes = (9, 600)
    indices = grid(np.random.default_rng(0), *shape, sizes)
    for mode in Mode:
        compress_indices(indices, sizes, prior=random_prior(sizes), modes=[mode])


@pytest.mark.slow
def test_several_grids_in_one_file_and_from_a_stream() -> None:
    sizes, rng = (9, 600), np.random.default_rng(0)
    grids = [grid(rng, height, width, sizes) for height, width in ((1, 1), (12, 5), (3, 40))]
    for prior in (None, random_prior(sizes)):
        data = compress_grids(grids, sizes, prior=prior)
        assert [found[:2] for found in inspect(data).grids] == [(1, 1), (12, 5), (3, 40)]
        for source in (data, bytearray(data), memoryview(data), io.BytesIO(data)):
            again = decompress_grids(source, prior=prior)
            assert [np.array_equal(a, b) for a, b in zip(again, grids, strict=True)] == 3 * [True]
        with pytest.raises(CodecError, match="3 grids: decompress_grids"):
            decompress_indices(data, prior=prior)
        for at in range(len(data)):  # cut off at each byte
            with pytest.raises(DamagedFile):
                decompress_grids(data[:at], prior=prior)
    with pytest.raises(CodecError, match="got none"):
        compress_grids([], sizes)


@pytest.mark.untyped
@pytest.mark.parametrize("wrong", ["a name", None, 3, io.StringIO("text")])
def test_what_is_no_file_is_named(wrong: object) -> None:
    with pytest.raises(CodecError, match="data must be bytes or an open binary file"):
        inspect(wrong)  # type: ignore[arg-type]


def test_a_bad_prior_costs_no_more_than_raw() -> None:
    rng = np.random.default_rng(0)
    for size in (4, 256, 1000):
        indices = rng.integers(0, size, (24, 24, 1))
        data = compress_indices(indices, (size,), prior=random_prior((size,)))
        raw = compress_indices(indices, (size,), modes=[Mode.RAW])
        assert len(data) <= len(raw)
        assert 8 * len(raw) <= 1.005 * 576 * np.log2(size) + 64 + 8 * 48


def test_a_constant_grid_is_a_few_bytes_but_never_fewer_than_its_size_asks_for() -> None:
    data = compress_indices(np.full((60, 80, 1), 255), (256,))
    assert inspect(data).grids[0].bytes <= 200
    padded = encode_grid(np.zeros((90, 100, 1), dtype=np.int64), (2,), None, [Mode.ADAPTIVE])
    assert len(padded.stream) == -(-9000 // INDICES_PER_BYTE)


@pytest.mark.parametrize("mode", list(Mode))
def test_a_stream_is_its_entropy_to_a_percent_and_64_bytes(mode: Mode) -> None:
    rng = np.random.default_rng(1)
    for size in (3, 256, 5000):
        prior, indices = random_prior((size,)), grid(rng, 40, 50, (size,))
        stream, _, (bits,) = encode_levels(Field(indices, (size,)), prior, (mode,))
        assert bits - 8 <= 8 * len(stream) <= 1.01 * bits + 8 * 64


def test_the_report_adds_up_to_the_file() -> None:
    sizes = (16, 16, 700)
    indices = grid(np.random.default_rng(2), 20, 20, sizes)
    data = compress_indices(indices, sizes)
    report = inspect(data)
    assert report.bytes == len(data) == report.overhead + report.grids[0].bytes
    assert report.overhead <= 48 + 5  # sizes that differ take a few bytes more
    assert report.codebook_sizes == sizes
    assert report.model == ""


def small_files(count: int) -> list[tuple[bytes, np.ndarray, tuple[int, ...]]]:
    """Files of at most 300 bytes, in every mode."""
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        sizes = random_sizes(rng)
        indices = grid(rng, 4, 5, sizes)
        data = compress_indices(indices, sizes, prior=random_prior(sizes), modes=[Mode(seed % 4)])
        assert len(data) <= 300
        found.append((data, indices, sizes))
    return found


def assert_refused_or_right(changed: bytes, indices: np.ndarray, sizes: tuple[int, ...]) -> None:
    try:
        found = decompress_indices(changed, prior=random_prior(sizes))
    except CodecError:
        return
    assert np.array_equal(found, indices)


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_every_truncation_is_refused(count: int) -> None:
    for data, _, sizes in small_files(count):
        for length in range(len(data)):
            with pytest.raises(CodecError):
                decompress_indices(data[:length], prior=random_prior(sizes))


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_no_flipped_bit_passes(count: int) -> None:
    for data, indices, sizes in small_files(count):
        for bit in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            assert_refused_or_right(bytes(flipped), indices, sizes)


@pytest.mark.parametrize("mode", list(Mode))
def test_streams_changed_under_right_checksums_of_bytes_are_refused(mode: Mode) -> None:
    """What no CRC of bytes can see: the CRC of the indices does."""
    sizes = (700,)
    indices = grid(np.random.default_rng(3), 9, 9, sizes)
    prior = random_prior(sizes)
    segment = encode_grid(indices, sizes, prior, [mode])
    model = prior.digest()[:8]
    stream = segment.stream
    refused = 0
    for at in range(len(stream)):
        changed = segment._replace(stream=stream[:at] + bytes([stream[at] ^ 0x55]) + stream[at + 1 :])
        try:
            found = decompress_indices(container.pack(Container(model, sizes, None, (changed,))), prior=prior)
            assert np.array_equal(found, indices)
        except DamagedFile:
            refused += 1
    assert refused >= len(stream) - 3


def test_another_model_is_named() -> None:
    indices = grid(np.random.default_rng(0), 6, 6, (9,))
    one, other = random_prior((9,), 1), random_prior((9,), 2)
    data = compress_indices(indices, (9,), prior=one)
    with pytest.raises(WrongModel, match=f"{one.digest()[:8].hex()}; model {other.digest()[:8].hex()}"):
        decompress_indices(data, prior=other)
    with pytest.raises(WrongModel, match="none was given"):
        decompress_indices(data)
    without = compress_indices(indices, (9,))
    assert np.array_equal(decompress_indices(without, prior=None), indices)


def test_a_network_stream_of_no_model_is_refused() -> None:
    segment = container.Segment(2, 2, (Mode.NETWORK,), b"abcd", 0)
    data = container.pack(Container(NO_MODEL, (9,), None, (segment,)))
    with pytest.raises(WrongModel):
        decompress_indices(data)


@pytest.mark.parametrize(
    ("indices", "sizes", "message"),
    [
        (np.zeros((2, 2, 1)), (4,), "whole numbers"),
        (np.zeros((0, 2, 1), dtype=int), (4,), "none of them 0"),
        (np.full((2, 2, 1), 4), (4,), "0 … 3"),
        (np.full((2, 2, 1), -1), (4,), "-1 … -1"),
        (np.zeros((2, 2, 1), dtype=int), (4, 4), "per level"),
        (np.zeros((2, 2, 1), dtype=int), (1,), "2 … 65536"),
        (np.zeros((2, 2, 1), dtype=int), (65_537,), "2 … 65536"),
        (np.zeros((2, 2, 65), dtype=int), (4,) * 65, "1 … 64 levels"),
    ],
)
@pytest.mark.untyped
def test_indices_that_do_not_fit_are_refused(indices: np.ndarray, sizes: tuple, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        compress_indices(indices, sizes)


def test_a_prior_of_other_sizes_and_modes_without_one_are_refused() -> None:
    indices = np.zeros((2, 2, 1), dtype=int)
    with pytest.raises(CodecError, match="the prior is for"):
        compress_indices(indices, (4,), prior=random_prior((5,)))
    with pytest.raises(CodecError, match="modes"):
        compress_indices(indices, (4,), modes=[Mode.NETWORK])


DECODE = """
import sys, numpy as np, zlib, pathlib, json
from codebound.codec import compress_indices, decompress_indices
from codebound.coding.container import Mode
from codebound.priors.grid_prior import load_prior
import torch
torch.set_num_threads(int(sys.argv[2]))
wrong = 0
for path in sorted(pathlib.Path(sys.argv[1]).glob("*/*.cbd")):
    prior = load_prior(path.parent)
    wanted = np.array(json.loads((path.parent / "indices.json").read_text()))
    found = decompress_indices(path.read_bytes(), prior=prior)
    wrong += int((found != wanted).sum())
    again = compress_indices(wanted, prior.codebook_sizes, prior=prior, modes=[Mode[path.stem.upper()]])
    wrong += again != path.read_bytes()
print(wrong)
"""


def wrong_indices(folder: Path, threads: int, kernel: str) -> int:
    return int(output(DECODE, (str(folder), str(threads)), threads, kernel))


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "kernel"), [(2, "sse")])
def test_files_are_the_same_on_another_machine(threads: int, kernel: str) -> None:
    assert wrong_indices(GOLDEN, threads, kernel) == 0


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("kernel", list(KERNELS))
def test_files_are_the_same_on_every_machine(threads: int, kernel: str) -> None:
    assert wrong_indices(GOLDEN, threads, kernel) == 0


def test_decoding_changes_no_prior() -> None:
    prior = load_prior(GOLDEN / "residual")
    before = prior.digest()
    decompress_indices((GOLDEN / "residual" / "network.cbd").read_bytes(), prior=prior)
    assert prior.digest() == before
