"""Run the study: the cells that are not finished yet, in parallel, and stop cleanly."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from codebound.data.image_sets import ImageSet
from codebound.data.image_sources import open_images
from codebound.data.picture_request import PictureRequest
from codebound.engine.devices import launch
from codebound.engine.trainer import Trainer
from codebound.evaluate import tokenizers as evaluation
from codebound.metrics import CodeUsage
from codebound.runs import parallel
from codebound.runs import settings as runs
from codebound.runs.folder import RunFolder
from codebound.studies.utilisation import arms
from codebound.studies.utilisation.arms import Start
from codebound.studies.utilisation.settings import Settings
from codebound.tasks.tokenizer import TokenizerTask
from codebound.tokenizers import ImageTokenizer

STUDY = "utilisation"


class Cell(NamedTuple):
    """One training: the unit of work and of resumption."""

    arm: str
    codebook_size: int
    start: Start
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm}-{self.codebook_size}-{self.start}-{self.seed}"


def cells(settings: Settings) -> list[Cell]:
    """All cells; the quick ones first, seeds outermost, so that an interrupted run has whole seeds."""
    groups: list[tuple[tuple[str, ...], tuple[int, ...], Start, int]] = [
        (settings.arms, settings.sizes, "kmeans", settings.seeds),
        (settings.large_arms, settings.large_sizes, "kmeans", settings.fewer_seeds),
        (settings.huge_arms, settings.huge_sizes, "kmeans", settings.fewer_seeds),
    ]
    if settings.bad_start_size is not None:
        groups.insert(1, (settings.bad_start_arms, (settings.bad_start_size,), "bad", settings.fewer_seeds))
    found = [
        Cell(arm, size, start, settings.first_seed + seed)
        for names, sizes, start, seeds in groups
        for seed in range(seeds)
        for size in sizes
        for arm in names
    ]
    return list(dict.fromkeys(found))


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
        InputError: a folder, data, a number of jobs or a backend that can't be used, before anything is written.
        KeyboardInterrupt: passed on; what is finished stays.
    """
    parallel.check(jobs, backend)
    images = _images(settings)
    for size in {cell.codebook_size for cell in cells(settings)}:
        runs.check_codebook(settings.run(size, 0), images)
    folder = RunFolder.open(out, STUDY, settings, {"data": images.digest})
    parallel.finish(
        folder,
        cells(settings),
        partial(run_cell, folder),
        name=lambda cell: cell.name,
        jobs=jobs,
        backend=backend,
        progress=progress,
    )


def run_cell(folder: RunFolder[Settings], cell: Cell) -> None:
    """Compute and write one cell; its JSON file says that it is finished."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the sum's order, hence its last bit, depends on it
    began = time.perf_counter()
    try:
        result = train_cell(folder.settings, cell)
    finally:
        torch.set_num_threads(threads)
    folder.finish(cell.name, {**cell._asdict(), **result, "cell_seconds": time.perf_counter() - began})


def train_cell(settings: Settings, cell: Cell) -> dict[str, Any]:
    """Train one tokenizer; its held-out figures over the steps and at the end."""
    images, own = _images(settings), settings.run(cell.codebook_size, cell.seed)
    recipe = runs.recipe(own, images)
    torch.manual_seed(cell.seed)
    tokenizer = ImageTokenizer(
        arms.build(cell.arm, cell.start, runs.quantizer_request(own, recipe.steps, images)),
        channels=images.channels,
        width=own.width,
        depth=own.depth,
        stride=own.stride,
    )
    trainer = Trainer(launch("cpu"), TokenizerTask(tokenizer, images, own), recipe)
    trainer.initialise()
    points = {round(settings.steps * (i + 1) / settings.evaluations) for i in range(settings.evaluations)}
    curve, revived = [_judge(trainer, tokenizer, images, quick=True)], 0.0
    for step in range(1, settings.steps + 1):
        revived += trainer.step().values.get("revived", 0.0)
        if step in points and step < settings.steps:
            curve.append(_judge(trainer, tokenizer, images, quick=True))
    final = {**_judge(trainer, tokenizer, images, quick=False)}
    final["usage_training"] = _usage_in_training(trainer, tokenizer, images)
    return {"curve": [*curve, final], "final": final, "revived": revived, "skipped": trainer.progress.skipped}


def _judge(trainer: Trainer, tokenizer: ImageTokenizer, images: ImageSet, quick: bool) -> dict[str, Any]:
    """Figures of the averaged weights; a point of the curve from the first crops only."""
    pictures = images.held_out[: runs.DEFAULT_HELD_OUT] if quick else images.held_out
    samples = evaluation.QUICK_SAMPLES if quick else evaluation.SAMPLES
    with trainer.averaged():
        return {
            "step": trainer.progress.step,
            **evaluation.held_out_figures(tokenizer, pictures, samples),
        }


@torch.no_grad()
def _usage_in_training(trainer: Trainer, tokenizer: ImageTokenizer, images: ImageSet) -> float:
    """Usage on as many further crops of the training photographs: where it is higher, other scenes are why."""
    recipe, pictures = trainer.recipe, len(images.held_out)
    with trainer.averaged():
        usage = CodeUsage(tokenizer.quantizer.codebook_sizes, sync_on_compute=False)
        for i in range(-(-pictures // recipe.batch_size)):
            usage.update(tokenizer.encode(images.batch(recipe.seed, recipe.steps + i, recipe.batch_size)))
    return float(usage.compute()["usage"].mean())


def _images(settings: Settings) -> ImageSet:
    return _opened(settings.data, runs.picture_request(settings.run(256, 0)))


@lru_cache(maxsize=1)
def _opened(data: str, request: PictureRequest) -> ImageSet:
    """One copy in each process."""
    return open_images(data, request)
