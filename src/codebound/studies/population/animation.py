"""A picture of codewords being born and dying: a 2-D source, its cells, SGD beside EMA, as an animation."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image
from torch import Tensor

from codebound import search
from codebound.reporting import plots
from codebound.studies.population.settings import Scenario
from codebound.studies.population.simulation import Simulation, generator, source, starts

WINDOW = 40  # tokens per codeword
FRAMES, HOLD = 40, 6  # the last picture stays for HOLD frames
HALF = 5.0  # of the side of the picture
ALIVE, DYING, BORN, DEAD = range(4)
COLOURS = ("#cfe3f3", "#f2b8b0", "#bfe3c4", "#e9ebee")
EDGE = "#8f99a5"
WORDS = ("hit in this window", "died: no hit any more", "returned: hit again", "dead: no hit, as before")
SCENARIOS = tuple(
    Scenario(
        name=update, update=update, lr=1.0, decay=0.98, codebook_size=48, batch_size=32, init="normal", std=2.4,
        source="gaussian", dim=2,
    )
    for update in ("sgd", "ema")
)  # fmt: skip


class Film(NamedTuple):
    """Codewords and what became of them, for each scenario and frame; a frame is a window."""

    codewords: Tensor  # [2, frames, K, 2]
    fates: Tensor  # [2, frames, K], ALIVE …
    points: Tensor  # [n, 2] of the source, as a backdrop

    def to_json(self) -> dict[str, Any]:
        """How many codewords met which fate in each window."""
        tally = [[torch.bincount(f, minlength=4).tolist() for f in frames] for frames in self.fates]
        return {
            "window": WINDOW,
            "fates": ["alive", "died", "returned", "dead"],
            "counts": {scenario.update: counts for scenario, counts in zip(SCENARIOS, tally, strict=True)},
            "scenarios": [scenario.model_dump(mode="json") for scenario in SCENARIOS],
        }


def record(seed: int) -> Film:
    """Train one codebook by SGD and one by EMA from the same start."""
    books, fates = [], []
    draw = source(SCENARIOS[0].source, 2)
    begin = starts(SCENARIOS[0], 1, generator(SCENARIOS[0], seed, "film"))
    for scenario in SCENARIOS:
        simulation = Simulation(scenario, draw, begin, generator(scenario, seed, "film batches"))
        steps = WINDOW * scenario.codebook_size // scenario.batch_size
        before = torch.ones(scenario.codebook_size, dtype=torch.bool)
        for _ in range(FRAMES):
            hits = sum(simulation.step()[0] for _ in range(steps))
            now = torch.as_tensor(hits) > 0
            fates.append(torch.where(now, torch.where(before, ALIVE, BORN), torch.where(before, DYING, DEAD)))
            books.append(simulation.state.codewords[0].clone())
            before = now
    shape = (len(SCENARIOS), FRAMES)
    return Film(
        torch.stack(books).unflatten(0, shape),
        torch.stack(fates).unflatten(0, shape),
        draw(1500, generator(SCENARIOS[0], seed, "film points")),
    )


def write_gif(path: Path, film: Film) -> None:
    """The animation; one palette of 64 colours for all frames."""
    frames = [_picture(film, i) for i in range(film.fates.shape[1])]
    # All colours occur in the first frame and the last.
    both = Image.new("RGB", (frames[0].width, 2 * frames[0].height))
    both.paste(frames[0], (0, 0))
    both.paste(frames[-1], (0, frames[0].height))
    palette = both.quantize(64)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    small += [small[-1]] * HOLD
    small[0].save(
        path, format="GIF", save_all=True, append_images=small[1:], duration=250, loop=0, optimize=True
    )


def _picture(film: Film, frame: int) -> Image.Image:
    figure = Figure(figsize=(8.4, 4.9), dpi=90, facecolor=plots.PAPER)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.07, top=0.87, wspace=0.03)
    for row, (axes, scenario) in enumerate(zip(figure.subplots(1, 2), SCENARIOS, strict=True)):
        _draw(axes, film, row, frame, scenario.update.upper())
    tokens = (frame + 1) * WINDOW * SCENARIOS[0].codebook_size
    figure.suptitle(f"Window {frame + 1}: after {tokens:,} tokens", fontsize=11, x=0.01, ha="left")
    figure.legend(handles=_legend(), loc="lower center", ncol=5, fontsize=7.5, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=plots.PAPER)
    return Image.open(buffer).convert("RGB")


def _draw(axes: Axes, film: Film, row: int, frame: int, title: str) -> None:
    books, fates = film.codewords[row, frame], film.fates[row, frame]
    side = np.linspace(-HALF, HALF, 280, dtype=np.float32)
    grid = torch.from_numpy(np.stack(np.meshgrid(side, side), -1))
    cells = search.nearest(grid, books, certify=False).numpy()
    edge = np.zeros(cells.shape, dtype=bool)
    edge[1:] |= cells[1:] != cells[:-1]
    edge[:, 1:] |= cells[:, 1:] != cells[:, :-1]
    place: dict[str, Any] = {"origin": "lower", "extent": (-HALF, HALF) * 2, "interpolation": "nearest"}
    axes.imshow(fates.numpy()[cells], cmap=ListedColormap(COLOURS), vmin=0, vmax=3, **place)
    axes.imshow(np.where(edge, 1.0, np.nan), cmap=ListedColormap([EDGE]), alpha=0.8, **place)
    axes.scatter(*film.points.T.numpy(), s=1.2, color="#5b6470", alpha=0.35, linewidths=0)
    dead = (fates == DEAD) | (fates == DYING)
    axes.scatter(*books[~dead].T.numpy(), s=16, color="#0b63a5", linewidths=0, zorder=3)
    axes.scatter(*books[dead].T.numpy(), s=20, color="#b3261e", marker="x", linewidths=1.3, zorder=3)
    axes.set(xlim=(-HALF, HALF), ylim=(-HALF, HALF), xticks=[], yticks=[])
    words = f"{title}: {int(dead.sum())} of {len(dead)} dead"
    axes.set_title(words, loc="left", fontsize=10, fontweight="bold", pad=5)


def _legend() -> list[Line2D]:
    look: dict[str, Any] = {"marker": "s", "ls": "", "mec": EDGE, "ms": 9}
    cells = [Line2D([], [], color=c, label=word, **look) for c, word in zip(COLOURS, WORDS, strict=True)]
    return [*cells, Line2D([], [], marker=".", ls="", color="#5b6470", ms=5, label="the source")]
