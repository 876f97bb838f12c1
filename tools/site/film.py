"""Codewords being born and dying, precomputed for the explorer: python tools/site/film.py

Pairs from a ring that moves to the right while the codewords follow by EMA: docs/explore/film.json has, for each number
of codewords, decay and kind of revival, where the codewords are after every fourth batch, and how many batches ago each
was hit.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import torch
from torch import Tensor

import codebound
from codebound import VectorQuantizer
from codebound.quantize import EMA, Never, Resample

FILE = Path(__file__).parents[2] / "docs" / "explore" / "film.json"
SIZES, DECAYS = (8, 16, 32, 64), (0.9, 0.97, 0.99)
REVIVALS = {"never": Never(), "resample": Resample(threshold=0.1, window=20.0)}
BATCHES, EVERY, BATCH = 160, 4, 256
DEAD = 20  # batches without a hit


def source(step: int, count: int, seed: int) -> Tensor:
    """Points around a ring whose centre goes from −1.5 to 1.5."""
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    ring = torch.stack([angle.cos(), angle.sin()], dim=1) + 0.15 * torch.randn(count, 2, generator=generator)
    return ring + torch.tensor([-1.5 + 3 * step / BATCHES, 0.0])


def film(size: int, decay: float, revival: str) -> dict[str, list]:
    """Frames of [x, y] in hundredths and idle batches for each codeword; those in use and the distortion, by frame."""
    vq = VectorQuantizer(2, size, update=EMA(decay), revival=REVIVALS[revival])
    vq.set_codewords_(source(0, size, seed=-1))
    idle = torch.zeros(size, dtype=torch.int64)
    frames, used, errors = [], [], []
    for step in range(BATCHES):
        z = source(step, BATCH, step)
        result = vq(z)
        hit = torch.bincount(result.indices.flatten(), minlength=size) > 0
        idle = torch.where(hit, 0, idle + 1)
        report = vq.update_(result)
        idle[report.revived[0]] = 0
        if step % EVERY == 0:
            words = (100 * vq.codewords()).round().int()
            frames.append(torch.cat([words, idle.clamp(max=DEAD)[:, None].int()], dim=1).flatten().tolist())
            used.append(int((idle < DEAD).sum()))
            errors.append(round(float((result.z_q - z).square().sum(1).mean()), 3))
    return {"frames": frames, "used": used, "errors": errors}


def main() -> None:
    """All films in one file."""
    films = {f"{k}/{d}/{r}": film(k, d, r) for k, d, r in itertools.product(SIZES, DECAYS, REVIVALS)}
    page = {"command": "python tools/site/film.py", "version": codebound.__version__, "sizes": SIZES, "decays": DECAYS,
            "revivals": list(REVIVALS), "batches": BATCHES, "every": EVERY, "dead": DEAD, "films": films}  # fmt: skip
    FILE.write_text(json.dumps(page, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
