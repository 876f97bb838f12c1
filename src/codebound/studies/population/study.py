"""Run the study: the scenarios that are not finished yet, in parallel, and stop cleanly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from codebound.files import replacing
from codebound.runs import parallel
from codebound.runs.folder import RunFolder
from codebound.studies.population import animation, lifetimes
from codebound.studies.population.cell import run_cell
from codebound.studies.population.settings import Scenario, Settings

QUICK = {"codewords": 1024}
FULL = {"sweep": True}
LIFETIMES, FILM = "lifetimes", "film"


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
        jobs: processes, each with one thread; −1 for one per core. It changes no number.
        backend: as in `parallel.each`.
        progress: called with (finished, all) cells, at first and after each.

    Raises:
        InputError: a folder or a backend that can't be used, before anything is written.
        KeyboardInterrupt: passed on; what is finished stays.
    """
    parallel.check(jobs, backend)
    digest = hashlib.sha256(repr([s.model_dump() for s in settings.all]).encode()).hexdigest()[:12]
    folder = RunFolder.open(out, "population", settings, {"scenarios": digest})
    every: list[Scenario | str] = [*settings.all, LIFETIMES, FILM]
    parallel.finish(
        folder,
        every,
        partial(_work, folder),
        name=name,
        jobs=jobs,
        backend=backend,
        progress=progress,
    )


def name(cell: Scenario | str) -> str:
    """A cell's file is named so."""
    return cell if isinstance(cell, str) else cell.name


def _work(folder: RunFolder[Settings], cell: Scenario | str) -> None:
    if isinstance(cell, Scenario):
        run_cell(folder, cell)
    elif cell == LIFETIMES:
        folder.finish(cell, lifetimes.measure(folder.settings.seed))
    else:
        film = animation.record(folder.settings.seed)
        with replacing(folder.path / "figures" / "film.gif") as path:
            animation.write_gif(path, film)
        with replacing(folder.path / "figures" / "film.png") as path:
            animation.write_strip(path, film)
        folder.finish(cell, film.to_json())
