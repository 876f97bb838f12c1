"""One cell: all arms and optimizers on one source and seed, trained together."""

from __future__ import annotations

import csv
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from safetensors.torch import save_file
from torch import Tensor

from codebound import search
from codebound.batched.codebooks import Group, batch_order, train_codebooks
from codebound.metrics.usage import geometry, usage
from codebound.studies.framework.cells import CellResult
from codebound.studies.initialisation import arms as arm_table
from codebound.studies.initialisation import sources
from codebound.studies.initialisation.settings import ArmName, Settings, SourceName

History = list[tuple[int, dict[str, Tensor]]]  # step, and each measure of all codebooks


class Run(NamedTuple):
    """One codebook of a cell."""

    arm: ArmName
    optimizer: arm_table.OptimizerName


def place(source: str, arm: str, optimizer: str, seed: int) -> str:
    """Where in the folder of the study a run's curves and codebooks are."""
    return f"runs/{source}/{arm}/{optimizer}/seed-{seed}"


def measure(settings: Settings, source: SourceName, seed: int) -> CellResult:
    """Train all runs of a cell; its curves and codebooks are files beside the result."""
    # Everything is drawn from streams of (source, seed), so that all arms share it.
    latents = sources.draw(settings, source, seed)
    starts = initial_codebooks(settings, source, seed, latents.train)
    runs, trained = groups(settings, starts)
    stream = sources.generator(source, seed, "order")
    batch = min(settings.batch_size, len(latents.train))
    order = batch_order(len(latents.train), batch, settings.steps, stream)
    fresh = latents.held_out[: settings.fresh_samples]
    history: History = []

    # All runs of the cell are one batched problem.
    def evaluate(step: int, books: Tensor) -> None:
        history.append((step, measure_all(latents, fresh, books)))

    first = torch.cat([group.start for group in trained])
    last = train_codebooks(latents.train, trained, order, evaluate, settings.evaluate_every)

    # Start and end are measured on all that was held out.
    start, end = (
        history[at][1] | _measure("fresh", latents.held_out, books, latents.held_out_floor, latents.unit)
        for books, at in ((first, 0), (last, -1))
    )
    files = {}
    for i, run in enumerate(runs):
        folder = place(source, run.arm, run.optimizer, seed)
        files[f"{folder}/metrics.csv"] = partial(_write_csv, history, i)
        books = {"initial": first[i].clone(), "final": last[i].clone()}
        files[f"{folder}/codebook.safetensors"] = partial(save_file, books)
    content = {
        "source": source,
        "seed": seed,
        "rate_bits": torch.tensor(settings.codebook_size).double().log2().item(),
        "dim": settings.dim,
        "data_dim": sources.columns(settings) if source == "data" else None,
        "codebook_size": settings.codebook_size,
        "limits": asdict(latents.limits),
        "latent_variance": latents.variance,
        "reconstruction_floor": latents.held_out_floor,
        "train_samples": len(latents.train),
        "fresh_samples": len(latents.held_out),
        "runs": [
            {**run._asdict(), "initial": _of(start, i), "final": _of(end, i)} for i, run in enumerate(runs)
        ],
        "codeword_variance": {
            name: float(book.var(0).mean()) * latents.unit for name, book in starts.items()
        },
    }
    return CellResult(content, files)


def initial_codebooks(
    settings: Settings, source: str, seed: int, train: Float[Tensor, "n k"]
) -> dict[ArmName, Float[Tensor, "K k"]]:
    """Each arm's codebook before step 0. All arms see the same batch and begin the same random stream."""
    stream = sources.generator(source, seed, "init batch")
    batch = train[torch.randperm(len(train), generator=stream)[: settings.init_batch]]
    books = {}
    for name in settings.arms:
        arm = arm_table.ARMS[name]
        stream = sources.generator(source, seed, "init")
        books[name] = arm.init(train if arm.sees == "all" else batch, settings.codebook_size, stream)
    return books


def groups(settings: Settings, starts: dict[ArmName, Float[Tensor, "K k"]]) -> tuple[list[Run], list[Group]]:
    """The codebooks to train, by optimizer, and which run each is."""
    runs, trained = [], []
    for optimizer, rule in arm_table.optimizers(settings).items():
        names = arm_table.arms_of(optimizer, settings)
        if names:
            runs += [Run(name, optimizer) for name in names]
            trained.append(Group(rule, torch.stack([starts[name] for name in names])))
    return runs, trained


def measure_all(
    latents: sources.Latents, fresh: Float[Tensor, "n k"], books: Float[Tensor, "m K k"]
) -> dict[str, Float[Tensor, " m"]]:
    """One row of `metrics.csv`, without its step, for each codebook."""
    row = _measure("train", latents.train, books, latents.train_floor, latents.unit)
    row |= _measure("fresh", fresh, books, latents.held_out_floor, latents.unit)
    return row | geometry(books * latents.unit**0.5)._asdict()


def _measure(
    split: str, z: Float[Tensor, "n k"], books: Tensor, floor: float, unit: float
) -> dict[str, Tensor]:
    """Distortion and usage of each codebook `[m]` on one set, under names that begin with the split's."""
    indices = search.nearest(z, books, certify=False)
    distortion = search.distortion(z, books, indices) * unit
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


def _of(measured: dict[str, Tensor], run: int) -> dict[str, float]:
    return {name: float(value[run]) for name, value in measured.items()}


def _write_csv(history: History, run: int, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer: Any = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", *history[0][1]])
        for step, row in history:
            writer.writerow([step, *(f"{float(value[run]):.9g}" for value in row.values())])
