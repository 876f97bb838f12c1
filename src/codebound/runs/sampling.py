"""New pictures from a finished prior: files, one picture of all, and a JSON with settings and likelihoods."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codebound.files import write_text
from codebound.runs.folder import check_new
from codebound.runs.pictures import grid_picture, save_png
from codebound.runs.sample_sources import ALL, SampleOptions, open_source
from codebound.tokenizers.image import to_uint8
from codebound.tokenizers.opening import decoded

COLUMNS = 16  # of the picture of all, at most
SHEET = 400  # pictures in it, at most
AT_ONCE = 100  # pictures
INDEX, SHEET_NAME = "samples.json", "grid.png"


def sample(
    run: Path,
    options: SampleOptions,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Any]:
    """Draw pictures and write them to a new folder: PNGs, `grid.png` and `samples.json`, which comes last.

    Returns:
        The content of `samples.json`: settings, hashes, and of each picture its file, class and bits.

    Raises:
        InputError: a folder that holds something, or as `open_source`.
    """
    # Everything that can be refused is refused before the first picture.
    check_new(folder)
    source = open_source(run, options)

    # Some pictures at a time: indices, their likelihood, pixels, files.
    rows: list[dict[str, Any]] = []
    sheet: list[Tensor] = []
    for start in range(0, options.count, AT_ONCE):
        part = source.labels[start : start + AT_ONCE]
        indices, bits = source.draw(part, start)
        pictures = decoded(source.tokenizer, indices, source.size).cpu()
        if source.completion is not None:
            pictures = torch.where(source.completion.kept, source.completion.picture, pictures)
        for number, (picture, label, cost) in enumerate(zip(pictures, part, bits, strict=True), start):
            name = f"{number:05d}.png" if label is None else f"{number:05d}-{source.classes[label]}.png"
            save_png(folder / name, to_uint8(picture))
            rows.append(
                {
                    "file": name,
                    "class": None if label is None else source.classes[label],
                    "bits": round(cost, 3),
                }
            )
        sheet += list(pictures[: max(0, SHEET - len(sheet))])
        progress(min(start + AT_ONCE, options.count), options.count)

    # All in one picture, a column for each class where they take turns; then what they are.
    turns = len(source.classes) if options.label == ALL else math.ceil(math.sqrt(options.count))
    save_png(folder / SHEET_NAME, grid_picture(torch.stack(sheet), max(1, min(turns, COLUMNS))))
    about = {
        "run": str(run),
        "settings": {**options._asdict(), "given": None if options.given is None else str(options.given)},
        "tokenizer": source.digest,
        "exact": source.exact,
        "tokens": source.tokens,
        "samples": rows,
    }
    write_text(folder / INDEX, json.dumps(about, indent=2) + "\n")
    return about
