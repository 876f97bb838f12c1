"""How likely each index of a segment of frames is: networks in exact integers, one for each stage of the codebooks.

Stage 0 is coded in the order of halvings: frame 0, then those in the middle between frames that are known, so that few
steps do for many frames; each sees up to four known frames around it. A later stage is coded in one step: each frame
sees what the stages before it say of itself and of both its neighbours. An index is coded as two digits, group and
member; codewords of a group are alike (`tokenizers.audio_fitting.by_likeness`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int32, Int64
from safetensors import SafetensorError
from safetensors.numpy import load, save

from codebound import files
from codebound.coding.errors import DamagedFile
from codebound.coding.integers import exp2, frequencies
from codebound.coding.range_coder import Coder
from codebound.errors import InputError
from codebound.priors.network import SHIFT, Layer, act
from codebound.sound.frames import StagedCode

FORMAT = "frames-1"
WEIGHTS, DESCRIPTION = "prior.safetensors", "prior.json"
SEEN = 2047  # the largest input
COARSE = 16  # units of z that are one of an input
LEVELS = 11  # halvings that an input tells apart: segments have up to 1024 frames
NEIGHBOURS = (-3, -1, 1, 3)  # of a frame of stage 0, in distances to the nearest known one
BESIDE = (-1, 0, 1)  # of a frame of a later stage


def groups(codebook_size: int) -> tuple[int, int]:
    """Groups of codewords, and members of each: 2^⌈b/2⌉ members for K of b bits."""
    members = 1 << -(-(codebook_size - 1).bit_length() // 2)
    return -(-codebook_size // members), members


def halvings(frames: int) -> Iterator[tuple[int, Int64[np.ndarray, " n"]]]:
    """Distance and frames of each step of stage 0: those at odd multiples of the distance; frame 0 first."""
    distance = 1 << max(frames - 1, 0).bit_length()
    yield distance, np.zeros(1, dtype=np.int64)
    while distance > 1:
        distance //= 2
        found = np.arange(distance, frames, 2 * distance)
        if len(found):
            yield distance, found


@dataclass(frozen=True, eq=False)
class StageNetwork:
    """Two hidden layers, a row of logits for the groups, and one for the members of each group.

    Args:
        first, second, high: layers.
        low: one output for each codeword, of which a group's are used.
    """

    first: Layer
    second: Layer
    high: Layer
    low: Layer

    def hidden(self, inputs: Int64[np.ndarray, "n i"]) -> Int64[np.ndarray, "n h"]:
        """Activations of the second layer."""
        return act(self.second(act(self.first(inputs))))

    def hidden_of_sums(self, totals: Int32[np.ndarray, "t b d"]) -> Int64[np.ndarray, "t b h"]:
        """`hidden` of `later_inputs` for several sums of each frame, each beside the first one of both neighbours."""
        # What is beside is multiplied once for all sums of a frame.
        own, beside = self._apart
        seen = _seen(totals)
        padded = np.pad(seen[:, 0], ((1, 1), (0, 0)))
        around = beside.products(np.concatenate([padded[:-2], padded[2:]], axis=1))
        products = own.products(seen.reshape(-1, totals.shape[2])).reshape(*totals.shape[:2], -1)
        products += around[:, None]
        first = self.first.scale(products.reshape(-1, products.shape[2]))
        return act(self.second(act(first))).reshape(*totals.shape[:2], -1)

    @cached_property
    def _apart(self) -> tuple[Layer, Layer]:
        """The first layer's matrix for a frame's own sum, and for those of both neighbours."""
        first, dim = self.first, self.first.weight.shape[1] // len(BESIDE)
        own = np.arange(dim) + BESIDE.index(0) * dim
        weights = first.weight[:, own], np.delete(first.weight, own, axis=1)
        one, other = (Layer(weight, first.bias, first.factor) for weight in weights)
        return one, other

    def of_groups(self, hidden: Int64[np.ndarray, "n h"]) -> Float64[np.ndarray, "n g"]:
        """Frequencies of the groups."""
        return _frequencies(self.high(hidden))

    def of_members(
        self, hidden: Int64[np.ndarray, "n h"], group: Int64[np.ndarray, " n"]
    ) -> Float64[np.ndarray, "n m"]:
        """Frequencies of the members of each row's group."""
        # The rows of a group together; float64 holds sums of whole numbers below 2^53 exactly, in any order.
        weight, bias, factor = self._members
        order = np.argsort(group, kind="stable")
        ends = np.searchsorted(group[order], np.arange(len(weight) + 1))
        rows = hidden[order].astype(np.float64)
        products = np.empty((len(rows), weight.shape[2]))
        for number in np.flatnonzero(np.diff(ends)):
            part = slice(ends[number], ends[number + 1])
            np.matmul(rows[part], weight[number], out=products[part])
        whole = np.empty(products.shape, dtype=np.int64)
        whole[order] = products
        return _frequencies((whole + bias[group]) * factor[group] >> SHIFT)

    @cached_property
    def _members(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weight, bias and factor of `low`, group by group; members that a codebook lacks are as unlikely as can be."""
        _, members = groups(len(self.low.bias))
        missing = -len(self.low.bias) % members
        weight = np.pad(self.low.weight.astype(np.float64), ((0, missing), (0, 0)))
        weight = np.ascontiguousarray(weight.reshape(-1, members, weight.shape[1]).transpose(0, 2, 1))
        bias = np.pad(self.low.bias.astype(np.int64), (0, missing), constant_values=-(1 << 30))
        factor = np.pad(self.low.factor.astype(np.int64), (0, missing), constant_values=1 << SHIFT)
        return weight, bias.reshape(-1, members), factor.reshape(-1, members)


@dataclass(frozen=True, eq=False)
class FramePrior:
    """Of the indices of one audio tokenizer.

    Args:
        codebook_size: K of each stage.
        dim: of a latent.
        networks: one for each stage.

    Raises:
        InputError: networks whose sizes don't fit.
    """

    codebook_size: int
    dim: int
    networks: tuple[StageNetwork, ...]

    def __post_init__(self) -> None:
        count, _ = groups(self.codebook_size)
        for stage, network in enumerate(self.networks):
            hidden = len(network.first.bias)
            shapes = [
                layer.weight.shape for layer in (network.first, network.second, network.high, network.low)
            ]
            expected = [
                (hidden, inputs_of(stage, self.dim)),
                (len(network.second.bias), hidden),
                (count, len(network.second.bias)),
                (self.codebook_size, len(network.second.bias)),
            ]
            if shapes != expected:
                raise InputError(
                    f"the prior's network of stage {stage} has layers {shapes}; {expected} are accepted"
                )

    def code(
        self, coder: Coder, indices: Int64[np.ndarray, "t q"], code: StagedCode
    ) -> Int64[np.ndarray, "t q"]:
        """The indices of a segment, an encoder's as they are given, a decoder's as they come out."""
        frames, stages = indices.shape
        found = np.zeros_like(indices)

        # Stage 0, halving by halving.
        known = np.zeros((frames, self.dim), dtype=np.int32)
        for distance, at in halvings(frames):
            inputs = first_inputs(known, at, distance)
            found[at, 0] = self._coded(coder, 0, inputs, indices[at, 0])
            known[at] = code.decode(found[at, :1])

        # The others, all frames at once.
        total = known
        for stage in range(1, stages):
            found[:, stage] = self._coded(coder, stage, later_inputs(total), indices[:, stage])
            words = code.codebooks[stage][found[:, stage]].astype(np.int32)
            total = total + words * code.steps[stage]
        return found

    def _coded(
        self, coder: Coder, stage: int, inputs: Int64[np.ndarray, "n i"], indices: Int64[np.ndarray, " n"]
    ) -> Int64[np.ndarray, " n"]:
        """Group, then member."""
        network, (_, members) = self.networks[stage], groups(self.codebook_size)
        hidden = network.hidden(inputs)
        group = coder.code(network.of_groups(hidden), indices // members)
        member = coder.code(network.of_members(hidden, group), indices % members)
        found = group * members + member
        if found.max(initial=0) >= self.codebook_size:
            raise DamagedFile(f"the stream holds index {found.max()}; the codebook has {self.codebook_size}")
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array by name, in a fixed order."""
        return {
            f"{stage}.{name}.{part}": getattr(getattr(network, name), part)
            for stage, network in enumerate(self.networks)
            for name in ("first", "second", "high", "low")
            for part in ("weight", "bias", "factor")
        }

    @cached_property
    def _digest(self) -> bytes:
        hashed = hashlib.sha256(json.dumps([FORMAT, self.codebook_size, self.dim]).encode())
        for name, array in self.arrays().items():
            hashed.update(f"{name} {array.dtype} {array.shape}".encode())
            hashed.update(np.ascontiguousarray(array).tobytes())
        return hashed.digest()

    def digest(self) -> bytes:
        """SHA-256 of the sizes and of every array's name, shape and bytes."""
        return self._digest

    def save(self, folder: str | Path) -> None:
        """Write `prior.safetensors` and `prior.json` to a folder, which is made if need be."""
        description = {
            "format": FORMAT,
            "codebook_size": self.codebook_size,
            "dim": self.dim,
            "stages": len(self.networks),
            "sha256": self.digest().hex(),
        }
        with files.replacing(Path(folder) / WEIGHTS) as temporary:
            temporary.write_bytes(save(self.arrays()))
        files.write_text(Path(folder) / DESCRIPTION, json.dumps(description, indent=2) + "\n")


def load_frame_prior(folder: str | Path) -> FramePrior:
    """The prior that `FramePrior.save` wrote to this folder.

    Raises:
        InputError: there is none, it is of another format, or its arrays are not those it was saved with.
    """
    path = Path(folder) / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        arrays = load((Path(folder) / WEIGHTS).read_bytes())
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder} can't be read as a prior of frames: {error}") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise InputError(f"{path} describes no prior of format {FORMAT}, the one accepted")
    size, dim, stages = (description.get(name) for name in ("codebook_size", "dim", "stages"))
    if not all(isinstance(value, int) and 1 <= value <= 1 << 16 for value in (size, dim, stages)):
        raise InputError(
            f"{path} has codebook_size {size!r}, dim {dim!r}, stages {stages!r}; integers are accepted"
        )
    try:
        networks = tuple(
            StageNetwork(*(_layer(arrays, f"{stage}.{name}") for name in ("first", "second", "high", "low")))
            for stage in range(int(stages or 0))
        )
    except KeyError as error:
        raise InputError(f"{Path(folder) / WEIGHTS} has no array {error}") from None
    prior = FramePrior(int(size or 0), int(dim or 0), networks)
    if prior.digest().hex() != description.get("sha256"):
        raise InputError(
            f"{folder} is damaged: the SHA-256 of the prior's arrays is not the one it was saved with"
        )
    return prior


def inputs_of(stage: int, dim: int) -> int:
    """How many numbers a network of a stage sees."""
    return len(BESIDE) * dim if stage else len(NEIGHBOURS) * (dim + 1) + LEVELS


def first_inputs(
    known: Int32[np.ndarray, "t d"], at: Int64[np.ndarray, " n"], distance: int
) -> Int64[np.ndarray, "n i"]:
    """What frames of stage 0 see: known frames around them, whether there are such, and how far they are."""
    parts = []
    for step in NEIGHBOURS:
        place = at + step * distance
        there = (place >= 0) & (place < len(known)) & (at > 0)
        parts.append(np.where(there[:, None], _seen(known[np.where(there, place, 0)]), 0))
        parts.append(np.where(there, SEEN, 0)[:, None])
    level = np.zeros((len(at), LEVELS), dtype=np.int64)
    level[:, min(distance.bit_length() - 1, LEVELS - 1)] = SEEN
    return np.concatenate([*parts, level], axis=1)


def later_inputs(total: Int32[np.ndarray, "t d"]) -> Int64[np.ndarray, "t i"]:
    """What frames of a later stage see: the sums of the stages before it, of the frame and of both beside it."""
    padded = np.pad(_seen(total), ((1, 1), (0, 0)))
    return np.concatenate([padded[1 + step : 1 + step + len(total)] for step in BESIDE], axis=1)


def _seen(z: Int32[np.ndarray, "*n d"]) -> Int64[np.ndarray, "*n d"]:
    return np.clip(z.astype(np.int64) // COARSE, -SEEN, SEEN)


def _frequencies(logits: Int64[np.ndarray, "n a"]) -> Float64[np.ndarray, "n a"]:
    """The largest logit has the largest power; logits are in 1/256 bit."""
    return frequencies(exp2(logits.max(-1, keepdims=True) - logits).astype(np.float64))


_DTYPES = {"weight": ("int8", 2), "bias": ("int32", 1), "factor": ("int32", 1)}


def _layer(arrays: dict[str, np.ndarray], name: str) -> Layer:
    """A layer by name, refused unless its arrays have the types that they must have."""
    parts = []
    for part, (dtype, dims) in _DTYPES.items():
        array = arrays[f"{name}.{part}"]
        if array.dtype != dtype or array.ndim != dims:
            raise InputError(
                f"the prior's {name}.{part} is {array.dtype} {array.shape}; {dims}-D {dtype} expected"
            )
        parts.append(array)
    return Layer(*parts)
