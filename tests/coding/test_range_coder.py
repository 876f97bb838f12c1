"""The range coder: golden bytes, round trips, and no more than its entropy."""

import numpy as np
import pytest

from codebound.coding.errors import DamagedFile
from codebound.coding.integers import TOTAL, frequencies
from codebound.coding.range_coder import Decoder, Encoder, Meter

ROWS = frequencies(np.array([[1, 2, 3, 4], [4, 3, 2, 1], [0, 0, 1, 0], [1, 1, 1, 1]] * 16))
SYMBOLS = np.array([0, 1, 2, 3, 3, 2, 2, 0] * 8)


def rows(rng: np.random.Generator, count: int, alphabet: int, peak: float) -> np.ndarray:
    return frequencies((rng.gamma(peak, size=(count, alphabet)) * (1 << 20)).astype(np.int64) + 1)


def draw(rng: np.random.Generator, given: np.ndarray) -> np.ndarray:
    return (given.cumsum(-1) > rng.integers(0, TOTAL, (len(given), 1))).argmax(-1)


def test_golden_bytes() -> None:
    """If this fails, files written before can't be read: constriction, or how it is called, has changed."""
    encoder = Encoder()
    encoder.code(ROWS, SYMBOLS)
    encoder.code(frequencies(np.array([[7, 1, 2]])), np.array([0, 2, 1, 0, 0]))
    assert encoder.payload().hex() == GOLDEN


GOLDEN = "11b1727c7321b15dc82e0ad99456d986"


@pytest.mark.parametrize("alphabet", [2, 5, 256, 512])
@pytest.mark.parametrize("peak", [0.02, 1.0])
def test_round_trip_at_the_entropy(alphabet: int, peak: float) -> None:
    rng = np.random.default_rng(alphabet)
    given = rows(rng, 4000, alphabet, peak)
    symbols = draw(rng, given)
    encoder, meter = Encoder(), Meter()
    for part in np.array_split(np.arange(4000), 13):
        encoder.code(given[part], symbols[part])
        meter.code(given[part], symbols[part])
    payload = encoder.payload()
    decoder = Decoder(payload)
    found = [decoder.code(given[part], symbols[part] * 0) for part in np.array_split(np.arange(4000), 13)]
    assert np.array_equal(np.concatenate(found), symbols)
    assert 8 * len(payload) <= 1.001 * meter.bits + 64


def to_the_end(decoder: Decoder, count: int) -> np.ndarray:
    symbols = decoder.code(ROWS[:count], np.zeros(count, dtype=np.int64))
    decoder.check_end()
    return symbols


@pytest.mark.parametrize("count", range(1, 40, 3))
def test_what_follows_the_last_symbol_is_noticed(count: int) -> None:
    symbols = SYMBOLS[:count]
    encoder = Encoder()
    encoder.code(ROWS[:count], symbols)
    payload = encoder.payload()
    for behind, least in ((b"", 0), (bytes(20), len(payload) + 20)):
        assert np.array_equal(to_the_end(Decoder(payload + behind, least), count), symbols)
    for behind in (b"\1", b"\0", bytes(9), b"\0\0\0\0\1", b"SECRET" * 9):
        decoder = Decoder(payload + behind)
        with pytest.raises(DamagedFile):
            to_the_end(decoder, count)


def test_one_row_for_all_is_that_row_for_each() -> None:
    row = frequencies(np.array([[9, 1, 5, 30, 1]]))
    symbols = np.array([3, 3, 0, 2, 4, 1, 3] * 9)
    one, each = Encoder(), Encoder()
    one.code(row, symbols)
    each.code(np.repeat(row, len(symbols), axis=0), symbols)
    assert one.payload() == each.payload()
    assert np.array_equal(Decoder(one.payload()).code(np.repeat(row, len(symbols), axis=0), symbols), symbols)


def test_the_rarest_symbol_costs_sixteen_bits_and_the_likeliest_almost_none() -> None:
    row = frequencies(np.array([[1 << 30, 0]]))
    encoder = Encoder()
    encoder.code(row, np.zeros(100_000, dtype=np.int64))
    assert len(encoder.payload()) <= 8
    encoder.code(row, np.ones(100, dtype=np.int64))
    assert 200 <= len(encoder.payload()) <= 208


def test_bytes_of_no_encoder_are_refused_or_decode_to_symbols() -> None:
    refused = 0
    for seed in range(200):
        junk = np.random.default_rng(seed).bytes(4) + b"\xff" * 8
        try:
            found = Decoder(b"\xff" * 8 + junk).code(ROWS, SYMBOLS)
            assert found.min() >= 0
            assert found.max() <= 3
        except DamagedFile:
            refused += 1
    assert refused
