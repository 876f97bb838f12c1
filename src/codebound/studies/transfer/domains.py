"""The kinds of pictures, all grey: two that are read, two that are made here so that everybody has them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from codebound.data.image_sets import FixedPictures, ImageSet, LabelledPictures, step_random
from codebound.data.image_sources import open_images
from codebound.data.labelled import FASHION_MNIST
from codebound.data.picture_request import PictureRequest

SIDE = 32  # pixels
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
FONT_SIZES, TURN, SHIFT = (18, 31), 20.0, 3.0  # pixels; degrees and pixels to either side
WINDOW, HOP = 64, 16  # samples of a spectrogram's window, and between two of them
RANGE_DB = 60.0  # between black and white
HARMONICS, EVENTS = 6, 2
MADE = 10  # where the streams of made pictures begin; the next one is that of held-out ones


class Domain(NamedTuple):
    """A kind of pictures: what it is called in texts, and how so many to train on and held out are got."""

    label: str
    make: Callable[[int, int], ImageSet]


@lru_cache(maxsize=8)
def opened(name: str, count: int, held_out: int) -> ImageSet:
    """A domain, opened or made once in each process.

    Args:
        count: pictures to train on, of those that are made.

    Raises:
        InputError: as `open_images`.
    """
    return DOMAINS[name].make(count, held_out)


def available(name: str) -> bool:
    """Whether a domain's pictures are on this machine."""
    return name != "fashion-mnist" or FASHION_MNIST.is_dir()


def letters(count: int, seed: int) -> UInt8[Tensor, "n 1 h w"]:
    """Letters and digits in matplotlib's fonts, each of a size, place and turn of its own; white on black."""
    random = step_random(seed, 0)
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = sorted(
        file for file in folder.glob("DejaVuS*.ttf") if "Display" not in file.name
    )  # those lack letters
    fonts = [ImageFont.truetype(str(file), size) for file in files for size in range(*FONT_SIZES, 4)]
    pictures = np.empty((count, SIDE, SIDE), dtype=np.uint8)
    for number in range(count):
        picture = Image.new("L", (SIDE, SIDE))
        place = SIDE / 2 + random.uniform(-SHIFT, SHIFT, 2)
        character = CHARACTERS[random.integers(len(CHARACTERS))]
        font = fonts[random.integers(len(fonts))]
        ImageDraw.Draw(picture).text((place[0], place[1]), character, fill=255, font=font, anchor="mm")
        turned = picture.rotate(random.uniform(-TURN, TURN), Image.Resampling.BILINEAR)
        pictures[number] = np.asarray(turned)
    return torch.from_numpy(pictures)[:, None]


def spectrograms(count: int, seed: int) -> UInt8[Tensor, "n 1 h w"]:
    """Logarithmic spectrograms of made sounds, time to the right: gliding harmonic tones with vibrato, and noise."""
    # Some harmonic tones for each sound: where they begin, how high, how they glide, swing and fade.
    random = step_random(seed, 1)
    time = np.arange(WINDOW + HOP * (SIDE - 1), dtype=np.float64)
    sounds = np.zeros((count, len(time)))
    for _ in range(EVENTS):
        begin = random.uniform(0, 0.7 * len(time), (count, 1))
        since = np.maximum(time - begin, 0)
        height = np.exp(random.uniform(np.log(0.01), np.log(0.09), (count, 1)))  # cycles a sample
        glide = random.normal(0, 0.6, (count, 1)) / len(time)
        swing = random.uniform(0, 0.03, (count, 1)) * np.sin(
            2 * np.pi * since * random.uniform(0.004, 0.015, (count, 1))
        )
        phase = 2 * np.pi * np.cumsum(height * np.exp(glide * since) * (1 + swing), axis=1)
        loud = (time >= begin) * np.exp(-since * random.uniform(0.001, 0.01, (count, 1)))
        for harmonic in range(1, HARMONICS + 1):
            weight = random.uniform(0, 1, (count, 1)) / harmonic
            sounds += loud * weight * np.sin(harmonic * phase)

    # A floor of noise, the spectrogram in decibels below its loudest point, low tones at the bottom.
    sounds += 10 ** random.uniform(-3, -1.5, (count, 1)) * random.standard_normal(sounds.shape)
    window = torch.hann_window(WINDOW, dtype=torch.float64)
    spectrum = torch.stft(
        torch.from_numpy(sounds), WINDOW, HOP, window=window, center=False, return_complex=True
    )
    level = 20 * spectrum.abs().clamp_min(1e-8).log10()[:, :SIDE].flip(1)
    below = level - level.amax((1, 2), keepdim=True)
    return ((1 + below / RANGE_DB).clamp(0, 1) * 255).round().to(torch.uint8)[:, None]


def _made(name: str, note: str, make: Callable[[int, int], Tensor]) -> Callable[[int, int], ImageSet]:
    """A set of made pictures; held-out ones are of another stream."""

    def opened(count: int, held_out: int) -> ImageSet:
        train, test = (
            LabelledPictures(make(number, MADE + place), torch.zeros(number, dtype=torch.int64))
            for place, number in enumerate((count, held_out))
        )
        return FixedPictures(name, note, train, test, held_out)

    return opened


def _read(name: str) -> Callable[[int, int], ImageSet]:
    """A set of the package's own names, in grey."""
    return lambda count, held_out: open_images(name, PictureRequest(SIDE, 1, held_out))


DOMAINS: dict[str, Domain] = {
    "photos": Domain("photographs", _read("photos")),
    "fashion-mnist": Domain("clothes", _read("fashion-mnist")),
    "letters": Domain("letters", _made("letters", "letters and digits, drawn", letters)),
    "spectrograms": Domain(
        "spectrograms", _made("spectrograms", "spectrograms of made sounds", spectrograms)
    ),
}
