"""Write tests/codec/golden: a file in every mode, its indices and its priors, which every later version must decode.

    .venv/bin/python tools/make_golden.py

Run it for a new format version or mode only; a file that is there is never written again.
"""

import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "codec"))

from samples import grid, random_prior  # noqa: E402

from codebound.codec import compress_indices  # noqa: E402
from codebound.coding.container import Mode  # noqa: E402

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


if __name__ == "__main__":
    main()
