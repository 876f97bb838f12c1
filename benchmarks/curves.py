"""Curves of quality over rate: codebound's pictures beside WebP, AVIF and JPEG XL, at equal bytes, on any folder.

    python benchmarks/curves.py FOLDER [--side 512] [--write]

Whole files by bytes, headers and checksums included; PSNR over RGB and SSIM. Each codec's curve is drawn straight
between its files over the logarithm of their size; a rate outside a codec's files counts for no mean.
`tools/fetch_pictures.py` fetches pictures that nothing was fitted to.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import page
import timing
import torch
from PIL import Image

from codebound import codec
from codebound.codec import other_codecs
from codebound.data.images import read_image
from codebound.data.picture_reading import image_names
from codebound.metrics.likeness import psnr, ssim

RATES = (0.1, 0.2, 0.4, 0.7, 1.0)  # bits per pixel
OURS = (3, 8, 14, 20, 28, 36, 45, 55, 65, 75)
OTHERS = {
    "webp": (0, 3, 8, 18, 32, 50, 70, 82, 90),
    "avif": (3, 8, 15, 25, 35, 45, 55, 65, 75, 85),
    "jxl": (2, 8, 18, 32, 48, 62, 74, 84, 91),
}
NAMES = {"webp": "WebP", "avif": "AVIF", "jxl": "JPEG XL"}


def point(pixels: np.ndarray, data: bytes, found: np.ndarray) -> tuple[float, float, float]:
    """Bits per pixel, PSNR and SSIM of a file."""
    shown = found if found.ndim == 3 else np.repeat(found[..., None], 3, axis=2)
    x, y = (torch.from_numpy(each.copy()).permute(2, 0, 1)[None].double() / 255 for each in (pixels, shown))
    return 8 * len(data) / (pixels.shape[0] * pixels.shape[1]), float(psnr(x, y)), float(ssim(x, y))


def curves(pixels: np.ndarray) -> dict[str, list[tuple[float, float, float]]]:
    """The points of each codec, by rate."""
    found = {"ours": []}
    for quality in OURS:
        data = codec.compress(pixels, quality=quality, verify=False)
        found["ours"].append(point(pixels, data, codec.decompress(data)))
    for name, qualities in OTHERS.items():
        files = [other_codecs.save(pixels, name, quality) for quality in qualities]
        found[name] = [point(pixels, data, other_codecs.load(data)) for data in files]
    return {name: sorted(points) for name, points in found.items()}


def at(points: list[tuple[float, float, float]], rate: float, measure: int) -> float:
    """A measure at a rate; NaN outside the curve."""
    rates = np.log([each[0] for each in points])
    return float(
        np.interp(np.log(rate), rates, [each[measure] for each in points], left=np.nan, right=np.nan)
    )


def reduced(path: Path, side: int) -> np.ndarray:
    """A picture with at most this long side."""
    image = Image.fromarray(read_image(path, path.name).pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    arguments = parser.parse_args()
    other_codecs.check(tuple(OTHERS))
    names = image_names(arguments.folder).names
    found = [curves(reduced(arguments.folder / name, arguments.side)) for name in names]

    # Ours less theirs: the mean over pictures that have the rate, and the worst of them.
    rows = []
    for measure, label, digits in ((1, "PSNR, dB", 2), (2, "SSIM", 4)):
        for name in OTHERS:
            gains = np.array(
                [[at(each["ours"], r, measure) - at(each[name], r, measure) for r in RATES] for each in found]
            )
            for kind, values in (("mean", np.nanmean(gains, 0)), ("worst", np.nanmin(gains, 0))):
                shown = [f"{value:+.{digits}f}" for value in values]
                rows.append([f"{label} less {NAMES[name]}'s, {kind}", *shown])
    counts = f"{len(names)} pictures, long side {arguments.side}: {', '.join(names)}."
    head = ["bits per pixel", *(f"{rate:g}" for rate in RATES)]
    text = "\n\n".join([counts, timing.markdown(head, rows)])
    print(text)
    if arguments.write:
        page.write_block("benchmarks.md", "curves", text)


if __name__ == "__main__":
    main()
