"""Brightness and two differences: at right angles, and greys have none of the differences."""

import numpy as np

from codebound.wavelet import colours
from codebound.wavelet.lifting import FRACTION


def integers(planes: list[np.ndarray]) -> list[np.ndarray]:
    return [np.rint(plane * 2**FRACTION).astype(np.int32) for plane in planes]


def test_pixels_come_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    pixels[0, :8] = [[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)]
    assert np.array_equal(colours.pixels(integers(colours.planes(pixels, 3))), pixels)


def test_an_error_is_as_large_in_the_planes_as_in_the_pixels() -> None:
    first, other = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3)).astype(np.uint8)
    difference = np.stack(colours.planes(first, 3)) - np.stack(colours.planes(other, 3))
    wanted = (first.astype(float) - other) ** 2
    assert np.allclose((difference**2).sum(0), wanted.sum(-1), rtol=1e-4)


def test_greys_are_one_plane_and_stay_grey() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    bright, *differences = colours.planes(grey, 3)
    assert np.abs(differences).max() < 1e-3
    alone = colours.pixels(integers([bright]))
    assert np.array_equal(alone, grey[..., 0])
    whole = colours.pixels(integers([bright + 0.4, *differences]))
    assert np.array_equal(whole[..., 0], whole[..., 1])
    assert np.array_equal(whole[..., 0], whole[..., 2])


def test_what_no_picture_has_is_cut_off() -> None:
    huge = np.array([[2**31 - 1, -(2**31), 0]], dtype=np.int32)
    assert colours.pixels([huge]).tolist() == [[255, 0, 128]]
