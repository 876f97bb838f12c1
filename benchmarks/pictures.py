"""What a picture's file costs: codebound's beside AVIF, encoding and decoding, and whole commands.

    python benchmarks/pictures.py [--rounds 5] [--write]

Processor time on one thread, interleaved, medians, of the embedded held-out photographs (up to 512 pixels) at three
qualities, AVIF (Pillow, speed 6) at the quality whose file is nearest in bytes; and of fresh processes on a
512-pixel picture.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import page
import timing
from imports import seconds
from PIL import Image

from codebound import codec
from codebound.codec import other_codecs
from codebound.data.images import photographs

QUALITIES = (20, 40, 50)
AVIF = (5, 15, 25, 35, 45, 55, 65, 75, 85)
BARS = {"encode": 3.0, "decode": 0.8}  # seconds per megapixel
COMMANDS = {"compress": 3.5, "decompress": 3.5, "info": 1.0}  # seconds


def measured(pixels: np.ndarray, quality: int, rounds: int) -> dict[str, float]:
    """Bits per pixel, and seconds per megapixel of both codecs both ways."""
    data = codec.compress(pixels, quality=quality, verify=False)
    files = {each: other_codecs.save(pixels, "avif", each) for each in AVIF}
    nearest = min(files, key=lambda each: abs(len(files[each]) - len(data)))
    contenders = {
        "encode": partial(codec.compress, pixels, quality=quality, verify=False),
        "AVIF encode": partial(other_codecs.save, pixels, "avif", nearest),
        "decode": partial(codec.decompress, data),
        "AVIF decode": partial(other_codecs.load, files[nearest]),
    }
    size = pixels.shape[0] * pixels.shape[1]
    times = timing.medians(contenders, rounds, 60)
    return {"bits": 8 * len(data) / size} | {name: 1e6 * times[name][0] / size for name in contenders}


def commands(rounds: int) -> dict[str, float]:
    """Seconds of whole commands on a picture of 512 pixels."""
    with tempfile.TemporaryDirectory() as folder:
        picture, packed = Path(folder) / "a.png", Path(folder) / "a.cbd"
        Image.fromarray(photographs("held_out")[0].pixels).save(picture)
        calls = {
            "compress": ["compress", str(picture), "--out", str(packed), "--force"],
            "decompress": ["decompress", str(packed), "--out", str(picture.with_name("b.png")), "--force"],
            "info": ["info", str(packed)],
        }
        found: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                found[name].append(seconds(["-m", "codebound", *call]))
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    arguments = parser.parse_args()
    machine = timing.machine()
    pictures = [each.pixels for each in photographs("held_out")][: arguments.pictures]

    # Means over the pictures, quality by quality.
    rows, bars = [], []
    for quality in QUALITIES:
        found = [measured(pixels, quality, arguments.rounds) for pixels in pictures]
        mean = {name: statistics.mean(each[name] for each in found) for name in found[0]}
        rows.append([str(quality), *(f"{value:.2f}" for value in mean.values())])
        bars += [
            timing.bar(f"{way}, s/Mpx", f"quality {quality}", mean[way], most) for way, most in BARS.items()
        ]
    head = ["quality", "bits per pixel", "encode, s/Mpx", "AVIF", "decode, s/Mpx", "AVIF"]

    whole = commands(arguments.rounds)
    bars += [
        timing.bar(f"codebound {name}, s", "512 pixels", value, COMMANDS[name])
        for name, value in whole.items()
    ]
    text = "\n\n".join([f"{machine}.", timing.markdown(head, rows), timing.bars(bars)])
    print(text)
    if arguments.write:
        page.write_block("benchmarks.md", "pictures", text)


if __name__ == "__main__":
    main()
