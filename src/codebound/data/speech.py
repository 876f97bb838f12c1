"""Speech to train on: announcements of five languages at 16 kHz, from Debian's packages of Asterisk's sounds.

One voice for each language (the Spanish one is the English one), 23 to 30 minutes each, of which French is never
trained on. Licences: Italian and Russian CC-BY-3.0, the others CC-BY-SA-3.0.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Int16

from codebound import extras, files
from codebound.data import debian

RATE = 16_000
LEAST = RATE // 2  # samples of a clip that is used
HELD_OUT = "fr"
VERSION = "1.6.1-1"
PACKAGES = {  # SHA-256
    "it": "46b4cf7afc508a5fcfc051b7ea233251c0d195dd4ef83cc4b7facb4c6429b016",
    "ru": "673b4238a6b8269960f055d868c6a11083f7a0d00979167cb01554046b48ed9b",
    "en": "38c5261820b406dcb0ecb37675720da2b0864850690690352ca52707eb623806",
    "es": "e4e3b4281057d3b81b779298fd6be705f57411513955c518eed1bcaabbd615b8",
    "fr": "7add61d5e42279ecff1bbdf842a5a946ac3644fac9a0fe44384731aa7270c8e0",
}


class Clip(NamedTuple):
    """One recording: its name and its samples at 16 kHz."""

    name: str
    samples: Int16[np.ndarray, " n"]


def cache_folder() -> Path:
    """Where the packages of speech and what was decoded of them are kept."""
    return debian.cache_folder() / "speech"


def clips(language: str) -> list[Clip]:
    """The recordings of a language by name, decoded once; those under half a second are left out.

    Raises:
        InputError: the package is not in the cache and can't be downloaded, or is not the one whose SHA-256 is known.
    """
    # A decoded package is an archive of arrays, beside it.
    name, expected = f"asterisk-core-sounds-{language}-g722_{VERSION}_all.deb", PACKAGES[language]
    decoded = cache_folder() / f"{Path(name).stem}-{expected[:8]}.npz"
    if not decoded.exists():
        package = debian.package(name, expected, cache_folder(), "speech")
        found = {PurePosixPath(path).as_posix(): samples for path, samples in _recordings(package)}
        with files.replacing(decoded) as temporary:
            np.savez(temporary, **found)  # pyright: ignore[reportArgumentType]
    with np.load(decoded) as arrays:
        return [Clip(name, arrays[name]) for name in sorted(arrays.files)]


def _recordings(package: bytes) -> Iterator[tuple[str, Int16[np.ndarray, " n"]]]:
    """Path and samples of every recording in a Debian package that is long enough."""
    av = extras.imported("av", "audio", "data=speech")
    for name, data in debian.contents(package, ".g722"):
        if "/silence/" in name:
            continue
        with av.open(io.BytesIO(data), format="g722") as container:
            parts = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
        samples = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int16)
        if len(samples) >= LEAST:
            yield name.split("/sounds/")[-1], samples.astype(np.int16)
