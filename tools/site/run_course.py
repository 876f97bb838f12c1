"""Run the course's chapters and keep what they print and draw: python tools/site/run_course.py [CHAPTER …] [--check]

A chapter may take 120 seconds of one processor. With --check nothing is written; what is printed must be what is kept,
words as they are and numbers to 2 % or a unit of the last digit.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import chapters
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from PIL import Image

SECONDS = 120.0
LOOK = {
    "figure.figsize": (7.2, 3.6), "figure.dpi": 160, "font.size": 9, "grid.color": "#e3e6ea",
    "axes.grid": True, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True,
}  # fmt: skip
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[-+]?\d+)?")


def run(path: Path) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """What each code cell of a chapter left, and the figures by name.

    Raises:
        SystemExit: a chapter that takes too long, or a figure without a caption.
    """
    namespace: dict[str, Any] = {"__name__": path.stem}
    outputs: list[dict[str, Any]] = []
    figures: dict[str, bytes] = {}
    start = time.process_time()
    for cell in chapters.cells(path):
        if not cell.is_code:
            continue
        with contextlib.redirect_stdout(io.StringIO()) as printed, plt.rc_context(LOOK):
            exec(compile(cell.text, path.name, "exec", dont_inherit=True), namespace)
            drawn = bool(plt.get_fignums())
            if drawn != (cell.caption is not None):
                raise SystemExit(
                    f"{path.name}: a figure needs a first line '# Figure: …':\n{cell.text[:200]}"
                )
            name = f"{path.stem}_{len(figures)}.png" if drawn else None
            if name:
                figures[name] = picture()
        outputs.append({"code": chapters.digest(cell.text), "text": printed.getvalue(), "figure": name})
    if (seconds := time.process_time() - start) > SECONDS:
        raise SystemExit(f"{path.name} took {seconds:.0f} s of a processor; {SECONDS:.0f} are allowed")
    print(f"{path.stem}: {seconds:.0f} s", flush=True)
    return outputs, figures


def picture() -> bytes:
    """The open figure as a PNG of few colours."""
    raw, small = io.BytesIO(), io.BytesIO()
    plt.gcf().savefig(raw, format="png")
    plt.close("all")
    Image.open(raw).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(
        small, format="png", optimize=True
    )
    return small.getvalue()


def write(path: Path) -> None:
    """Run a chapter; its outputs take the place of the old ones."""
    outputs, figures = run(path)
    chapters.OUTPUTS.mkdir(exist_ok=True)
    for old in chapters.OUTPUTS.glob(f"{path.stem}_*.png"):
        old.unlink()
    for name, data in figures.items():
        (chapters.OUTPUTS / name).write_bytes(data)
    text = json.dumps(outputs, indent=1, ensure_ascii=False)
    (chapters.OUTPUTS / f"{path.stem}.json").write_text(text + "\n", encoding="utf-8")


def check(path: Path) -> None:
    """Run a chapter and compare what it prints with what is kept."""
    for found, kept in zip(run(path)[0], chapters.stored(path), strict=True):
        numbers = [[float(n) for n in NUMBER.findall(output["text"])] for output in (found, kept)]
        units = [10.0 ** -len(n.partition(".")[2]) for n in NUMBER.findall(kept["text"])]
        alike = NUMBER.sub("#", found["text"]) == NUMBER.sub("#", kept["text"]) and all(
            abs(a - b) <= max(0.02 * abs(b), 1.001 * unit) for a, b, unit in zip(*numbers, units, strict=True)
        )
        if not alike:
            raise SystemExit(f"{path.name} printed\n{found['text']}\nbut this is kept:\n{kept['text']}")


def main(arguments: list[str]) -> None:
    """All chapters, or those whose names contain an argument."""
    torch.set_num_threads(1)
    names = [a for a in arguments if not a.startswith("--")]
    for path in chapters.sources():
        if not names or any(name in path.stem for name in names):
            (check if "--check" in arguments else write)(path)


if __name__ == "__main__":
    main(sys.argv[1:])
