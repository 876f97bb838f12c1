"""The README's picture and chart: python tools/site/front_figures.py

docs/assets/reconstructions.webp has held-out photographs beside what files of the default tokenizer decode to, at three
rates; reconstructions.json their bits per pixel and PSNR. docs/assets/plane-{light,dark}.svg: docs/results/plane.json.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image

import codebound
from codebound import codec
from codebound.data.images import photographs
from codebound.metrics.likeness import psnr
from codebound.reporting.plots import new_figure

DOCS = Path(__file__).parents[2] / "docs"
ASSETS, PLANE = DOCS / "assets", DOCS / "results" / "plane.json"
PICTURES, QUALITIES, HEIGHT = 2, (1, 2, 4), 200  # how many, levels of indices that are written, pixels shown
LOOKS = {"light": ("#1b1f24", "#5b6470", "#e3e6ea"), "dark": ("#e9edf2", "#aeb6c2", "#3a4048")}
MARKS = {
    "VectorQuantizer": ("#2f6fdb", "o"),
    "Residual": ("#12a150", "s"),
    "Product": ("#c77700", "D"),
    "FSQ": ("#d6336c", "^"),
    "scalars, entropy coded": ("#8b8f98", "x"),
    "Trellis": ("#8250df", "*"),
}


def reconstructions() -> None:
    """A row for each photograph: the original, then each rate from the lowest."""
    model = codec.default_model()
    rows, figures = [], []
    for photograph in photographs("held_out")[:PICTURES]:
        shown = [photograph.pixels]
        for quality in QUALITIES:
            data = codec.compress(photograph.pixels, model=model, quality=quality)
            again = codec.decompress(data, model=model)
            height, width, _ = photograph.pixels.shape
            figures.append(
                {
                    "picture": photograph.name,
                    "levels": quality,
                    "bits_per_pixel": round(8 * len(data) / (height * width), 3),
                    "psnr": round(float(psnr(batch(photograph.pixels), batch(again))), 2),
                }
            )
            shown.append(again)
        sized = [Image.fromarray(pixels) for pixels in shown]
        rows.append(
            np.hstack([np.asarray(p.resize((round(p.width * HEIGHT / p.height), HEIGHT))) for p in sized])
        )
    width = min(row.shape[1] for row in rows)
    Image.fromarray(np.vstack([row[:, :width] for row in rows])).save(
        ASSETS / "reconstructions.webp", quality=88
    )
    record = {"version": codebound.__version__, "figures": figures}
    (ASSETS / "reconstructions.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def batch(pixels: np.ndarray) -> torch.Tensor:
    """8-bit pixels `[h, w, 3]` as a batch of one in [0, 1]."""
    return torch.tensor(pixels).permute(2, 0, 1)[None] / 255


def chart(look: str) -> None:
    """Distance from the bound over rate, one mark for each point; equal data give an equal file."""
    plane = json.loads(PLANE.read_text(encoding="utf-8"))
    ink, muted, grid = LOOKS[look]
    style = {"svg.hashsalt": "codebound", "svg.fonttype": "none", "font.family": "sans-serif"}
    with mpl.rc_context(style):
        figure = new_figure(7.6, 4.0)
        axes = figure.subplots()
        axes.axhline(0, color=ink, linewidth=1.6, label="rate-distortion bound")
        axes.plot(*zip(*plane["limits"]["converse"], strict=True), color=ink, dashes=(6, 2), linewidth=1.2,
                  label="no code of 8 dimensions and this size is below")  # fmt: skip
        axes.plot(*zip(*plane["limits"]["random codebook"], strict=True), color=muted, dashes=(1, 1.5),
                  label="random codewords")  # fmt: skip
        for kind, (color, mark) in MARKS.items():
            points = [p for p in plane["points"] if p["kind"] == kind]
            axes.scatter([p["bits"] for p in points], [p["db"] for p in points], color=color, marker=mark, s=42,
                         label=kind)  # fmt: skip
        axes.set(xlabel="bits per component", ylabel="dB above the bound", ylim=(-0.2, 6), xlim=(0, 4.1))
        axes.grid(color=grid, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=ink)
        axes.xaxis.label.set_color(ink)
        axes.yaxis.label.set_color(ink)
        axes.set_facecolor("none")
        for spine in axes.spines.values():
            spine.set_color(muted)
        axes.legend(frameon=False, labelcolor=ink, fontsize=8.5, ncols=2)
        figure.savefig(ASSETS / f"plane-{look}.svg", transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    reconstructions()
    for name in LOOKS:
        chart(name)
