"""Write tests/codec/golden and golden_pictures: files that every later version must decode, and what they hold.

    .venv/bin/python tools/make_golden.py

Run it for a new format version or mode only; a file that is there is never written again.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "codec"))

from samples import grid, random_prior  # noqa: E402

from codebound.codec import compress, compress_indices, decompress  # noqa: E402
from codebound.coding.container import Mode  # noqa: E402
from codebound.data.images import photographs  # noqa: E402

FOLDER = ROOT / "tests" / "codec" / "golden"
CASES = {  # codebook sizes, height, width
    "two": ((2,), 9, 14),
    "seven": ((7,), 1, 40),
    "byte": ((256,), 12, 16),
    "one-digit": ((512,), 16, 7),
    "two-digits": ((1000,), 13, 13),
    "largest": ((65_536,), 10, 11),
    "residual": ((64, 64, 64), 8, 9),
    "unequal": ((5, 700, 256), 7, 8),
}


PICTURES = ROOT / "tests" / "codec" / "golden_pictures"


def pictures() -> dict[str, tuple[np.ndarray, int]]:
    """Pictures and the qualities that they are written with."""
    photo, other = (each.pixels for each in photographs("held_out")[:2])
    rng = np.random.default_rng(6)
    patches = rng.integers(0, 256, (2, 3, 3)).astype(np.uint8)
    return {
        "colour": (photo[200:235, 160:211], 40),
        "grey": (other[200:233, 190:219, 1:2].repeat(3, axis=2), 75),
        "sharp": (rng.choice(np.array([0, 90, 255], dtype=np.uint8), (13, 22, 3)), 95),
        "patches": (patches.repeat(17, axis=0).repeat(16, axis=1), 5),
    }


def main() -> None:
    rng = np.random.default_rng(6)
    for name, (sizes, height, width) in CASES.items():
        prior = random_prior(sizes, seed=6)
        indices = grid(rng, height, width, sizes)
        folder = FOLDER / name
        if folder.exists():
            continue
        prior.save(folder)
        (folder / "indices.json").write_text(json.dumps(indices.tolist(), separators=(",", ":")) + "\n")
        for mode in Mode:
            data = compress_indices(indices, sizes, prior=prior, modes=[mode])
            (folder / f"{mode.name.lower()}.cbd").write_bytes(data)

    # Pictures with their decoded pixels.
    for name, (pixels, quality) in pictures().items():
        path = PICTURES / f"{name}.cbd"
        if not path.exists():
            data = compress(pixels, quality=quality)
            path.write_bytes(data)
            Image.fromarray(decompress(data)).save(path.with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
