"""20,000 JPEGs, and what a process that reads them holds in memory: shared by the slow tests."""

import hashlib
import json
import os
import sys
import threading
import time
import warnings
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

COUNT, HEIGHT, WIDTH = 20_000, 288, 384
BATCH, STEPS, LATER = 32, 300, 250
HELD_OUT = 1024


def generate(folder: Path) -> None:
    """The pictures, in hundred folders, by two processes."""
    with get_context("spawn").Pool(2) as pool:
        pool.starmap(_write, [(folder, first) for first in range(0, COUNT, 200)])


def _write(folder: Path, first: int) -> None:
    rng = np.random.default_rng(first)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    noise = rng.integers(-12, 13, (HEIGHT + 64, WIDTH + 64, 3), dtype=np.int16)
    (folder / f"{first:05}").mkdir(parents=True)
    for number in range(first, min(first + 200, COUNT)):
        # A gradient in a direction and colours of its own, and a piece of the noise.
        slope = rng.uniform(-0.3, 0.3, (2, 3)).astype(np.float32)
        ramp = (x[..., None] * slope[0] + y[..., None] * slope[1] + rng.uniform(60, 190, 3)).astype(np.int16)
        top, left = rng.integers(0, 64, 2)
        pixels = np.clip(ramp + noise[top : top + HEIGHT, left : left + WIDTH], 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{first:05}" / f"{number:05}.jpg", quality=60)


def drawn_in_step(folder: Path, step: int) -> Path:
    """A picture that the training of seed 0 sees in a step."""
    from codebound.data.image_sets import step_random
    from codebound.data.picture_reading import image_names

    names = image_names(folder).names
    train = np.random.default_rng(0).permutation(len(names))[HELD_OUT:]
    return folder / names[train[int(step_random(0, step).random((BATCH, 5))[3, 0] * len(train))]]


def resident(pid: int) -> tuple[int, int]:
    """Bytes in memory of a process and its children: shared pages counted in each, and counted once."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total, fair = 0, 0
    for process in (str(pid), *children):
        try:
            rows = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
        except OSError:  # it has just ended
            continue
        sizes = {row.split()[0]: int(row.split()[1]) * 1024 for row in rows}
        total, fair = total + sizes["Rss:"], fair + sizes["Pss:"]
    return total, fair


def main(folder: str, workers: str) -> None:
    """Write as JSON: the hash of each batch, the peak of the memory, the seconds, and the warnings."""
    peak = [0, 0]

    def watch() -> None:
        while True:
            peak[:] = map(max, zip(peak, resident(os.getpid()), strict=True))
            time.sleep(0.2)

    threading.Thread(target=watch, daemon=True).start()
    from codebound.data.image_sources import PictureRequest, open_images

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        began = time.perf_counter()
        images = open_images(f"folder:{folder}", PictureRequest(32, 3, HELD_OUT, workers=int(workers)))
        digest, opened = images.digest, time.perf_counter()
        stream = images.batches(0, 0, BATCH)
        batches = [_hash(batch) for batch in islice(stream, STEPS)]
        stream.close()
        read = time.perf_counter()
        later = images.batches(0, LATER, BATCH)
        report = {
            "kind": type(images).__name__,
            "digest": digest,
            "batches": batches,
            "later": [_hash(batch) for batch in islice(later, STEPS - LATER)],
            "held_out": _hash(images.held_out),
            "memory": peak,
            "seconds": {"open": opened - began, "read": read - opened, "waited": stream.waited},
        }
        later.close()
    json.dump(report | {"warnings": [str(warning.message) for warning in said]}, sys.stdout)


def _hash(batch: Tensor) -> str:
    return hashlib.sha256(batch.numpy().tobytes()).hexdigest()


if __name__ == "__main__":
    main(*sys.argv[1:])
