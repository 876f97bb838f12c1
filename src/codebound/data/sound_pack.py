"""The recordings in the package: speech of two voices at 16 kHz that no training sees, and two pieces of music."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from codebound.errors import InputError

PACK = Path(__file__).parent / "sounds"


def packed_sounds() -> list[Path]:
    """The files, each checked; authors and licences: `sounds/ATTRIBUTION.md`.

    Raises:
        InputError: a file is missing, or its SHA-256 is not the recorded one.
    """
    found = []
    for entry in _index():
        path = PACK / entry["file"]
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            raise InputError(f"{path} is missing, or was changed: its SHA-256 is not the recorded one")
        found.append(path)
    return found


def held_out_clips() -> frozenset[str]:
    """Names of the recordings of `data.speech` that are in the package: for tests, so no training sees them."""
    return frozenset(entry["clip"] for entry in _index() if "clip" in entry)


def _index() -> list[dict[str, str]]:
    return json.loads((PACK / "index.json").read_text(encoding="utf-8"))
