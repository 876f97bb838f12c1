"""What a report of audio tokenizers shows: names of figures, sounds to listen to, spectrograms, curves over bitrate."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codebound.metrics import sound as metrics
from codebound.reporting import plots
from codebound.sound.resampling import LOUDEST

NAMES = {
    "pesq": ("PESQ, wide band", "{:.2f}", "4.64"),
    "stoi": ("STOI", "{:.3f}", "1"),
    "si_sdr": ("SI-SDR, dB", "{:.2f}", "–"),
    "mel": ("mel distance", "{:.4f}", "0"),
}


def players(folder: Path) -> list[tuple[str, str]]:
    """Name and address of each sound that a run wrote."""
    files = sorted((folder / "sounds").glob("*.wav"))
    return [
        (f.stem, f"data:audio/wav;base64,{base64.b64encode(f.read_bytes()).decode('ascii')}") for f in files
    ]


def spectrograms(folder: Path) -> bytes:
    """Log magnitudes over time and frequency of the first recording and of what became of it."""
    files = sorted((folder / "sounds").glob("*.wav"))
    first = min(files, key=lambda path: len(path.stem)).stem if files else ""
    files = [path for path in files if path.stem.startswith(first)][:4]
    figure = plots.new_figure(11, 2.4 * max(len(files), 1))
    for axes, path in zip(np.atleast_1d(figure.subplots(max(len(files), 1))), files, strict=False):
        samples = np.frombuffer(path.read_bytes()[44:], dtype="<i2").astype(np.float32) / LOUDEST
        level = 20 * torch.log10(metrics.spectrum(torch.from_numpy(samples)[None], 512)[0].abs() + 1e-5)
        plots.style(axes, path.stem, "", "frequency")
        axes.imshow(level.numpy(), origin="lower", aspect="auto", vmin=-100, vmax=-20, cmap="magma")
    return plots.picture(figure).png


def curves(runs: Sequence[Mapping[str, Any]]) -> bytes:
    """Each figure over the bitrate."""
    names = [
        name
        for name in NAMES
        if any(name in row for run in runs for row in run["final"]["held_out"].values())
    ]
    figure = plots.new_figure(11, 3.4)
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        plots.style(axes, NAMES[name][0], "kbit/s before coding", "")
        for number, run in enumerate(runs):
            rows = run["final"]["held_out"].items()
            points = sorted((float(rate), row[name]) for rate, row in rows if name in row)
            if points:  # a run may have been judged without the package of this figure
                colour = f"C{number}"
                axes.plot(*zip(*points, strict=True), colour, marker="o", label=run["name"], linewidth=1.6)
        axes.legend(fontsize=8, frameon=False)
    return plots.picture(figure).png
