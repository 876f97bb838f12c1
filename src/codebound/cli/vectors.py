"""compress-vectors, decompress-vectors: arrays of vectors as files, through a trellis code."""

from __future__ import annotations

import fnmatch
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codebound.cli.batch import STREAM, Job, Output, Outputs, Row, Sources, each, naming, plan, read
from codebound.cli.terminal import AsJson, Cells, Force, out
from codebound.data.listing import Listing, files_below
from codebound.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".cbv"
ARRAYS = (".npy", ".npz", ".parquet", ".safetensors")


def compress_vectors(
    sources: Sources,
    target: Output = None,
    bits: Annotated[float | None, typer.Option(help="Bits per value (default 2).")] = None,
    distortion: Annotated[float | None, typer.Option(help="Mean squared error summed over a vector.")] = None,
    snr: Annotated[float | None, typer.Option(help="Variance over squared error, in dB.")] = None,
    states: Annotated[
        int, typer.Option(help="Of the trellis: 8, 32, 256 lose .45, .33, .21 dB to the bound.")
    ] = 8,
    fixed: Annotated[
        bool,
        typer.Option(
            "--fixed",
            help="As many bits (1 to 4) for every value, so that each vector can be read by itself.",
        ),
    ] = False,
    axis: Annotated[int, typer.Option(help="The axis along which a vector lies.")] = -1,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Names of arrays that are taken, as 'layers.*.weight'; may be repeated."),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Embeddings, latents, weights (.npy, .npz, .parquet, .safetensors) to .cbv files, near the rate-distortion bound.

    [bold]Examples[/]

      codebound compress-vectors embeddings.npy --bits 2

      codebound compress-vectors model.safetensors --snr 20 --only 'layers.*.weight'
    """
    from codebound.codec.arrays import Aim, compress_arrays

    if bits is None and distortion is None and snr is None:
        bits = 2.0
    aim = Aim(bits, distortion, snr, states, fixed)
    jobs = plan(sources, _arrays, target, lambda name: name.with_suffix(SUFFIX))
    outputs = Outputs((job.source for job in jobs), force)

    def one(job: Job) -> Row:
        outputs.check(job.goal)
        arrays = [found for found in named_arrays(job.source) if _taken(found[0], only)]
        if not arrays:
            raise InputError(f"no array of {job.source} is taken by --only {' '.join(only or [])}")
        with Cells("vectors") as bar:
            data, reports = compress_arrays(arrays, aim, axis=axis, progress=bar.show)
        outputs.write(job.goal, data)
        values = sum(array.numel() for _, array in arrays)
        shannon = [report.above_shannon for report in reports]
        known = [number for number in shannon if number is not None]
        return {
            "file": str(job.goal),
            "arrays": len(reports),
            "values": values,
            "bytes": len(data),
            "bits_per_value": round(8 * len(data) / max(values, 1), 4),
            "snr_db": [round(report.snr, 3) for report in reports]
            if as_json
            else _span([r.snr for r in reports]),
            "above_gaussian_db": [round(r.above_gaussian, 3) for r in reports]
            if as_json
            else _span([report.above_gaussian for report in reports]),
            "above_shannon_db": [None if number is None else round(number, 3) for number in shannon]
            if as_json
            else (_span(known) if known else "–"),
        }

    each(jobs, one, "files", as_json)


def decompress_vectors(
    sources: Sources,
    target: Output = None,
    max_values: Annotated[int, typer.Option(min=1, help="Numbers of the largest array.")] = 2**28,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """.cbv files back to arrays: one without a name to .npy, several to .safetensors, or what the suffix of --out says.

    [bold]Example[/]

      codebound decompress-vectors embeddings.cbv
    """
    from codebound.codec.arrays import decompress_arrays

    jobs = plan(sources, _compressed, target, lambda name: name.with_name(name.name + ".npy"))
    outputs = Outputs((job.source for job in jobs), force)

    def one(job: Job) -> Row:
        arrays = decompress_arrays(read(job.source), max_values=max_values)
        goal = job.goal
        if not job.asked and goal != STREAM and list(arrays) != [""]:
            goal = goal.with_suffix(".safetensors")
        outputs.check(goal)
        outputs.write(goal, _bytes(arrays, goal))
        return {
            "file": str(goal),
            "arrays": len(arrays),
            "values": sum(array.numel() for array in arrays.values()),
        }

    each(jobs, one, "files", as_json)


def is_vectors(data: bytes) -> bool:
    """Whether a file's bytes are those of a `.cbv` file."""
    from codebound.coding import container

    return data.startswith((container.ARRAYS, container.VECTORS))


def check(data: bytes, max_values: int) -> int:
    """How many values a `.cbv` file holds, all of them decoded."""
    from codebound.codec.arrays import verify_arrays

    return verify_arrays(data, max_values=max_values)


def show(file: Path, data: bytes, as_json: bool) -> None:
    """What `codebound info` prints of a `.cbv` file."""
    import json

    from rich.markup import escape

    from codebound.cli.batch import table
    from codebound.cli.terminal import plain
    from codebound.codec.arrays import inspect_arrays

    rows = []
    for name, (shape, report) in inspect_arrays(data).items():
        row: Row = {"array": name, "shape": "×".join(map(str, shape)), "vectors of": report.shape[-1]}
        row |= {
            key: getattr(report, key)
            for key in ("dtype", "states", "coded", "blocks", "bytes", "header_bytes")
        }
        rows.append(row | {"bits_per_value": round(report.bits_per_value, 4)})
    if as_json:
        plain(json.dumps(rows, indent=2))
    else:
        out.print(table(rows, title=f"{escape(str(file))}: {len(data):,} bytes"))


def named_arrays(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The arrays of a file with their names; one without a name of `.npy` and `.parquet`. `.npy` stays on the disk.

    Raises:
        InputError: another suffix, or a file that can't be read.
    """
    import numpy as np
    import torch

    if path.suffix.lower() not in ARRAYS:
        raise InputError(f"{path}: suffix {path.suffix!r}; accepted: {', '.join(ARRAYS)}")
    with naming(path):
        if path.suffix.lower() == ".safetensors":
            yield from _safetensors(path)
        elif path.suffix.lower() == ".parquet":
            from codebound.data import tables  # pandas, which takes long to import

            yield "", torch.from_numpy(np.ascontiguousarray(tables.read_parquet(path)[0]))
        else:
            try:
                stored = np.load(path, mmap_mode="c", allow_pickle=False)
                arrays = {"": stored} if isinstance(stored, np.ndarray) else dict(stored)
                yield from ((name, torch.from_numpy(array)) for name, array in arrays.items())
            except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
                from codebound.data import tables

                raise tables.unreadable(path, error) from None


def _safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  not a dict
                yield name, file.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise InputError(f"it can't be read as a safetensors file: {error}") from None


def _bytes(arrays: dict[str, Tensor], goal: Path) -> bytes:
    """The arrays as the suffix says."""
    import numpy as np
    from safetensors.torch import save

    suffix = goal.suffix.lower()
    if suffix == ".safetensors":
        return save({name or "array": array.contiguous() for name, array in arrays.items()})
    stream = io.BytesIO()
    try:
        if suffix == ".npz":
            np.savez(stream, **{name or "array": array.numpy() for name, array in arrays.items()})  # pyright: ignore[reportArgumentType]
        elif len(arrays) == 1:
            np.save(stream, next(iter(arrays.values())).numpy())
        else:
            raise InputError(
                f"--out {goal}: the file holds {len(arrays)} arrays; .npz or .safetensors is accepted"
            )
    except TypeError:
        raise InputError(f"--out {goal}: NumPy has no bfloat16; .safetensors is accepted") from None
    return stream.getvalue()


def _taken(name: str, only: list[str] | None) -> bool:
    return not only or any(fnmatch.fnmatchcase(name, pattern) for pattern in only)


def _span(numbers: list[float]) -> str:
    """One number, or the least and the largest of several."""
    low, high = min(numbers), max(numbers)
    return f"{low:.2f}" if len(numbers) == 1 else f"{low:.2f} … {high:.2f}"


def _arrays(folder: Path) -> Listing:
    return files_below(folder, ARRAYS, "file of arrays")


def _compressed(folder: Path) -> Listing:
    return files_below(folder, (SUFFIX,), f"{SUFFIX} file")
