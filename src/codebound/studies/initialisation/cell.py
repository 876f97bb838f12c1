"""One cell: all arms and optimizers on one source and seed, trained together."""

from __future__ import annotations

import csv
import time
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from safetensors.torch import save_file
from torch import Tensor

from codebound import search
from codebound.batched.codebooks import Group, batch_order, train_codebooks
from codebound.files import replacing
from codebound.metrics.usage import geometry, usage
from codebound.runs.folder import RunFolder
from codebound.studies.initialisation import arms as arm_table
from codebound.studies.initialisation import sources
from codebound.studies.initialisation.settings import ArmName, Settings, SourceName


class Cell(NamedTuple):
    """The unit of work and of resumption: it depends on nothing but the settings and itself."""

    source: SourceName
    seed: int

    @property
    def name(self) -> str:
        return f"{self.source}-seed-{self.seed}"


class Run(NamedTuple):
    """One codebook of a cell."""

    arm: ArmName
    optimizer: arm_table.OptimizerName


def cells(settings: Settings) -> list[Cell]:
    """All cells of a study; seeds outermost, so that an interrupted run has whole seeds."""
    seeds = range(settings.first_seed, settings.first_seed + settings.seeds)
    return [Cell(source, seed) for seed in seeds for source in settings.sources]


def run_cell(folder: RunFolder[Settings], cell: Cell) -> None:
    """Train, measure and write one cell; its JSON file comes last and says that it is finished."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the sum's order, hence its last bit, depends on it
    try:
        _run_cell(folder, cell)
    finally:
        torch.set_num_threads(threads)


def _run_cell(folder: RunFolder[Settings], cell: Cell) -> None:
    settings, began = folder.settings, time.perf_counter()
    latents = sources.draw(settings, cell.source, cell.seed)
    starts = initial_codebooks(settings, cell, latents.train)
    runs, trained = groups(settings, starts)
    order = batch_order(
        len(latents.train),
        min(settings.batch_size, len(latents.train)),
        settings.steps,
        sources.generator(cell.source, cell.seed, "order"),
    )
    fresh = latents.held_out[: settings.fresh_samples]
    history: list[tuple[int, dict[str, Tensor]]] = []

    def evaluate(step: int, books: Tensor) -> None:
        history.append((step, measure_all(latents, fresh, books)))

    first = torch.cat([group.start for group in trained])
    last = train_codebooks(latents.train, trained, order, evaluate, settings.evaluate_every)
    for i, run in enumerate(runs):
        place = folder.path / "runs" / cell.source / run.arm / run.optimizer / f"seed-{cell.seed}"
        with replacing(place / "metrics.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
            _write_csv(csv.writer(file, lineterminator="\n"), history, i)
        with replacing(place / "codebook.safetensors") as path:
            save_file({"initial": first[i].clone(), "final": last[i].clone()}, path)
    ends = [
        history[at][1] | _measure("fresh", latents.held_out, books, latents.held_out_floor)
        for books, at in ((first, 0), (last, -1))
    ]
    seconds = time.perf_counter() - began
    folder.finish(cell.name, _result(settings, cell, latents, runs, ends, starts, seconds))


def initial_codebooks(
    settings: Settings, cell: Cell, train: Float[Tensor, "n k"]
) -> dict[ArmName, Float[Tensor, "K k"]]:
    """Each arm's codebook before step 0. All arms see the same batch and begin the same random stream."""
    stream = sources.generator(cell.source, cell.seed, "init batch")
    batch = train[torch.randperm(len(train), generator=stream)[: settings.init_batch]]
    books = {}
    for name in settings.arms:
        arm = arm_table.ARMS[name]
        stream = sources.generator(cell.source, cell.seed, "init")
        books[name] = arm.init(train if arm.sees == "all" else batch, settings.codebook_size, stream)
    return books


def groups(settings: Settings, starts: dict[ArmName, Float[Tensor, "K k"]]) -> tuple[list[Run], list[Group]]:
    """The codebooks to train, by optimizer, and which run each is."""
    runs, found = [], []
    for optimizer, rule in arm_table.optimizers(settings).items():
        names = arm_table.arms_of(optimizer, settings)
        if names:
            runs += [Run(name, optimizer) for name in names]
            found.append(Group(rule, torch.stack([starts[name] for name in names])))
    return runs, found


def measure_all(
    latents: sources.Latents, fresh: Float[Tensor, "n k"], books: Float[Tensor, "m K k"]
) -> dict[str, Float[Tensor, " m"]]:
    """One row of `metrics.csv`, without its step, for each codebook."""
    row = _measure("train", latents.train, books, latents.train_floor)
    row |= _measure("fresh", fresh, books, latents.held_out_floor)
    return row | geometry(books)._asdict()


def _measure(split: str, z: Float[Tensor, "n k"], books: Tensor, floor: float) -> dict[str, Tensor]:
    """Distortion and usage of each codebook `[m]` on one set, under names that begin with the split's."""
    indices = search.nearest(z, books, certify=False)
    distortion = search.distortion(z, books, indices)
    row = {
        "distortion": distortion,
        "distortion_per_dim": distortion / z.shape[1],
        "reconstruction": distortion + floor,
        **usage(_counts(indices, books.shape[1]))._asdict(),
    }
    return {f"{split}_{name}": value for name, value in row.items()}


def _counts(indices: Int64[Tensor, "m n"], size: int) -> Int64[Tensor, "m K"]:
    m = indices.shape[0]
    offset = torch.arange(m).unsqueeze(1) * size
    return torch.bincount((indices + offset).view(-1), minlength=m * size).view(m, size)


def _write_csv(writer: Any, history: list[tuple[int, dict[str, Tensor]]], run: int) -> None:
    writer.writerow(["step", *history[0][1]])
    for step, row in history:
        writer.writerow([step, *(f"{float(value[run]):.9g}" for value in row.values())])


def _result(
    settings: Settings,
    cell: Cell,
    latents: sources.Latents,
    runs: list[Run],
    ends: list[dict[str, Tensor]],
    starts: dict[ArmName, Tensor],
    seconds: float,
) -> dict[str, Any]:
    def at(end: dict[str, Tensor], run: int) -> dict[str, float]:
        return {name: float(value[run]) for name, value in end.items()}

    return {
        "source": cell.source,
        "seed": cell.seed,
        "rate_bits": torch.tensor(settings.codebook_size).double().log2().item(),
        "dim": settings.dim,
        "codebook_size": settings.codebook_size,
        "limits": asdict(latents.limits),
        "latent_variance": latents.variance,
        "reconstruction_floor": latents.held_out_floor,
        "train_samples": len(latents.train),
        "fresh_samples": len(latents.held_out),
        "runs": [
            {**run._asdict(), "initial": at(ends[0], i), "final": at(ends[1], i)}
            for i, run in enumerate(runs)
        ],
        "codeword_variance": {name: float(book.var(0).mean()) for name, book in starts.items()},
        "seconds": seconds,
    }
