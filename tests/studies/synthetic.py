"""A run folder as the engine writes it, with invented but plausible numbers: for tests of what reads it."""

import csv
import json
import math
from pathlib import Path

import numpy as np

from codebound import config
from codebound.studies.initialisation.settings import Settings

# (fresh distortion at the start, at the end; dead at start, at end) in units of the isotropic source
SHAPES = {
    "uniform": (7.96, 3.35, 61, 171),
    "kmeans": (2.874, 2.672, 0, 0),
    "rd_gaussian": (2.869, 2.665, 0.5, 0),
    "water_filling": (2.87, 2.664, 0.4, 0),
    "finite": (2.866, 2.664, 0, 0),
    "sample": (2.93, 2.662, 0, 0),
    "sample_lloyd": (2.88, 2.668, 0, 0),
    "kmeans_pp": (2.989, 2.663, 0, 0),
    "kmeans_all": (2.671, 2.668, 0, 0),
    "synthetic": (2.661, 2.64, 0, 0),
    "lattice": (2.5275, 2.58, 0, 0),
    "best": (2.5275, 2.58, 0, 0),
}
SCALE = {"isotropic": 1.0, "anisotropic": 0.53, "raw": 4.0, "photos": 0.4, "data": 0.4}
OPTIMIZERS = {"adam": 1.0, "adam_cosine": 0.2, "ema": 0.3}


def write_run(out: Path, **settings: object) -> Path:
    """Write every cell of `Settings(**settings)` to `out`."""
    chosen = Settings(**settings)  # pyright: ignore[reportArgumentType]
    out.mkdir(parents=True, exist_ok=True)
    study = {
        "study": "init",
        "fingerprint": config.fingerprint(chosen),
        "versions": {"python": "3.11", "codebound": "0.1.0", "torch": "2.13.0", "numpy": "2", "scipy": "1"},
        "machine": "Linux x86_64, 2 cores",
        "command": "codebound study init --out runs/<init>",
    }
    (out / "study.json").write_text(json.dumps(study))
    (out / "config.yaml").write_text(config.to_yaml(chosen))
    for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
        for source in chosen.sources:
            write_cell(out, chosen, source, seed)
    return out


def write_cell(out: Path, settings: Settings, source: str, seed: int) -> None:
    """One finished (source, seed)."""
    random = np.random.default_rng([seed, list(SCALE).index(source)])
    redrawn = source in ("anisotropic", "raw")
    scale = SCALE[source] * (random.uniform(0.85, 1.15) if redrawn else 1.0)
    runs = []
    for arm in settings.arms:
        for optimizer, speed in OPTIMIZERS.items():
            if optimizer != "adam" and arm not in settings.tuned_arms:
                continue
            rows = _history(settings, source, arm, speed, scale, random)
            place = out / "runs" / source / arm / optimizer / f"seed-{seed}"
            place.mkdir(parents=True, exist_ok=True)
            with (place / "metrics.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            ends = [{k: v for k, v in row.items() if k != "step"} for row in (rows[0], rows[-1])]
            runs.append({"arm": arm, "optimizer": optimizer, "initial": ends[0], "final": ends[1]})
    cell = {
        "source": source,
        "seed": seed,
        "rate_bits": math.log2(settings.codebook_size),
        "dim": settings.dim,
        "data_dim": settings.dim if source == "data" else None,
        "codebook_size": settings.codebook_size,
        "limits": _limits(source, scale),
        "latent_variance": scale,
        "reconstruction_floor": 0.56,
        "train_samples": 10_000,
        "fresh_samples": 100_000,
        "runs": runs,
        "codeword_variance": {
            arm: 5.086e-6 if arm == "uniform" else 0.75 * random.normal(1, 0.01) for arm in settings.arms
        },
        "seconds": 1.0,
    }
    (out / "cells").mkdir(exist_ok=True)
    (out / "cells" / f"{source}-seed-{seed}.json").write_text(json.dumps(cell))


def _limits(source: str, scale: float) -> dict[str, float | None]:
    isotropic, real = source == "isotropic", source in ("photos", "data")
    shannon = 2.0 * scale * (0.8 if real else 1)
    return {
        "shannon": shannon,
        "shannon_low": shannon * 0.95 if real else None,
        "shannon_high": shannon * 1.05 if real else None,
        "gaussian_reference": shannon * (1.8 if real else 1),
        "isotropic_formula": 2.0 * scale * (1 if isotropic else 2),
        "converse": 2.462 if isotropic else None,
        "random_codebook": 2.868 * scale,
        "best_known": 2.526 if isotropic else None,
    }


def _history(settings, source, arm, speed, scale, random) -> list[dict[str, float]]:
    start, end, dead0, dead1 = SHAPES[arm]
    if arm == "uniform" and speed < 1:
        end, dead1 = 2.66, 0
    if source != "isotropic" and arm == "rd_gaussian":
        start, end, dead0, dead1 = start * 1.9, end * 1.1, 50, 54
    start, end = (x * scale * random.normal(1, 0.002) for x in (start, end))
    rows = []
    for step in range(0, settings.steps + 1, settings.evaluate_every):
        left = math.exp(-step / (settings.steps * 0.2 * speed))
        fresh = end + (start - end) * left
        dead = round(dead1 + (dead0 - dead1) * left)
        row: dict[str, float] = {"step": step}
        for split, shift in (("train", -0.3 * scale * (1 - left)), ("fresh", 0.0)):
            row |= {
                f"{split}_distortion": fresh + shift,
                f"{split}_distortion_per_dim": (fresh + shift) / 8,
                f"{split}_reconstruction": fresh + shift + 0.56,
                f"{split}_perplexity": (256 - dead) * 0.92 * random.normal(1, 0.003),
                f"{split}_entropy_bits": 7.8,
                f"{split}_usage_min": 0.0,
                f"{split}_usage_max": 0.01,
                f"{split}_usage_std": 0.001,
                f"{split}_dead": float(dead),
            }
        rows.append(row | {"norm_mean": 2.4, "norm_std": 0.4, "pairwise_distance": 3.4})
    return rows
