"""Checkpoints: one safetensors file each, whole or absent, with its own checksum in its name."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from codebound.files import replacing

_NAME = re.compile(r"(step|best)-(\d{8})-([0-9a-f]{16})\.safetensors")
_TREE = "codebound.checkpoint"


class Checkpoint(NamedTuple):
    """A file, and what stands in it: nested dicts and lists of tensors, numbers and strings."""

    path: Path
    step: int
    state: dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """The last `keep` checkpoints of a folder, and the best one.

    `step-00000400-0123456789abcdef.safetensors`: the state after 400 steps; the digits are the first 16 of the
    file's SHA-256, so file and checksum can't come apart, and a rename publishes both at once.
    """

    folder: Path
    keep: int = 3

    def save(self, step: int, state: Mapping[str, Any], *, best: bool = False) -> Path:
        """Write a checkpoint, then remove those that are no longer kept."""
        # A checkpoint is one safetensors file: tensors by name, the rest as JSON in its header.
        tensors: dict[str, Tensor] = {}
        tree = json.dumps(_strip(state, "", tensors))
        content = save(tensors, {_TREE: tree})
        name = f"{step:08d}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
        path = self.folder / f"step-{name}"

        # Under a temporary name first: a kill leaves the file whole or absent.
        with replacing(path) as temporary:
            temporary.write_bytes(content)

        # The best one has a second name, so that it outlives the last few.
        if best:
            with replacing(self.folder / f"best-{name}") as temporary:
                temporary.unlink()
                _link(path, temporary)

        # Too old ones go, after the new one is safe.
        for kind, count in (("step", self.keep), ("best", 1)):
            for old in self.files(kind)[count:]:
                old.unlink()
        return path

    def files(self, kind: str = "step") -> list[Path]:
        """The checkpoints of a kind (`step`, `best`), newest first."""
        paths = [path for path in self.folder.glob(f"{kind}-*.safetensors") if _NAME.fullmatch(path.name)]
        return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)

    def whole(self, damaged: list[str]) -> Iterator[Checkpoint]:
        """Checkpoints that are what was saved, newest first; into `damaged` goes what is wrong with the others."""
        for path in sorted([*self.files("step"), *self.files("best")], key=_step, reverse=True):
            try:
                yield _read(path)
            except (OSError, SafetensorError, ValueError, KeyError) as error:
                damaged.append(f"checkpoint {path} is damaged and was passed over: {error}")


def _read(path: Path) -> Checkpoint:
    """The checkpoint in a file; `ValueError` where its bytes are not those that its name speaks of."""
    # A file that was cut short or changed does not fit the digits in its name.
    match = _NAME.fullmatch(path.name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if match is None or digest[:16] != match[3]:
        raise ValueError(f"its SHA-256 begins with {digest[:16]}, not as its name says")

    # What is whole is read back.
    with safe_open(path, framework="pt") as file:
        tree = json.loads((file.metadata() or {})[_TREE])
        return Checkpoint(path, int(match[2]), _fill(tree, file))


def _step(path: Path) -> str:
    """The step in a checkpoint's name: eight digits, so that text sorts as numbers do."""
    return path.name.split("-")[1]


def _strip(tree: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The tree as JSON, each tensor moved to `tensors` and its name left in its place."""
    if isinstance(tree, Tensor):
        tensors[name] = tree.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(tree, Mapping):
        return {"items": [[key, _strip(value, f"{name}/{key}", tensors)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        return {"list": [_strip(value, f"{name}/{i}", tensors) for i, value in enumerate(tree)]}
    return {"value": tree}


def _fill(tree: Any, file: Any) -> Any:
    """The state again: the inverse of `_strip`, tensors read from the file by their names."""
    kind, content = next(iter(tree.items()))
    if kind == "tensor":
        return file.get_tensor(content)
    if kind == "items":
        return {key: _fill(value, file) for key, value in content}
    return [_fill(value, file) for value in content] if kind == "list" else content


def _link(source: Path, target: Path) -> None:
    """The same file under another name, copied where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def random_state() -> dict[str, Tensor]:
    """The states of torch's random generators, on the CPU and on each GPU."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def restore_random_state(states: Mapping[str, Tensor]) -> None:
    """Take up `random_state`; generators of GPUs that are not there are left out."""
    torch.set_rng_state(states["cpu"])
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda{i}" in states:
            torch.cuda.set_rng_state(states[f"cuda{i}"], i)
