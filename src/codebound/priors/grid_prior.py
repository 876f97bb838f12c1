"""A prior over grids of indices: one network per level and digit; to a folder and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from codebound import files
from codebound.errors import InputError
from codebound.priors.digits import alphabets
from codebound.priors.network import Layer, Network

FORMAT = 1
WEIGHTS, DESCRIPTION = "prior.safetensors", "prior.json"


@dataclass(frozen=True, eq=False)
class GridPrior:
    """How likely each index is beside the indices around it, in the grids of one tokenizer.

    Args:
        codebook_sizes: one per level.
        networks: `networks[level][place]` predicts a digit of a level's indices (`priors.digits`).
    """

    codebook_sizes: tuple[int, ...]
    networks: tuple[tuple[Network, ...], ...]

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array by name, in a fixed order."""
        arrays = {}
        for level, networks in enumerate(self.networks):
            for place, network in enumerate(networks):
                arrays[f"{level}.{place}.embedding"] = network.embedding
                for number, layer in enumerate(network.layers):
                    for name in ("weight", "bias", "factor"):
                        arrays[f"{level}.{place}.{number}.{name}"] = getattr(layer, name)
        return arrays

    def first(self, levels: int) -> GridPrior:
        """The prior of the first `levels` levels alone."""
        return GridPrior(self.codebook_sizes[:levels], self.networks[:levels])

    def digest(self) -> bytes:
        """SHA-256 of the codebook sizes and of every array's name, shape and bytes."""
        hashed = hashlib.sha256(json.dumps(self.codebook_sizes).encode())
        for name, array in self.arrays().items():
            hashed.update(f"{name} {array.dtype} {array.shape}".encode())
            hashed.update(np.ascontiguousarray(array).tobytes())
        return hashed.digest()

    def save(self, folder: str | Path) -> None:
        """Write `prior.safetensors` and `prior.json` to a folder, which is made if need be."""
        description = {"format": FORMAT, "codebook_sizes": self.codebook_sizes, "sha256": self.digest().hex()}
        with files.replacing(Path(folder) / WEIGHTS) as temporary:
            temporary.write_bytes(save(self.arrays()))
        files.write_text(Path(folder) / DESCRIPTION, json.dumps(description, indent=2) + "\n")


def load_prior(folder: str | Path) -> GridPrior:
    """The prior that `GridPrior.save` wrote to this folder.

    Raises:
        InputError: there is none, it is of another format, or its arrays are not those it was saved with.
    """
    # The description first: it says what the arrays must be.
    description = _description(Path(folder) / DESCRIPTION)
    try:
        arrays = load((Path(folder) / WEIGHTS).read_bytes())
    except (OSError, SafetensorError) as error:
        raise InputError(f"{Path(folder) / WEIGHTS} can't be read as a prior: {error}") from None

    # Networks check the shapes of their arrays.
    sizes = tuple(description["codebook_sizes"])
    try:
        prior = GridPrior(sizes, tuple(_level(arrays, sizes, level) for level in range(len(sizes))))
    except KeyError as error:
        raise InputError(f"{Path(folder) / WEIGHTS} has no array {error}") from None

    # A prior that differs in one bit decodes to other indices.
    if prior.digest().hex() != description.get("sha256"):
        raise InputError(
            f"{folder} is damaged: the SHA-256 of the prior's arrays is not the one it was saved with"
        )
    return prior


def _description(path: Path) -> dict[str, Any]:
    """What stands in `prior.json`, of the accepted format and with codebook sizes that can be."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as a prior's description: {error}") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise InputError(f"{path} describes no prior of format {FORMAT}, the one accepted")
    sizes = description.get("codebook_sizes")
    whole = isinstance(sizes, list) and sizes and all(isinstance(s, int) and 2 <= s <= 65_536 for s in sizes)
    if not whole:
        raise InputError(f"{path} has codebook_sizes {sizes!r}; a list of 2 … 65536 is accepted")
    return description


def _level(arrays: dict[str, np.ndarray], sizes: Sequence[int], level: int) -> tuple[Network, ...]:
    """The networks of a level, one per digit."""
    networks = []
    for place in range(len(alphabets(sizes[level]))):
        name = f"{level}.{place}"
        layers = [
            Layer(*(_typed(arrays, f"{name}.{n}.{part}") for part in ("weight", "bias", "factor")))
            for n in range(3)
        ]
        embedding = _typed(arrays, f"{name}.embedding")
        networks.append(Network(tuple(sizes), level, place, embedding, (layers[0], layers[1], layers[2])))
    return tuple(networks)


_DTYPES = {"weight": ("int8", 2), "bias": ("int32", 1), "factor": ("int32", 1), "embedding": ("int8", 2)}


def _typed(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """An array by name, refused unless it has the type that its kind must have."""
    dtype, dims = _DTYPES[name.rsplit(".", 1)[1]]
    array = arrays[name]
    if array.dtype != dtype or array.ndim != dims:
        raise InputError(
            f"the prior's {name} is {array.dtype} of shape {array.shape}; {dims}-D {dtype} expected"
        )
    return array
