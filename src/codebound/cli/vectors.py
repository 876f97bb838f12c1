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
from codebound.cli.terminal import AsJson, Cells, Force, err, out
from codebound.data.listing import Listing, files_below
from codebound.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

SUFFIX = ".cbv"
ARRAYS = (".npy", ".npz", ".parquet", ".safetensors")
WRITTEN = (".npy", ".npz", ".safetensors")
LARGE = 0.1  # of a file: a header of which is said


def compress_vectors(
    sources: Sources,
    target: Output = None,
    bits: Annotated[float | None, typer.Option(help="Bits per value, at most 15 (default 2).")] = None,
    distortion: Annotated[float | None, typer.Option(help="Mean squared error summed over a vector.")] = None,
    snr: Annotated[float | None, typer.Option(help="Variance over squared error, in dB, at most 90.")] = None,
    states: Annotated[
        int | None,
        typer.Option(help="Of the trellis: 8 (default), 32, 256 lose .45, .33, .21 dB to the bound."),
    ] = None,
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
    if fixed and states is not None:
        raise InputError("--states is not accepted with --fixed, which chooses them by the vectors' length")
    if STREAM in sources:
        raise InputError(f"stdin (-) is not accepted; files are: {', '.join(ARRAYS)}")
    aim = Aim(bits, distortion, snr, 8 if states is None else states, fixed)
    jobs = plan(sources, _arrays, target, lambda name: name.with_suffix(SUFFIX))
    outputs = Outputs((job.source for job in jobs), force)

    def one(job: Job) -> Row:
        outputs.check(job.goal)
        arrays = [found for found in named_arrays(job.source) if _taken(found[0], only)]
        if not arrays:
            taken = f"is taken by --only {' '.join(only)}" if only else "is in it"
            raise InputError(f"{job.source}: no array {taken}")
        arrays, left_out = _floating(job.source, arrays)
        with Cells("vectors") as bar:
            data, reports = compress_arrays(arrays, aim, axis=axis, progress=bar.show)
        outputs.write(job.goal, data)
        if fixed:
            _say_tables(data)
        values = sum(array.numel() for _, array in arrays)
        shannon = [report.above_shannon for report in reports]
        known = [number for number in shannon if number is not None]
        return {
            "file": str(job.goal),
            "arrays": len(reports),
            **({"left_out": left_out} if as_json else {}),
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
        # A stream, or a name without suffix, takes .npy.
        if job.goal != STREAM and job.goal.suffix.lower() not in ("", *WRITTEN):
            raise InputError(f"--out {job.goal}: accepted suffixes are {', '.join(WRITTEN)}")
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
    """The arrays of a file with their names; one without a name of `.npy`, and of `.parquet` unless columns of lists
    stand among others there. `.npy` stays on the disk.

    Raises:
        InputError: another suffix, or a file that can't be read.
    """
    import numpy as np

    if path.suffix.lower() not in ARRAYS:
        raise InputError(f"{path}: suffix {path.suffix!r}; accepted: {', '.join(ARRAYS)}")
    with naming(path):
        if path.suffix.lower() == ".safetensors":
            yield from _safetensors(path)
        elif path.suffix.lower() == ".parquet":
            from codebound.data import tables  # pandas, which takes long to import

            found, others = tables.parquet_arrays(path)
            if others:
                note = f"{path}: left out, as only its columns of lists are taken: {', '.join(others)}"
                err.print(note, highlight=False, markup=False, soft_wrap=True)
            yield from ((name, _tensor(name, np.ascontiguousarray(array))) for name, array in found.items())
        else:
            try:
                stored = np.load(path, mmap_mode="c", allow_pickle=False)
                arrays = {"": stored} if isinstance(stored, np.ndarray) else dict(stored)
                yield from ((name, _tensor(name, array)) for name, array in arrays.items())
            except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
                from codebound.data import tables

                raise tables.unreadable(path, error) from None


def _tensor(name: str, array: np.ndarray) -> Tensor:
    """The array in this machine's order of bytes.

    Raises:
        InputError: a type that PyTorch has not.
    """
    import torch

    try:
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    except TypeError:
        said = f"array {name!r}" if name else "the array"
        raise InputError(
            f"{said} is of type {array.dtype}; float16, float32 and float64 are accepted"
        ) from None


def _floating(source: Path, arrays: list[tuple[str, Tensor]]) -> tuple[list[tuple[str, Tensor]], list[str]]:
    """The arrays of floating-point numbers, and the names of the others, which are said; alone they are refused."""
    taken = [(name, array) for name, array in arrays if array.is_floating_point()]
    others = [(name, array) for name, array in arrays if not array.is_floating_point()]
    if not taken or not others:
        return arrays, []
    listed = ", ".join(f"{name} ({str(array.dtype).removeprefix('torch.')})" for name, array in others)
    err.print(
        f"{source}: left out, as only floating-point numbers are compressed: {listed}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return taken, [name for name, _ in others]


def _say_tables(data: bytes) -> None:
    """A note where what stands before the vectors is much of the file."""
    from codebound.codec.arrays import inspect_arrays

    reports = [report for _, report in inspect_arrays(data).values()]
    size = sum(report.header_bytes for report in reports)
    if size > LARGE * len(data):
        err.print(
            f"tables and axes are {size:,} of the file's {len(data):,} bytes; more vectors would share them",
            highlight=False,
            soft_wrap=True,
        )


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
