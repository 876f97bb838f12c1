"""Readers of single files: each returns the array as stored, or an `InputError` that names the file."""

import csv
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from codebound.errors import InputError


def read_npy(file: Path) -> np.ndarray:
    """The array in a `.npy` file; pickled objects are refused."""
    try:
        array = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise unreadable(file, error) from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{file.name}: holds an archive, not one array; name it .npz")
    return array


def read_npz(file: Path, key: str | None) -> tuple[np.ndarray, str]:
    """The only array of a `.npz` file, or the one called `key`, and a note naming it."""
    # An archive of several arrays needs a key; pickled objects are refused.
    try:
        with np.load(file, allow_pickle=False) as archive:
            keys = list(archive.files)
            if key is None and len(keys) != 1:
                raise InputError(
                    f"{file.name}: holds {len(keys)} arrays; name one as {file.name}:KEY, {_keys(keys)}"
                )
            if key is not None and key not in keys:
                raise InputError(f"{file.name}: no array {key!r}; {_keys(keys)}")
            chosen = keys[0] if key is None else key
            return archive[chosen], f"array {chosen!r}"
    except InputError:
        raise
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise unreadable(file, error) from error


def read_csv(file: Path) -> tuple[np.ndarray, str]:
    """The numbers in a comma-separated file, and whether its first row was a header.

    The first row is a header if none of its cells is a number, or if it counts 0, 1, 2, ... as pandas writes
    it for an unnamed array. A row index (first column without a name) is refused.
    """
    # The first row that is not blank says whether there is a header.
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            first = next((row for row in csv.reader(stream) if any(cell.strip() for cell in row)), None)
        if first is None:
            raise InputError(f"{file.name}: the file is empty; rows of numbers are accepted")
        header = _is_header(first, file)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            frame = pd.read_csv(
                file,
                header=0 if header else None,
                encoding="utf-8-sig",
                skipinitialspace=True,
                index_col=False,
            )
    except InputError:
        raise
    except (ValueError, OSError, csv.Error, pd.errors.ParserWarning) as error:  # ParserError is a ValueError
        raise unreadable(file, error) from error
    return _numeric(frame, file), "first row is a header" if header else "no header"


def read_parquet(file: Path) -> tuple[np.ndarray, str]:
    """Numeric columns side by side, or one column of equally long lists, and a note saying which."""
    return _vectors(_frame(file), file)


def parquet_arrays(file: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Where columns of lists stand among others, each of them by its name, and the others' names; else one array."""
    frame = _frame(file)
    columns = {str(name): frame.iloc[:, i] for i, name in enumerate(frame.columns)}
    lists = [name for name, column in columns.items() if _holds_lists(column)]
    if not lists or len(columns) == 1:
        return {"": _vectors(frame, file)[0]}, []
    found = {name: _stack_lists(columns[name], file) for name in lists}
    return found, [name for name in columns if name not in found]


def _frame(file: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(file)
    except (ValueError, OSError, TypeError) as error:  # pyarrow's errors derive from these
        raise unreadable(file, error) from error


def _vectors(frame: pd.DataFrame, file: Path) -> tuple[np.ndarray, str]:
    """Columns of numbers, or one column of lists."""
    # Lists stand alone: beside other columns it is not clear what a vector is.
    columns = [frame.iloc[:, i] for i in range(len(frame.columns))]
    lists = [column for column in columns if _holds_lists(column)]
    if lists and len(columns) == 1:
        return _stack_lists(lists[0], file), f"column {lists[0].name!r} of lists"
    if lists:
        raise InputError(
            f"{file.name}: column {lists[0].name!r} of lists stands among {len(columns)} columns; "
            "numeric columns, or one column of lists alone, are accepted"
        )
    return _numeric(frame, file), f"{len(columns)} numeric columns"


def _numeric(frame: pd.DataFrame, file: Path) -> np.ndarray:
    """The columns side by side, missing cells as NaN; the first cell that is no number is named."""
    if not len(frame.columns) or not len(frame):
        raise InputError(
            f"{file.name}: {len(frame)} rows of {len(frame.columns)} columns; at least 2 rows accepted"
        )
    return np.stack([_column(frame.iloc[:, i], file) for i in range(len(frame.columns))], axis=1)


def _column(cells: pd.Series, file: Path) -> np.ndarray:
    """The numbers of a column, missing ones as NaN; the first cell that is no number is named."""
    if not pd.api.types.is_numeric_dtype(cells):  # true for bool as well
        column = repr(cells.name) if isinstance(cells.name, str) else f"{cells.name} (0 is the first)"
        texts = [str(cell) for cell in cells]
        row = next((i for i, text in enumerate(texts) if text and not _is_number(text)), 0)
        raise InputError(
            f"{file.name}: column {column} is not numeric ({cells.dtype}), row {row} (0 is the first "
            f"row of data) holds {texts[row]!r}; numbers are accepted"
        )
    if cells.isna().any():
        return cells.to_numpy(dtype=np.float64, na_value=np.nan)
    return cells.to_numpy()


def _stack_lists(cells: pd.Series, file: Path) -> np.ndarray:
    """A column of lists as an array, a row for each; the first list of another length is named."""
    # All lists must have the first one's length.
    lengths = [len(cell) if _is_list(cell) else -1 for cell in cells]
    wrong = next((i for i, length in enumerate(lengths) if length != lengths[0] or length < 0), None)
    if wrong is not None:
        content = "no list" if lengths[wrong] < 0 else f"{lengths[wrong]} numbers"
        raise InputError(
            f"{file.name}: row {wrong} of column {cells.name!r} holds {content}; equal lengths accepted"
        )
    try:
        return np.stack([np.asarray(cell) for cell in cells])
    except ValueError as error:
        raise unreadable(file, error) from error


def _holds_lists(cells: pd.Series) -> bool:
    return cells.dtype == object and any(map(_is_list, cells))


def _is_list(cell: object) -> bool:
    return isinstance(cell, list | tuple | np.ndarray)


def _is_header(first: list[str], file: Path) -> bool:
    """Whether the first row names columns; what could be read either way is refused."""
    # What the cells are: 0, 1, 2, … as pandas writes for columns without names, texts, numbers.
    cells = [cell.strip() for cell in first]
    counting = [str(i) for i in range(len(cells))]
    texts = [i for i, cell in enumerate(cells) if cell and not _is_number(cell)]
    numbers = [i for i, cell in enumerate(cells) if cell and _is_number(cell)]

    # A first column without a name is a row index.
    indexed = cells[0] == "" and len(cells) > 1 and (not numbers or cells[1:] == counting[:-1])
    if indexed:
        raise InputError(
            f"{file.name}: the first column has no name, so it looks like a row index; "
            "save without one (pandas: to_csv(..., index=False))"
        )

    # Names only, or numbers only.
    if texts and numbers:
        raise InputError(
            f"{file.name}: the first row mixes names and numbers, column {texts[0]} holds "
            f"{cells[texts[0]]!r}; a header of names only, or numbers only, is accepted"
        )
    return bool(texts) or (len(cells) > 1 and cells == counting)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _keys(keys: list[str]) -> str:
    return f"arrays in the file: {', '.join(keys) or 'none'}"


def unreadable(file: Path, error: Exception) -> InputError:
    """What to raise where a reader gave up on a file: its reason in our words."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "allow_pickle" in reason or "Python objects" in reason:
        # What NumPy says of objects, and of whatever is no array at all.
        reason = "it holds Python objects (dtype object), which are never unpickled; save numbers"
        with file.open("rb") as stream:
            start = stream.read(6)
        if not start.startswith((b"\x93NUMPY", b"PK")):
            reason = f"it is no array of NumPy: it starts with {start!r}"
    return InputError(f"{file.name} can't be read as {file.suffix.lower()}: {reason}")
