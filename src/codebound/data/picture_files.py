"""Pictures by number, each opened when it is asked for: what a set of any size is read from."""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow
from jaxtyping import Int64, UInt8
from PIL import Image

from codebound.data.listing import warn_passed_over
from codebound.data.picture_reading import image_names, opened_image
from codebound.errors import InputError

SAMPLED = 64  # pictures whose content counts in the digest of a set


class PictureFiles(ABC):
    """Pictures by number, with a key and perhaps a label each; small to hold, and picklable for other processes.

    Attributes:
        label_names: of the classes, where they have names.
    """

    label_names: tuple[str, ...] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def key(self, number: int) -> str:
        """What names a picture in its set."""

    def title(self, number: int) -> str:
        """What a message calls the picture."""
        return self.key(number)

    @abstractmethod
    def open(self, number: int) -> AbstractContextManager[Image.Image]:
        """The picture, of which the header is read and no pixel yet.

        Raises:
            InputError: as `opened_image`.
        """

    @abstractmethod
    def content(self, number: int) -> bytes:
        """The picture as it is stored; nothing where it can't be read."""

    def sizes(self) -> Int64[np.ndarray, " n"]:
        """Bytes of each picture as it is stored; 0 where it can't be read."""
        return np.array([len(self.content(number)) for number in range(len(self))], dtype=np.int64)

    @abstractmethod
    def select(self, numbers: Int64[np.ndarray, " n"]) -> PictureFiles:
        """These pictures alone, in this order."""

    @property
    def labelled(self) -> bool:
        """Whether the pictures have labels."""
        return False

    def label(self, number: int) -> int | None:
        """The class of a picture, from 0; None where there are none."""
        return None

    def listing(self) -> Iterator[str]:
        """A line for each picture that says what is cheap to know: its key and its size in bytes."""
        return iter(())

    def digest(self) -> str:
        """SHA-256 of the number of pictures, the listing, and the content of 64 of them at equal distances.

        Reading all of a large set at each start would take minutes. So a picture that is replaced by another of equal
        length is noticed only if it is one of the 64; one that is added, removed or renamed always is.
        """
        total = hashlib.sha256(f"{len(self)} pictures\n".encode())
        for line in self.listing():
            total.update(line.encode())
        for number in np.unique(np.linspace(0, len(self) - 1, min(SAMPLED, len(self))).astype(np.int64)):
            content = self.content(int(number))
            total.update(f"{number} {len(content)}\n".encode())
            total.update(content)
        return total.hexdigest()


class FolderFiles(PictureFiles):
    """The image files below a folder, named relative to it."""

    def __init__(self, root: Path, names: pyarrow.Array) -> None:
        # Not a list of strings: it would be copied into every reading process, page by page, as references change.
        self.root, self._names = root, names

    @classmethod
    def named(cls, root: Path, names: Sequence[str]) -> FolderFiles:
        """These files, relative to the folder."""
        return cls(root, pyarrow.array(names, pyarrow.large_string()))

    @classmethod
    def below(cls, root: Path) -> FolderFiles:
        """All image files below the folder; what was passed over is said in a warning.

        Raises:
            InputError: as `image_names`.
        """
        listing = image_names(root)
        warn_passed_over(root, listing)
        return cls.named(root, listing.names)

    def __len__(self) -> int:
        return len(self._names)

    def key(self, number: int) -> str:
        return self._names[number].as_py()

    def open(self, number: int) -> AbstractContextManager[Image.Image]:
        return opened_image(self.root / self.key(number), self.key(number))

    def content(self, number: int) -> bytes:
        try:
            return (self.root / self.key(number)).read_bytes()
        except OSError:
            return b""

    def sizes(self) -> Int64[np.ndarray, " n"]:
        sizes = (max(self._size(name), 0) for name in self._names.to_pylist())
        return np.fromiter(sizes, dtype=np.int64, count=len(self))

    def select(self, numbers: Int64[np.ndarray, " n"]) -> FolderFiles:
        return FolderFiles(self.root, self._names.take(pyarrow.array(numbers)))

    def listing(self) -> Iterator[str]:
        for name in self._names.to_pylist():
            yield f"{name} {self._size(name)}\n"

    def _size(self, name: str) -> int:
        """Bytes of a file; −1 where it is gone."""
        try:
            return (self.root / name).stat().st_size
        except OSError:
            return -1


class ClassFolders(FolderFiles):
    """The image files in a folder of folders, one for each class, named as it is."""

    def __init__(self, root: Path, names: pyarrow.Array) -> None:
        super().__init__(root, names)
        self.label_names = tuple(sorted(path.name for path in root.iterdir() if path.is_dir()))
        self._numbers = {name: number for number, name in enumerate(self.label_names)}

    @classmethod
    def below(cls, root: Path) -> ClassFolders:
        """All image files below the classes' folders; what was passed over is said in a warning.

        Raises:
            InputError: as `image_names`, or a picture that lies in no class's folder.
        """
        files = super().below(root)
        outside = next((n for n in range(len(files)) if "/" not in files.key(n)), None)
        if outside is not None:
            raise InputError(
                f"data=classes:{root}: {files.key(outside)} is in no class's folder; {root}/CLASS/… is accepted"
            )
        return cls(root, files._names)

    def select(self, numbers: Int64[np.ndarray, " n"]) -> ClassFolders:
        return ClassFolders(self.root, self._names.take(pyarrow.array(numbers)))

    @property
    def labelled(self) -> bool:
        return True

    def label(self, number: int) -> int:
        return self._numbers[self.key(number).partition("/")[0]]


class TableFiles(PictureFiles):
    """A column of encoded pictures in a table of the package `datasets`, which stays on the disk (memory-mapped).

    Args:
        table: with the column cast to `datasets.Image(decode=False)`: cells of `{"bytes", "path"}`.
        name: of the set, for messages.
        column, label: of the pictures; of their classes, or None.
        rows: of the table, in order; all if not given.
    """

    def __init__(
        self,
        table: Any,
        name: str,
        column: str,
        label: str | None,
        rows: Int64[np.ndarray, " n"] | None = None,
    ) -> None:
        columns = [column] if label is None else [column, label]
        self._table = table.select_columns(columns) if set(table.column_names) != set(columns) else table
        self.name, self._column, self._label = name, column, label
        self.rows = np.arange(len(table)) if rows is None else rows
        self.label_names = () if label is None else tuple(table.features[label].names)

    def __len__(self) -> int:
        return len(self.rows)

    def key(self, number: int) -> str:
        return str(self.rows[number])

    def title(self, number: int) -> str:
        return f"{self.name}, row {self.rows[number]}"

    def open(self, number: int) -> AbstractContextManager[Image.Image]:
        cell = self._cell(number)
        source = io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else cell["path"]
        return opened_image(source or io.BytesIO(), self.title(number))

    def content(self, number: int) -> bytes:
        cell = self._cell(number)
        try:
            return cell["bytes"] if cell["bytes"] is not None else Path(cell["path"] or "").read_bytes()
        except OSError:
            return b""

    def select(self, numbers: Int64[np.ndarray, " n"]) -> TableFiles:
        return TableFiles(self._table, self.name, self._column, self._label, self.rows[numbers])

    @property
    def labelled(self) -> bool:
        return self._label is not None

    def label(self, number: int) -> int | None:
        value = None if self._label is None else self._table[int(self.rows[number])][self._label]
        return None if value is None or value < 0 else value  # −1 stands for "not known"

    def _cell(self, number: int) -> dict[str, Any]:
        return self._table[int(self.rows[number])][self._column] or {"bytes": None, "path": None}


class ArrayFiles(PictureFiles):
    """Pictures of one set in memory, named by their number."""

    def __init__(
        self,
        pictures: Sequence[UInt8[np.ndarray, "_ _ c"]],
        keys: Sequence[str] | None = None,
        labels: Sequence[int] | None = None,
    ) -> None:
        self._pictures, self._labels = pictures, labels
        self._keys: Sequence[str] = keys or [str(number) for number in range(len(pictures))]

    def __len__(self) -> int:
        return len(self._pictures)

    def key(self, number: int) -> str:
        return self._keys[number]

    def open(self, number: int) -> AbstractContextManager[Image.Image]:
        pixels = np.ascontiguousarray(self._pictures[number])
        return nullcontext(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))

    def content(self, number: int) -> bytes:
        return np.ascontiguousarray(self._pictures[number]).tobytes()

    def select(self, numbers: Int64[np.ndarray, " n"]) -> ArrayFiles:
        chosen = [int(number) for number in numbers]
        labels = None if self._labels is None else [self._labels[i] for i in chosen]
        return ArrayFiles([self._pictures[i] for i in chosen], [self._keys[i] for i in chosen], labels)

    @property
    def labelled(self) -> bool:
        return self._labels is not None

    def label(self, number: int) -> int | None:
        return None if self._labels is None else int(self._labels[number])

    def listing(self) -> Iterator[str]:
        for key, pixels in zip(self._keys, self._pictures, strict=True):
            yield f"{key} {pixels.shape} {hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()}\n"


class Parts(NamedTuple):
    """Every picture of a set, in its own order: those a training sees, and those it never sees."""

    train: PictureFiles
    test: PictureFiles

    @classmethod
    def divided(cls, files: PictureFiles, held_out: Int64[np.ndarray, " n"]) -> Parts:
        """A set that comes in one, of which these pictures are held out."""
        rest = np.setdiff1d(np.arange(len(files)), held_out)
        return cls(files.select(rest), files.select(np.sort(held_out)))
