"""The folder of a study's run: settings, finished cells, and what may be resumed."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, TypeVar

from codebound import config
from codebound.errors import InputError
from codebound.files import sweep, write_text

PLAN = (
    "plan.json"  # in a study's folder: all its cells, so that a report needs neither the data nor the model
)

S = TypeVar("S", bound=config.Settings)


@dataclass(frozen=True)
class RunFolder(Generic[S]):
    """`config.yaml`, `study.json` and one JSON file per finished cell, written last and whole."""

    path: Path
    settings: S

    @classmethod
    def open(
        cls, path: Path, study: str, settings: S, inputs: Mapping[str, str] | None = None
    ) -> RunFolder[S]:
        """Make the folder, or take up an earlier run of these settings, inputs and versions.

        Settings that only choose cells (`Settings.CHOOSES`) may differ: the folder then stands for the present ones.

        Args:
            inputs: what else decides the numbers, by name: a digest of the data, the definition of the arms.

        Raises:
            InputError: the folder can't be written, holds something else, or a run with other settings (the
                differences are named).
        """
        # The folder must be there and writable before anything is computed for it.
        identity = {**(inputs or {}), **_versions()}
        folder = cls(path, settings)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out {path} can't be made: {error.strerror}") from None
        if not os.access(path, os.W_OK | os.X_OK):
            raise InputError(f"--out {path} is not writable")

        # An earlier run is taken up if it is the same one; its half-written files are swept away.
        if (path / "config.yaml").exists():
            folder._check_same(study, identity)
            sweep(path)
        elif any(entry.name != "study.json" and not entry.name.startswith(".") for entry in path.iterdir()):
            # A folder with study.json alone is one whose making was cut short.
            raise InputError(f"--out {path} holds other files; give a new folder or one of an earlier run")
        folder._describe(study, identity)
        return folder

    def _describe(self, study: str, identity: Mapping[str, str]) -> None:
        """Write what the run is, unless that stands there already."""
        path, text = self.path / "config.yaml", config.to_yaml(self.settings)
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return
        provenance = _provenance(study, self.settings, identity)
        write_text(self.path / "study.json", json.dumps(provenance, indent=2) + "\n")
        write_text(path, text)

    def _check_same(self, study: str, identity: Mapping[str, str]) -> None:
        """Refuse to go on with a run whose numbers would be others; the differences are named."""
        # Another study's folder is never written to.
        earlier = read_study(self.path)
        if earlier["study"] != study:
            raise InputError(f"--out {self.path} holds a run of study {earlier['study']!r}, not {study!r}")

        # All that decides the numbers must be equal: settings, data, versions.
        before = config.from_yaml(type(self.settings), self.path / "config.yaml")
        changed = config.differences(before, self.settings, but=self.settings.CHOOSES)
        changed += [
            f"{name}: {earlier.get('identity', {}).get(name)!r} → {value!r}"
            for name, value in identity.items()
            if earlier.get("identity", {}).get(name) != value
        ]
        if changed:
            raise InputError(
                f"--out {self.path} holds a run with other settings ({'; '.join(changed)}); "
                "give another --out, or the same settings to resume it"
            )

    def cell_file(self, name: str) -> Path:
        """The file whose presence says that a cell is finished."""
        return self.path / "cells" / f"{name}.json"

    def finished(self, name: str) -> bool:
        """Whether the cell was completed."""
        return self.cell_file(name).exists()

    def finish(self, name: str, result: dict[str, Any]) -> None:
        """Record a completed cell."""
        write_text(self.cell_file(name), json.dumps(result, indent=1) + "\n")


def check_new(path: Path) -> None:
    """Refuse a folder for new files that holds some.

    Raises:
        InputError: so, or it is no folder.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"--out {path} holds something already; give a new folder")


def read_study(path: Path) -> dict[str, Any]:
    """`study.json` of a run folder.

    Raises:
        InputError: not the folder of a run.
    """
    try:
        record = json.loads((path / "study.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if not path.exists():
            raise InputError(f"there is no folder {path}") from None
        raise InputError(f"{path} is not the folder of a run: it has no study.json") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}/study.json can't be read: {error}") from None
    if not isinstance(record, dict) or not isinstance(record.get("study"), str):
        raise InputError(f"{path}/study.json does not say which study it is of")
    return record


def _provenance(study: str, settings: config.Settings, identity: Mapping[str, str]) -> dict[str, Any]:
    """Where a run's numbers come from: settings, data, versions, machine, command."""
    return {
        "study": study,
        "fingerprint": config.fingerprint(settings),
        "identity": dict(identity),
        "versions": {"python": platform.python_version()}
        | {n: version(n) for n in ("numpy", "scipy")}
        | _versions(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "command": shlex.join(["codebound", *sys.argv[1:]]),
    }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("codebound", "torch")}
