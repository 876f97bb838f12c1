"""Run the study: the cells that are not finished yet, in parallel, and stop cleanly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from joblib import Parallel, delayed

from codebound.errors import InputError
from codebound.studies.folder import RunFolder
from codebound.studies.initialisation import sources
from codebound.studies.initialisation.arms import ARMS
from codebound.studies.initialisation.cell import Cell, cells, run_cell
from codebound.studies.initialisation.settings import Settings

QUICK = {"seeds": 3}


def run(
    out: Path,
    settings: Settings,
    *,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> None:
    """Finish every cell of `settings` in the folder `out`; cells finished earlier are skipped.

    Args:
        jobs: processes, each with one thread; −1 for one per core. It changes no number.
        progress: called with (finished, all) cells, at first and after each.

    Raises:
        InputError: data or a folder that can't be used, before anything is written.
        KeyboardInterrupt: passed on; what is finished stays.
    """
    if jobs == 0 or jobs < -1:
        raise InputError(f"jobs must be 1 or more, or −1 for one per core; got {jobs}")
    inputs = {"arms": hashlib.sha256(repr([ARMS[name] for name in settings.arms]).encode()).hexdigest()[:12]}
    if settings.data is not None:
        sources.check_data(settings)
        inputs["data"] = sources.data_digest(settings)
    folder = RunFolder.open(out, "init", settings, inputs)
    every = cells(settings)
    missing = [cell for cell in every if not folder.finished(cell.name)]
    done = len(every) - len(missing)
    progress(done, len(every))
    for _ in _finish(folder, missing, jobs):
        done += 1
        progress(done, len(every))


def _finish(folder: RunFolder[Settings], missing: list[Cell], jobs: int):
    if jobs == 1 or len(missing) <= 1:
        return (run_cell(folder, cell) for cell in missing)
    return Parallel(n_jobs=jobs, return_as="generator_unordered")(
        delayed(run_cell)(folder, cell) for cell in missing
    )
