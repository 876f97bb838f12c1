"""Debian's packages as data: through apt into a cache, checked by their SHA-256, read without installing."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from codebound.errors import InputError


def cache_folder() -> Path:
    """Where packages and what was decoded of them are kept: `CODEBOUND_CACHE`, or `~/.cache/codebound`."""
    return Path(os.environ.get("CODEBOUND_CACHE") or Path.home() / ".cache" / "codebound")


def package(file: str, expected: str, folder: Path, data: str) -> bytes:
    """The bytes of a package, from a folder of the cache or through apt.

    Args:
        file: its name, NAME_VERSION_ARCHITECTURE.deb.
        expected: its SHA-256 in hexadecimal digits.
        data: the setting that asks for it, for errors.

    Raises:
        InputError: it is not there and can't be downloaded, or it is another one.
    """
    path = folder / file
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["apt-get", "download", "-q", file.partition("_")[0]]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
            raise InputError(
                f"data={data}: {file} is not in {folder} and apt-get does not give it "
                f"({said[-1] if said else error}); put the package there, or give data=folder:PATH"
            ) from None
    found = path.read_bytes() if path.exists() else b""
    if (digest := hashlib.sha256(found).hexdigest()) != expected:
        raise InputError(f"data={data}: {path} has SHA-256 {digest[:12]}…; {expected[:12]}… is expected")
    return found


def contents(found: bytes, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of every file in a package that ends so and is not empty.

    Raises:
        InputError: no package.
    """
    with tarfile.open(fileobj=io.BytesIO(_member(found, b"data.tar"))) as archive:
        for entry in archive:
            if entry.isfile() and entry.size and entry.name.endswith(suffix):
                stream = archive.extractfile(entry)
                assert stream is not None
                yield entry.name, stream.read()


def _member(found: bytes, start: bytes) -> bytes:
    """The member of an ar archive whose name begins so."""
    at = 8
    while at + 60 <= len(found):
        head = found[at : at + 60]
        size = int(head[48:58])
        if head.startswith(start):
            return found[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise InputError("the package has no data")
