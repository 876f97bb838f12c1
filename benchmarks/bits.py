"""Where the bits of a picture go: bits and errors level by level, of brightness and of the differences of colours.

    python benchmarks/bits.py FOLDER [--side 512] [--write]

For each rate the step number whose file comes nearest to it, picture by picture; bits are −log2 of the probabilities,
errors what the level's waves add to the squared error of a pixel. Means over the pictures, shares of the whole.
`silent` is the share of the errors that is of coefficients whose level is 0: what no better table of probabilities, but
only a better transform or predictor, would find.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import page
import timing
from curves import reduced

from codebound.coding.picture_container import STEP
from codebound.coding.range_coder import Meter
from codebound.data.picture_reading import image_names
from codebound.wavelet import colours
from codebound.wavelet.bands import base_step, groups
from codebound.wavelet.choice import Choice
from codebound.wavelet.coding import Layout, Strip, code
from codebound.wavelet.lifting import FRACTION, Pyramid, analyse
from codebound.wavelet.model import COMPONENTS, WaveletModel, default_wavelet_model

RATES = (0.1, 0.4, 1.0)  # bits per pixel
DEEPEST = 6  # this level and all coarser ones together
Key = tuple[int, bool]  # level, and whether it is of the differences of colours


class Tally:
    """Levels that note what was spent when each group's strips begin.

    Args:
        levels: where they are from.
        meter: what counts the bits.
    """

    def __init__(self, levels: Choice, meter: Meter) -> None:
        self._levels, self._meter = levels, meter
        self.marks: list[tuple[Key, float]] = []

    def low(self, component: int, step: int) -> np.ndarray:
        return self._levels.low(component, step)

    def choose(
        self, strip: Strip, rows: np.ndarray, frequencies: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        self.marks.append(((strip.group.level, strip.group.component > 0), self._meter.bits))
        return self._levels.choose(strip, rows, frequencies)

    def bits(self) -> Iterator[tuple[Key, float]]:
        """What each strip took."""
        ends = [mark for _, mark in self.marks[1:]] + [self._meter.bits]
        for (key, start), end in zip(self.marks, ends, strict=True):
            yield key, end - start


def coded(
    planes: list[Pyramid], shape: tuple[int, int], step: int, model: WaveletModel
) -> tuple[list[Pyramid], Tally, float]:
    """The decoded bands, what they took group by group, and all bits."""
    meter = Meter()
    tally = Tally(Choice(planes, model), meter)
    return code(Layout(*shape, COMPONENTS, step), model, meter, tally), tally, meter.bits


def spent(pixels: np.ndarray, rate: float, model: WaveletModel) -> dict[Key, np.ndarray]:
    """Of each level: bits per pixel, squared error per pixel, and that of coefficients whose level is 0."""
    planes = [analyse(plane) for plane in colours.planes(pixels, COMPONENTS)]
    shape, count = pixels.shape[:2], pixels.shape[0] * pixels.shape[1]

    # More bits the finer the step: the number whose rate is nearest, by halving.
    low, high = 0, STEP
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if coded(planes, shape, middle, model)[2] > rate * count else (low, middle)
    found, tally, _ = coded(planes, shape, high, model)

    # A step of any coefficient is as large an error as the base step.
    out = {(level, colour): np.zeros(3) for level in range(1, DEEPEST + 1) for colour in (False, True)}
    for (level, colour), bits in tally.bits():
        out[min(level, DEEPEST), colour][0] += bits / count
    for group in groups(*shape, COMPONENTS, high):
        for band in group.bands:
            original, decoded = (
                plane[band.component].details[band.level - 1][band.orientation] for plane in (planes, found)
            )
            weight = (base_step(high) / band.step) ** 2 / (COMPONENTS * count)
            errors = weight * (original - decoded / (1 << FRACTION)) ** 2
            parts = out[min(band.level, DEEPEST), band.component > 0]
            parts[1:] += errors.sum(), errors[decoded == 0].sum()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    arguments = parser.parse_args()
    names, model = image_names(arguments.folder).names, default_wavelet_model()
    pictures = [reduced(arguments.folder / name, arguments.side) for name in names]

    # A line for each level, three columns for each rate.
    columns: list[dict[Key, list[str]]] = []
    for rate in RATES:
        found = [spent(pixels, rate, model) for pixels in pictures]
        means = {key: np.mean([each[key] for each in found], axis=0) for key in found[0]}
        bits, errors = (sum(mean[at] for mean in means.values()) for at in (0, 1))
        columns.append(
            {
                key: [
                    f"{100 * b / bits:.0f}",
                    f"{100 * e / errors:.0f}",
                    f"{100 * silent / max(e, 1e-9):.0f}",
                ]
                for key, (b, e, silent) in means.items()
            }
        )
    rows = [
        [f"{level}{'+' if level == DEEPEST else ''}", "colours" if colour else "brightness"]
        + [cell for each in columns for cell in each[level, colour]]
        for level, colour in columns[0]
    ]
    head = ["level", "of"]
    for rate in RATES:
        head += [f"{rate:g} bpp: % of bits", "% of error", "% of it silent"]
    text = f"{len(names)} pictures, long side {arguments.side}.\n\n{timing.markdown(head, rows)}"
    print(text)
    if arguments.write:
        page.write_block("benchmarks.md", "bits", text)


if __name__ == "__main__":
    main()
