"""Run the study: one cell per picture, and one for what the indices cost."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import PIL

from codebound.codec.model import DEFAULT, Model, default_model, load_model
from codebound.codec.pictures import choose_indices
from codebound.codec.rates import ladder
from codebound.data.images import Photograph, load_image_folder, photographs
from codebound.runs import parallel
from codebound.runs.folder import RunFolder
from codebound.studies.compression import codecs
from codebound.studies.compression.settings import Settings

STUDY, LADDER = "compression", "ladder"


def run(
    out: Path,
    settings: Settings,
    *,
    jobs: int = 1,
    backend: parallel.Backend = "loky",
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> None:
    """Finish every cell of `settings` in the folder `out`; cells finished earlier are skipped.

    Args:
        jobs: processes. Sizes and likeness don't depend on it; times do.
        backend: as in `parallel.each`.
        progress: called with (finished, all) cells, at first and after each.

    Raises:
        InputError: pictures, a model, a codec, a folder or a backend that can't be used.
    """
    parallel.check(jobs, backend)
    codecs.check(settings.codecs)
    pictures, model = open_pictures(settings), open_model(settings)
    identity = {
        "model": model.digest().hex(),
        "tradeoff": repr(model.tradeoff),
        "pictures": _digest(pictures),
        "pillow": PIL.__version__,
    }
    folder = RunFolder.open(out, STUDY, settings, identity)
    cells = [*(cell_name(i) for i in range(len(pictures))), LADDER]
    parallel.finish(
        folder,
        cells,
        partial(_work, folder),
        name=str,
        jobs=jobs,
        backend=backend,
        progress=progress,
    )


def cell_name(number: int) -> str:
    """A picture's cell is named so."""
    return f"picture-{number:03d}"


def open_pictures(settings: Settings) -> list[Photograph]:
    """The pictures: none of the embedded ones was trained on."""
    found = photographs("held_out") if settings.data == "photos" else load_image_folder(settings.data)
    return found[: settings.most]


def open_model(settings: Settings) -> Model:
    """The model that is judged."""
    return load_model(settings.model) if settings.model else default_model()


def decoder_bytes(settings: Settings) -> int:
    """What a decoder needs beside the program: all files of the model's folder."""
    folder = Path(settings.model) if settings.model else DEFAULT
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".safetensors", ".json"))


def _work(folder: RunFolder[Settings], cell: str) -> None:
    settings = folder.settings
    pictures, model = open_pictures(settings), open_model(settings)
    if cell == LADDER:
        levels = model.qualities[-1]
        grids = [choose_indices(picture.pixels, model, levels, settings.trade) for picture in pictures]
        folder.finish(cell, {"rows": ladder(model, grids), "decoder_bytes": decoder_bytes(settings)})
        return
    picture = pictures[int(cell.removeprefix("picture-"))]
    found = [
        point._asdict() for point in codecs.points(picture.pixels, settings.codecs, model, settings.trade)
    ]
    height, width = picture.pixels.shape[:2]
    folder.finish(cell, {"name": picture.name, "height": height, "width": width, "points": found})


def _digest(pictures: list[Photograph]) -> str:
    hashed = hashlib.sha256()
    for picture in pictures:
        hashed.update(f"{picture.name} {picture.pixels.shape}".encode() + picture.pixels.tobytes())
    return hashed.hexdigest()[:12]
