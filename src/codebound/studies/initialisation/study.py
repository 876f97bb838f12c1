"""Run the study: the cells that are not finished yet, in parallel, and stop cleanly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from codebound.runs import parallel
from codebound.runs.folder import RunFolder
from codebound.studies.initialisation import sources
from codebound.studies.initialisation.arms import ARMS
from codebound.studies.initialisation.cell import cells, run_cell
from codebound.studies.initialisation.settings import Settings

QUICK = {"seeds": 3}


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
        backend: where they run; see `studies.parallel`.
        progress: called with (finished, all) cells, at first and after each.

    Raises:
        InputError: data or a folder that can't be used, before anything is written.
        KeyboardInterrupt: passed on; what is finished stays.
    """
    parallel.check(jobs, backend)
    inputs = {"arms": hashlib.sha256(repr([ARMS[name] for name in settings.arms]).encode()).hexdigest()[:12]}
    if settings.data is not None:
        sources.check_data(settings)
        inputs["data"] = sources.data_digest(settings)
    folder = RunFolder.open(out, "init", settings, inputs)
    parallel.finish(
        folder,
        cells(settings),
        partial(run_cell, folder),
        name=lambda cell: cell.name,
        jobs=jobs,
        backend=backend,
        progress=progress,
    )
