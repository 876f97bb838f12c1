"""Pictures in tar files, as WebDataset writes them.

The package `webdataset` reads its shards as streams: to say what step s sees it reads all that came before, and its
shuffle is a buffer whose order depends on the number of workers. A batch that is a function of (seed, step) needs any
picture at once. So the headers of the tar files are read once (Python's `tarfile`; pictures are skipped over), and the
place of each picture is kept: 20 bytes and its key.
"""

from __future__ import annotations

import glob
import io
import itertools
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow
from jaxtyping import Int64
from PIL import Image

from codebound.data.picture_files import PictureFiles
from codebound.data.picture_reading import SUFFIXES, opened_image
from codebound.errors import InputError

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class Places(NamedTuple):
    """Where pictures lie: the number of the tar file, the first byte in it, how many bytes; and the class, or −1."""

    shard: Int64[np.ndarray, " n"]
    offset: Int64[np.ndarray, " n"]
    size: Int64[np.ndarray, " n"]
    label: Int64[np.ndarray, " n"]


class ShardFiles(PictureFiles):
    """The pictures in tar files, by their keys: names up to the first dot after the folder.

    A sample may have a class beside its picture: `KEY.cls` with an integer, or `KEY.json` with `"label"` or `"cls"`.
    """

    def __init__(self, shards: Sequence[Path], keys: pyarrow.Array, places: Places) -> None:
        self.shards, self._keys, self._places = shards, keys, places

    @classmethod
    def matching(cls, pattern: str) -> ShardFiles:
        """The shards of a pattern such as `train-{000..099}.tar` or `*.tar`, or all below a folder.

        Raises:
            InputError: no such file, one that is no uncompressed tar file, or no picture in them.
        """
        shards = shard_paths(pattern)
        keys: list[str] = []
        rows: list[tuple[int, int, int, int]] = []
        for number, path in enumerate(shards):
            for key, offset, size, label in _members(path):
                keys.append(key)
                rows.append((number, offset, size, label))
        if not rows:
            raise InputError(f"data=webdataset:{pattern}: no picture in {len(shards)} tar files")
        places = Places(*np.array(rows, dtype=np.int64).T)
        return cls(shards, pyarrow.array(keys, pyarrow.large_string()), places)

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, number: int) -> str:
        return self._keys[number].as_py()

    def title(self, number: int) -> str:
        return f"{self.key(number)} in {self.shards[int(self._places.shard[number])].name}"

    def open(self, number: int) -> AbstractContextManager[Image.Image]:
        return opened_image(io.BytesIO(self.content(number)), self.title(number))

    def content(self, number: int) -> bytes:
        try:
            with self.shards[int(self._places.shard[number])].open("rb") as stream:
                stream.seek(int(self._places.offset[number]))
                return stream.read(int(self._places.size[number]))
        except OSError:
            return b""

    def sizes(self) -> Int64[np.ndarray, " n"]:
        return self._places.size

    def select(self, numbers: Int64[np.ndarray, " n"]) -> ShardFiles:
        places = Places(*(values[numbers] for values in self._places))
        return ShardFiles(self.shards, self._keys.take(pyarrow.array(numbers)), places)

    @property
    def labelled(self) -> bool:
        return bool((self._places.label >= 0).all())

    def label(self, number: int) -> int | None:
        label = int(self._places.label[number])
        return None if label < 0 else label

    def listing(self) -> Iterator[str]:
        for key, size, label in zip(
            self._keys.to_pylist(), self._places.size, self._places.label, strict=True
        ):
            yield f"{key} {size} {label}\n"


def shard_paths(pattern: str) -> list[Path]:
    """The tar files of a pattern, sorted.

    Raises:
        InputError: there is none, or one that braces name is missing.
    """
    # A folder stands for all tar files in it; a name in braces must be there, a pattern may match any.
    if Path(pattern).is_dir():
        paths = sorted(Path(pattern).rglob("*.tar"))
    else:
        braced = _expanded(pattern)
        paths = sorted(
            {Path(path) for part in braced for path in (glob.glob(part) if _is_glob(part) else [part])}
        )
        if missing := next((path for path in paths if not path.is_file()), None):
            raise InputError(f"data=webdataset:{pattern}: there is no file {missing}")
    if not paths:
        raise InputError(
            f"data=webdataset:{pattern}: no tar file; a folder of them, a pattern such as train-{{000..099}}.tar or "
            "*.tar, or one file is accepted"
        )
    return paths


def _expanded(pattern: str) -> list[str]:
    """The names for which ranges in braces stand; `{000..099}` keeps its zeros."""
    parts = _RANGE.split(pattern)
    texts, firsts, lasts = parts[0::3], parts[1::3], parts[2::3]
    ranges = [
        [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        for first, last in zip(firsts, lasts, strict=True)
    ]
    names = []
    for chosen in itertools.product(*ranges):
        pieces = itertools.zip_longest(texts, chosen, fillvalue="")
        names.append("".join(text + number for text, number in pieces))
    return names


def _is_glob(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _members(path: Path) -> Iterator[tuple[str, int, int, int]]:
    """Key, offset, size and class of each picture in a tar file, in its order."""
    # Headers only: the name says what a member is, and pictures are skipped over.
    pictures: dict[str, tuple[int, int]] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                # The key is what stands before the first dot of the name.
                folder, slash, name = member.name.rpartition("/")
                stem, _, kind = name.partition(".")
                key, kind = folder + slash + stem, kind.lower()
                if not member.isreg() or not stem:
                    continue

                # Of several pictures with one key the first counts; a class may come before or after.
                if f".{kind.rpartition('.')[2]}" in SUFFIXES:
                    pictures.setdefault(key, (member.offset_data, member.size))
                elif kind in ("cls", "json") and (stream := archive.extractfile(member)) is not None:
                    label = _label(stream.read(), kind, f"{member.name} in {path.name}")
                    if label is not None:
                        labels[key] = label
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"{path} can't be read as an uncompressed tar file: {error}") from None

    # Pictures in the order of the file; −1 where there is no class.
    for key, (offset, size) in pictures.items():
        yield key, offset, size, labels.get(key, -1)


def _label(content: bytes, kind: str, name: str) -> int | None:
    """The class in a `.cls` or `.json` member; None where JSON says nothing of one."""
    # Both kinds are JSON: a bare integer, or an object that may name a class.
    try:
        value = json.loads(content)
    except ValueError:
        raise InputError(f"{name} holds no {'integer' if kind == 'cls' else 'JSON'}") from None
    if kind == "json":
        value = (
            next((value[k] for k in ("label", "cls") if k in value), None)
            if isinstance(value, dict)
            else None
        )
        return value if isinstance(value, int) and value >= 0 else None

    # A `.cls` member must say one.
    if not isinstance(value, int) or value < 0:
        raise InputError(f"{name} holds {value!r}; an integer from 0 is accepted")
    return value
