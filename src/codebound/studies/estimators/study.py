"""Run the study: the cells that are not finished yet, in parallel, and stop cleanly."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from codebound.runs import parallel
from codebound.runs.folder import RunFolder
from codebound.studies.estimators.arms import arms
from codebound.studies.estimators.linear import run_linear
from codebound.studies.estimators.networks import NETWORK_ESTIMATORS, run_networks
from codebound.studies.estimators.settings import Settings
from codebound.studies.estimators.timing import run_timing
from codebound.studies.estimators.verification import WAYS, run_verification

Experiment = Literal["linear", "verify", "mlp", "timing"]
VERIFIED_ON = "gaussian"


class Cell(NamedTuple):
    """The unit of work and of resumption: it depends on nothing but the settings and itself."""

    experiment: Experiment
    source: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.experiment}-{self.source}-{self.seed}"


def cells(settings: Settings) -> list[Cell]:
    """All cells; seeds outermost, so that an interrupted run has whole seeds. The timing is alone at the end."""
    found = []
    for seed in range(settings.first_seed, settings.first_seed + settings.seeds):
        found += [Cell("linear", source, seed) for source in settings.sources]
        found.append(Cell("verify", VERIFIED_ON, seed))
        found += [Cell("mlp", source, seed) for source in settings.mlp_sources]
    if settings.timing_rounds:
        found.append(Cell("timing", VERIFIED_ON, settings.first_seed))
    return found


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
        InputError: a folder, a number of jobs or a backend that can't be used, before anything is written.
        KeyboardInterrupt: passed on; what is finished stays.
    """
    parallel.check(jobs, backend)
    plan = [arms(settings, main) for main in (True, False)]
    definition = repr([plan, NETWORK_ESTIMATORS, [way[1] for way in WAYS.values()]])
    inputs = {"arms": hashlib.sha256(definition.encode()).hexdigest()[:12]}
    folder = RunFolder.open(out, "estimators", settings, inputs)
    parallel.finish(
        folder,
        cells(settings),
        partial(run_cell, folder),
        name=lambda cell: cell.name,
        jobs=jobs,
        backend=backend,
        progress=progress,
        alone=lambda cell: cell.experiment == "timing",
    )


def run_cell(folder: RunFolder[Settings], cell: Cell) -> None:
    """Compute and write one cell; its JSON file says that it is finished."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the sum's order, hence its last bit, depends on it
    began = time.perf_counter()
    try:
        result = _EXPERIMENTS[cell.experiment](folder.settings, cell.source, cell.seed)
    finally:
        torch.set_num_threads(threads)
    folder.finish(cell.name, {**cell._asdict(), **result, "cell_seconds": time.perf_counter() - began})


_EXPERIMENTS: dict[Experiment, Callable[[Settings, str, int], dict[str, Any]]] = {
    "linear": run_linear,
    "verify": run_verification,
    "mlp": run_networks,
    "timing": run_timing,
}
