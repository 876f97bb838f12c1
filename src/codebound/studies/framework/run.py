"""Run a study: the cells that are not finished yet, in parallel, and stop cleanly."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from codebound.errors import InputError
from codebound.files import replacing, write_text
from codebound.runs import parallel
from codebound.runs.folder import PLAN, RunFolder
from codebound.studies.framework.cells import Cell, CellResult
from codebound.studies.framework.study import S, Study


def run(
    study: Study[S],
    out: Path,
    settings: S,
    *,
    jobs: int = 1,
    backend: parallel.Backend = "loky",
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> None:
    """Finish every cell of `settings` in the folder `out`; cells finished earlier are skipped.

    Args:
        jobs: processes, each with one thread; −1 for one per core. It changes no number but times.
        backend: where they run, as in `parallel.each`.
        progress: called with (finished, all) cells, at first and after each.

    Raises:
        InputError: settings, data, a folder or a backend that can't be used, before anything is written.
        KeyboardInterrupt: passed on; what is finished stays.
    """
    # Everything that can be refused is refused here.
    parallel.check(jobs, backend)
    identity = study.prepare(settings)
    cells = study.cells(settings)
    _check_names(cells)

    # What is written from here on is one file per finished cell.
    folder = RunFolder.open(out, study.entry.name, settings, identity)
    write_text(folder.path / PLAN, json.dumps([asdict(cell) for cell in cells], indent=1) + "\n")
    parallel.finish(
        folder,
        cells,
        partial(finish_cell, study, folder),
        name=lambda cell: cell.name,
        jobs=jobs,
        backend=backend,
        progress=progress,
        alone=lambda cell: cell.alone,
    )


def finish_cell(study: Study[S], folder: RunFolder[S], cell: Cell) -> None:
    """Measure one cell and write its files; the JSON file comes last and says that it is finished."""
    measured, wall, cpu = _timed(study, folder.settings, cell)
    for name, write in measured.files.items():
        with replacing(folder.path / name) as path:
            write(path)
    own = {
        "factors": dict(cell.factors),
        "cell_seconds": wall,
        "cpu_seconds": cpu,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if twice := own.keys() & measured.content.keys():
        raise ValueError(f"keys of a cell that the framework writes: {', '.join(sorted(twice))}")
    folder.finish(cell.name, {**own, **measured.content})


def _timed(study: Study[S], settings: S, cell: Cell) -> tuple[CellResult, float, float]:
    """What it measures, on one thread (a sum's order, hence its last bit, depends on it), and its seconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        with threadpool_limits(1):
            measured: dict[str, Any] | CellResult = study.measure(settings, cell)
    finally:
        torch.set_num_threads(threads)
    result = measured if isinstance(measured, CellResult) else CellResult(measured)
    return result, time.perf_counter() - wall, time.process_time() - cpu


def _check_names(cells: list[Cell]) -> None:
    names = [cell.name for cell in cells]
    if not names:
        raise InputError("these settings leave no cell to run")
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise InputError(f"these settings name a cell twice: {', '.join(twice)}")
    if wrong := [name for name in names if not name or Path(name).name != name or name.startswith(".")]:
        raise InputError(f"a cell is named {wrong[0]!r}; a name of a file is accepted, without folders")
