"""The user's own vectors: read from a file or a folder of images, checked, and split."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from codebound.data import images, tables
from codebound.errors import InputError

LARGEST = 1e15  # squares of larger values, and of spreads under its inverse, leave float32, in which training is done
SUFFIXES = (".npy", ".npz", ".csv", ".parquet")


@dataclass(frozen=True, eq=False)
class Vectors:
    """n vectors of length d, where they came from, and which of them belong together.

    `groups` numbers each row's image (its name is `group_names[group]`); None where rows stand alone.
    """

    values: Float[Tensor, "n d"]
    name: str
    note: str
    groups: Int64[Tensor, " n"] | None = None
    group_names: tuple[str, ...] = ()


def load_vectors(
    path: str | Path, *, count: int = 10_000, size: int = 8, seed: int = 0, axis: int | None = None
) -> Vectors:
    """Read vectors from `.npy`, `.npz` (or `file.npz:key`), `.csv`, `.parquet`, or a folder of images.

    `axis` is the axis of an array along which a vector lies, the last one unless given; the others are flattened, to
    [-1, dim]. An array of four axes or more has to be told: channels may come first or last. float32 and float64 are
    kept; narrower types become float32, wider integers float64. `.csv`: commas, with or without a header. `.parquet`:
    numeric columns, or one column of equally long lists. A folder gives `count` luminance patches of size×size, in
    [0, 1], every image contributing equally, grouped by image; `count`, `size` and `seed` serve only there.

    Raises `InputError` for a missing or unreadable file, an unknown suffix, an axis that is not there or not given
    where it has to be, and for values that can't be quantized: fewer than 2 rows, no column, not numeric, complex,
    not finite, all rows equal, or a scale whose squares leave float32.
    """
    # A folder holds images, a file an array.
    file, key = _split_key(path)
    if not file.exists():
        raise InputError(f"path is {str(file)!r}, which does not exist")
    if file.is_dir():
        if axis is not None:
            raise InputError(f"axis={axis} is for arrays; {file.name} is a folder of images")
        return _from_folder(file, count, size, seed)

    # Each format has a reader, which says what it read.
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{file.name}: suffix {suffix!r}; accepted: {', '.join(SUFFIXES)}, or a folder of images"
        )
    if suffix == ".npy":
        array, note = tables.read_npy(file), ""
    elif suffix == ".npz":
        array, note = tables.read_npz(file, key)
    elif suffix == ".csv":
        array, note = tables.read_csv(file)
    else:
        array, note = tables.read_parquet(file)

    # Rows of vectors, checked, with a note of all that was done to them.
    values, shape_note = _two_axes(array, file.name, axis)
    notes = [part for part in (f"read from {file.name}", note, shape_note) if part]
    return Vectors(torch.from_numpy(check_values(values, file.name)), file.stem, "; ".join(notes))


def split(vectors: Vectors, *, held_out_fraction: float = 0.2, seed: int = 0) -> tuple[Vectors, Vectors]:
    """Split at random into (train, held out): by group where there are groups, otherwise by row.

    A whole group (image) goes to one side; each side gets at least one group or row.

    Raises `InputError` if the fraction is not between 0 and 1, or there are fewer than 2 groups or rows.
    """
    # What is drawn are units: images where rows were cut from images, as their rows are alike.
    if not 0 < held_out_fraction < 1:
        raise InputError(
            f"held_out_fraction is {held_out_fraction}; between 0 and 1, both excluded, is accepted"
        )
    units = torch.arange(len(vectors.values)) if vectors.groups is None else vectors.groups
    distinct = units.unique()
    if len(distinct) < 2:
        what = "row" if vectors.groups is None else "image"
        raise InputError(f"{vectors.name} has {len(distinct)} {what}; a split needs at least 2")

    # At least one unit on each side.
    held = min(max(round(held_out_fraction * len(distinct)), 1), len(distinct) - 1)
    order = torch.randperm(len(distinct), generator=torch.Generator().manual_seed(seed))
    is_held = torch.isin(units, distinct[order[:held]])
    return _rows(vectors, ~is_held, "train"), _rows(vectors, is_held, "held out")


def check_values(array: np.ndarray, name: str) -> Float[np.ndarray, "n d"]:
    """The array as float32 or float64, once it is known to be n >= 2 finite vectors of usable scale, not all equal.

    Raises `InputError` saying what is wrong and in which row (0 is the first).
    """
    # Real numbers, in rows and columns.
    if array.dtype.kind not in "biuf":
        what = (
            "complex numbers: store real and imaginary parts as columns"
            if array.dtype.kind == "c"
            else "that"
        )
        raise InputError(f"{name}: dtype {array.dtype}; real numbers are accepted, not {what}")
    n, d = array.shape
    if d == 0:
        raise InputError(f"{name}: shape {array.shape} has zero columns; at least 1 is accepted")
    if n < 2:
        raise InputError(
            f"{name}: {n or 'no'} row{'s' if n == 0 else ''}, shape {array.shape}; at least 2 accepted"
        )

    # Every number finite, and something to quantize at all.
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise InputError(
            f"{name}: {len(bad)} of {n} rows hold a NaN, an infinity or a missing value, the first is "
            f"row {bad[0]} (0 is the first); finite numbers are accepted"
        )
    if (array == array[0]).all():
        raise InputError(f"{name}: all {n} rows are equal; there is nothing to quantize")

    # On a scale whose squares a float32 holds.
    wide = np.result_type(array.dtype, np.float32)
    low, high = array.min(0).astype(np.float64), array.max(0).astype(np.float64)
    largest, spread = max(high.max(), -low.min()), (high / 2 - low / 2).max()
    if largest > LARGEST or spread < 1 / LARGEST:
        raise InputError(
            f"{name}: the values' scale is out of range: up to {largest:.3g}, within {spread:.3g} of the middle of "
            f"their column; at most {LARGEST:g} and at least {1 / LARGEST:g} are accepted: multiply by a constant"
        )
    return np.ascontiguousarray(array, dtype=np.float32 if wide == np.float32 else np.float64)


def _two_axes(array: np.ndarray, name: str, axis: int | None) -> tuple[np.ndarray, str]:
    """The array as [n, dim], and what was done to it."""
    if array.ndim < 2:
        raise InputError(
            f"{name}: shape {array.shape}; [n, dim] is accepted (for n scalars save array.reshape(-1, 1))"
        )
    if axis is None and array.ndim >= 4:
        choices = (f"{place} for vectors of {array.shape[place]}" for place in range(1, array.ndim))
        raise InputError(
            f"{name}: shape {array.shape} has {array.ndim} axes, and which of them is the vector isn't known; "
            f"give --axis (axis=): {', '.join(choices)}"
        )
    if axis is not None and not -array.ndim <= axis < array.ndim:
        raise InputError(
            f"axis={axis} is none of {name}, whose shape is {array.shape}; 0 to {array.ndim - 1} is accepted"
        )
    if array.ndim == 2 and axis in (None, 1, -1):
        return array, ""

    # The vector's axis comes last, all others become one.
    last = np.moveaxis(array, -1 if axis is None else axis, -1)
    dim = last.shape[-1]
    told = "" if axis is None else f", axis {axis} last"
    return last.reshape(
        int(np.prod(last.shape[:-1])), dim
    ), f"shape {array.shape} flattened to [-1, {dim}]{told}"


def _from_folder(folder: Path, count: int, size: int, seed: int) -> Vectors:
    generator = torch.Generator().manual_seed(seed)
    patches, names = images.folder_patches(folder, count, size=size, generator=generator)
    check_values(patches.values.numpy(), folder.name)
    note = (
        f"{count} luminance patches of {size}x{size} from {len(names)} images in {folder.name}, seed {seed}"
    )
    return Vectors(patches.values, folder.name, note, patches.groups, names)


def _split_key(path: str | Path) -> tuple[Path, str | None]:
    """`file.npz:key` as (file, key); a file of that very name comes first."""
    head, mark, key = str(path).rpartition(".npz:")
    if mark and not Path(path).exists():
        return Path(head + ".npz"), key
    return Path(path), None


def _rows(vectors: Vectors, keep: Tensor, side: str) -> Vectors:
    groups = None if vectors.groups is None else vectors.groups[keep]
    return replace(vectors, values=vectors.values[keep], groups=groups, note=f"{vectors.note}; {side} part")
