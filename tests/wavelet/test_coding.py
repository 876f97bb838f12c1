"""A picture's stream: both sides agree on every size and step, and an encoder weighs errors against bits."""

import math

import numpy as np
import pytest

from codebound.coding.errors import DamagedFile
from codebound.coding.range_coder import Decoder, Encoder, Meter
from codebound.data.images import photographs
from codebound.wavelet import coding
from codebound.wavelet.choice import WEIGHT, Choice
from codebound.wavelet.coding import Layout
from codebound.wavelet.colours import planes
from codebound.wavelet.frequencies import MOST, Frequencies
from codebound.wavelet.lifting import analyse
from codebound.wavelet.model import ALL_ROWS, SYMBOLS, default_wavelet_model
from codebound.wavelet.pictures import decode, encode

MODEL = default_wavelet_model()


def error(pixels: np.ndarray, other: np.ndarray) -> float:
    return float(((pixels.astype(float) - other) ** 2).mean())


def psnr(pixels: np.ndarray, other: np.ndarray) -> float:
    return -10 * math.log10(error(pixels, other) / 255**2)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return photographs("held_out")[0].pixels[100:228, 60:220]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2), (3, 5), (17, 33), (1, 20_000)])
@pytest.mark.parametrize("grey", [False, True])
def test_both_sides_have_the_same_pixels(size: tuple[int, int], grey: bool) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    if grey:
        pixels[...] = pixels[..., :1]
    for step in (0, 100):
        stream, expected = encode(pixels, grey, step, MODEL)
        assert expected.shape == (size if grey else (*size, 3))
        layout = Layout(*size, 1 if grey else 3, step)
        assert np.array_equal(decode(stream, layout, MODEL), expected)
        if step == 0:
            assert np.abs(expected.astype(int) - (pixels[..., 0] if grey else pixels)).max() <= 3


def test_the_decoder_s_bytes_are_the_encoder_s_bits(photo: np.ndarray) -> None:
    analysed = [analyse(plane) for plane in planes(photo, 3)]
    meter, layout = Meter(), Layout(*photo.shape[:2], 3, 60)
    coding.code(layout, MODEL, meter, Choice(analysed, MODEL))
    stream, _ = encode(photo, False, 60, MODEL)
    assert meter.bits / 8 == pytest.approx(len(stream), rel=0.005)


@pytest.mark.slow
def test_finer_steps_are_better_and_longer(photo: np.ndarray) -> None:
    found = [encode(photo, False, step, MODEL) for step in (110, 80, 50, 0)]
    sizes, errors = [len(data) for data, _ in found], [error(pixels, photo) for _, pixels in found]
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert psnr(found[-1][1], photo) > 54


@pytest.mark.slow
def test_weighing_bits_is_worth_what_it_costs(photo: np.ndarray) -> None:
    """Squared error plus the weighed bits, which is what levels are chosen by, becomes several percent smaller."""
    for step in (96, 64):

        def cost(weight: float, step: int = step) -> float:
            data, pixels = encode(photo, False, step, MODEL, weight=weight)
            return ((pixels.astype(float) - photo) ** 2).sum() + WEIGHT * 4 ** (step / 16) * 8 * len(data)

        assert cost(WEIGHT) < 0.97 * cost(0.0)


def test_numbers_beyond_the_escape_come_back() -> None:
    numbers = np.array([0, 1, 2, 3, 6, 7, 8, 1000, 2**20, 2**28 - 2], dtype=np.int64)
    coder = Encoder()
    coding._beyond(coder, numbers)
    found = coding._beyond(Decoder(coder.payload()), np.zeros(len(numbers), dtype=np.int64))
    assert found.tolist() == numbers.tolist()


def test_values_are_those_of_the_page() -> None:
    """(64·m + shift)·step / 2^14, rounded half up, with the sign, and never beyond 2^20."""
    signed, shifts = np.array([0, 1, -1, 3, -(2**28)]), np.array([0, 5, 5, -7, 0])
    found = coding._values(signed, shifts, 100_000)
    assert found.tolist() == [0, 421, -421, 1129, -(2**20 - 1)]
    assert [(64 * m + s) * 100_000 / 2**14 for m, s in ((1, 5), (3, -7))] == pytest.approx(
        [421, 1129], abs=0.5
    )


def test_rows_learn_what_was_coded_under_them() -> None:
    frequencies = Frequencies(MODEL)
    before = frequencies.rows.copy()
    assert before.shape == (ALL_ROWS, SYMBOLS)
    frequencies.learn(np.full(500, 7), np.full(500, 3))
    assert frequencies.rows[7, 3] > before[7, 3] + 10_000
    assert np.array_equal(np.delete(frequencies.rows, 7, 0), np.delete(before, 7, 0))
    assert (frequencies.rows.sum(1) == 1 << 16).all()

    # Where there are too many to be added exactly, old counts give way.
    frequencies._counts[7] = MOST
    frequencies.learn(np.array([7]), np.array([0]))
    assert frequencies._counts[7].sum() <= MOST


def test_bytes_that_no_encoder_wrote_are_refused_or_decode_to_something() -> None:
    rng = np.random.default_rng(0)
    for length in (1, 20, 300):
        for step in (0, 127):
            try:
                pixels = decode(rng.bytes(length), Layout(9, 14, 3, step), MODEL)
            except DamagedFile:
                continue
            assert pixels.shape == (9, 14, 3)
