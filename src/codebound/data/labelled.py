"""Readers of small labelled picture sets: IDX files (Fashion-MNIST), CIFAR-10's binary files, parquet files.

CIFAR-10 as pickles is refused: unpickling a file from outside runs what stands in it.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import torch

from codebound.data.image_sets import FixedPictures, LabelledPictures
from codebound.data.images import read_image
from codebound.errors import InputError

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # of the Debian package dataset-fashion-mnist
FASHION_CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_ROW = 1 + 3 * 32 * 32
_IDX = {"train": ("train-images", "train-labels"), "held_out": ("t10k-images", "t10k-labels")}


def fashion_mnist(folder: Path, count: int) -> FixedPictures:
    """Fashion-MNIST (Xiao, Rasul & Vollgraf 2017) from its four IDX files, gzipped or not: 28×28, grey, 10 classes.

    Raises:
        InputError: a file is missing, damaged or not of this form.
    """
    if not folder.is_dir():
        raise InputError(
            f"data=fashion-mnist: no folder {folder}; install the Debian package dataset-fashion-mnist, or give the "
            "folder of the four IDX files as fashion-mnist:PATH"
        )
    train, test = (_idx_pair(folder, split) for split in ("train", "held_out"))
    note = f"Fashion-MNIST, {len(train.images):,} pictures of 28x28"
    return FixedPictures(
        "fashion-mnist", note, train, test, count, class_names=_names(FASHION_CLASSES, train, test)
    )


def cifar10(folder: Path, count: int) -> FixedPictures:
    """CIFAR-10 (Krizhevsky 2009) from its binary files (`data_batch_1.bin` …) or from parquet files.

    Of the parquet files those with "test" in their names are held out; they hold PNG pictures and labels, as on the
    Hugging Face hub.

    Raises:
        InputError: nothing of this form in the folder, pickles only, or a damaged file.
    """
    # Which of the two formats lies there.
    if not folder.is_dir():
        raise InputError(
            f"data=cifar10:{folder} is no folder; the folder of the .bin or .parquet files is accepted"
        )
    binary, parquet = sorted(folder.rglob("*.bin")), sorted(folder.rglob("*.parquet"))
    files, read = (binary, _cifar_binary) if binary else (parquet, parquet_images)

    # Which files are held out, by their names.
    test = [file for file in files if "test" in file.name]
    train = [
        file for file in files if file not in test and (not binary or file.name.startswith("data_batch"))
    ]
    if not train or not test:
        pickled = any(folder.rglob("data_batch_1"))
        raise InputError(
            f"data=cifar10:{folder}: {len(train)} files to train on and {len(test)} to test; data_batch_1.bin … and "
            "test_batch.bin (cifar-10-binary.tar.gz), or train and test .parquet files are accepted"
            + ("; the pickles found there are never unpickled" if pickled else "")
        )
    seen, held_out = read(train), read(test)
    names = _names(CIFAR_CLASSES, seen, held_out)
    return FixedPictures("cifar10", "CIFAR-10, 32x32", seen, held_out, count, class_names=names)


def parquet_images(files: Sequence[Path]) -> LabelledPictures:
    """Pictures of one size and labels from parquet files: a column of `{bytes}` or of bytes, and one of integers.

    Raises:
        InputError: no such column, or pictures that can't be read or differ in size; the file is named.
    """
    # File by file: find the two columns by their usual names, decode the pictures.
    images, labels = [], []
    for file in files:
        try:
            table = pyarrow.parquet.read_table(file)
        except (OSError, pyarrow.ArrowException) as error:
            raise InputError(f"{file.name} can't be read as parquet: {error}") from None
        columns = table.column_names
        picture = next((name for name in ("img", "image") if name in columns), None)
        label = next((name for name in ("label", "fine_label") if name in columns), None)
        if picture is None or label is None:
            raise InputError(
                f"{file.name}: columns {columns}; one called img or image and one called label are needed"
            )
        images += list(decoded(table.column(picture).to_pylist(), file.name))
        labels += table.column(label).to_pylist()
    return labelled(images, labels, files[0].parent.name)


def decoded(cells: Iterable[object], name: str) -> Iterable[np.ndarray]:
    """The pixels `[h, w, 3]` of encoded pictures, as they stand in a parquet column."""
    for row, cell in enumerate(cells):
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise InputError(f"{name}: row {row} holds no encoded picture")
        yield read_image(io.BytesIO(content), f"{name}, row {row}").pixels


def labelled(images: Sequence[np.ndarray], labels: Sequence[int], name: str) -> LabelledPictures:
    """Equally large pictures `[h, w, 3]` with their classes.

    Raises:
        InputError: pictures of different sizes, or as many labels as there are no pictures.
    """
    if len({image.shape for image in images}) != 1:
        shapes = sorted({f"{i.shape[0]}x{i.shape[1]}" for i in images})
        raise InputError(f"{name}: pictures of one size are accepted; got {', '.join(shapes[:4]) or 'none'}")
    if any(not isinstance(label, int) or label < 0 for label in labels) or len(labels) != len(images):
        raise InputError(f"{name}: each picture needs a label, an integer from 0")
    stack = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return LabelledPictures(stack, torch.tensor(labels, dtype=torch.int64))


def _names(known: tuple[str, ...], *parts: LabelledPictures) -> tuple[str, ...]:
    """The usual names of classes, where the labels are no others; else none, so that they are called by number."""
    return known if all(int(part.labels.max()) < len(known) for part in parts if len(part.labels)) else ()


def _idx_pair(folder: Path, split: str) -> LabelledPictures:
    """Pictures and classes of a split, from their two files."""
    images, labels = (_idx(folder, stem) for stem in _IDX[split])
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise InputError(
            f"{folder}: {_IDX[split][0]} has shape {images.shape}, {_IDX[split][1]} {labels.shape}"
        )
    return LabelledPictures(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels).long())


def _idx(folder: Path, stem: str) -> np.ndarray:
    """An IDX file of bytes: two zeros, type 8, number of axes, their sizes big-endian, the values."""
    # The file, gzipped or not.
    matches = sorted(f for f in folder.iterdir() if f.name.startswith(stem))
    if not matches:
        raise InputError(f"data=fashion-mnist: {folder} has no {stem}-… file")
    try:
        content = matches[0].read_bytes()
        content = gzip.decompress(content) if matches[0].suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{matches[0]} can't be read: {error}") from None

    # Its header must account for every byte.
    axes = content[3] if len(content) > 3 else 0
    shape = np.frombuffer(content[4 : 4 + 4 * axes], dtype=">u4").astype(int)
    values = np.frombuffer(content[4 + 4 * axes :], dtype=np.uint8)
    if content[:3] != b"\0\0\x08" or len(shape) != axes or shape.prod() != len(values):
        raise InputError(f"{matches[0]} is no whole IDX file of bytes")
    return values.reshape(shape).copy()


def _cifar_binary(files: Sequence[Path]) -> LabelledPictures:
    """Pictures and classes from CIFAR-10's binary files: rows of one byte for the class and 3,072 for the pixels."""
    # Whole rows only.
    rows = []
    for file in files:
        content = np.fromfile(file, dtype=np.uint8)
        if not len(content) or len(content) % _CIFAR_ROW:
            raise InputError(
                f"{file} is no CIFAR-10 binary file: {len(content)} bytes, no multiple of {_CIFAR_ROW}"
            )
        rows.append(content.reshape(-1, _CIFAR_ROW))

    # The first column are the classes, the rest red, green and blue planes.
    table = torch.from_numpy(np.concatenate(rows))
    if int(table[:, 0].max()) > 9:
        raise InputError(f"{files[0].parent}: a label over 9; CIFAR-10's binary files have labels 0 … 9")
    return LabelledPictures(table[:, 1:].reshape(-1, 3, 32, 32).contiguous(), table[:, 0].long())
