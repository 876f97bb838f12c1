"""Writing files so that nothing half-written stays and nothing is lost."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_UNFINISHED = ".unfinished-"
_LONGEST_SUFFIX = 16  # of a temporary name: with it, it is shorter than any name that a folder can hold


@contextmanager
def replacing(path: Path, *, keep: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` to write to; renamed onto it at the end, removed on any error.

    The folder is made if need be. The rename is atomic: a reader sees the old file or the new one. The mode stays the
    old file's, of a new one it is what the umask leaves. A link stays, and what it points to is replaced. A pipe or a
    device is never replaced: what was written is copied into it at the end.

    Args:
        keep: refuse to replace a file, also one that came while this one was written.

    Raises:
        FileExistsError: `keep`, and there is a file. Other `OSError`s as they come.
    """
    # What is no file on a disk can't be renamed onto.
    if is_stream(path):
        with tempfile.TemporaryDirectory() as folder:
            yield (temporary := Path(folder) / f"output{_suffix(path)}")
            with temporary.open("rb") as source, path.open("wb") as stream:
                shutil.copyfileobj(source, stream)
        return

    # A new file beside the one that it is for, or beside what a link points to.
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{_UNFINISHED}{secrets.token_hex(8)}{_suffix(path)}"
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))

    # Whoever writes to it may change its mode; that of the file in its place counts, or else that of a new one.
    try:
        mode = (path if path.exists() else temporary).stat().st_mode
        yield temporary
        temporary.chmod(stat.S_IMODE(mode))
        if keep:
            _publish(temporary, path)
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Whether there is something at the path that is neither file nor folder: a pipe, a device, a socket."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def write_bytes(path: Path, data: bytes, *, keep: bool = False) -> None:
    """Write `data` to `path` as `replacing` does."""
    with replacing(path, keep=keep) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str, *, keep: bool = False) -> None:
    """Write `text` to `path` as `replacing` does."""
    write_bytes(path, text.encode(), keep=keep)


def sweep(folder: Path) -> None:
    """Remove what a killed process left under `folder` half-written. Nothing else may be writing there."""
    for path in folder.rglob(f"{_UNFINISHED}*"):
        path.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> None:
    """Give a file its name unless another has it; `FileExistsError` where one has."""
    # A second name for the file is made only where the name is free, whoever else is writing.
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # no second names on this file system: look, then rename
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists") from None
        temporary.replace(path)


def _suffix(path: Path) -> str:
    """The suffix, by which some writers choose what they write; nothing in place of a very long one."""
    return path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST_SUFFIX else ""
