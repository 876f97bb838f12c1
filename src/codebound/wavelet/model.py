"""What both sides of a file must have alike: networks, tables of probabilities, and where levels lie between steps."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Int8, UInt16
from safetensors import SafetensorError
from safetensors.numpy import load

from codebound.coding.container import HASH
from codebound.errors import InputError
from codebound.wavelet import maps
from codebound.wavelet.bands import ORIENTATIONS, Group
from codebound.wavelet.maps import INPUTS, PHASES
from codebound.wavelet.network import Network

COMPONENTS = 3
ROWS = 40  # of each component's table for coefficients that see something
QUIET_LEVELS = 6  # told apart where nothing is seen
ESCAPE = 17  # the symbol of this magnitude and of all larger ones
SYMBOLS = ESCAPE + 1
QUIET = COMPONENTS * ROWS  # the first row for coefficients that see nothing
ALL_ROWS = QUIET + COMPONENTS * QUIET_LEVELS * ORIENTATIONS * len(PHASES)
SHIFTED = 3  # magnitudes with a shift of their own: 1, 2, and all larger ones
_FILE = Path(__file__).parent / "model.safetensors"
_OF_NETWORKS = tuple(field.name for field in fields(Network))
_NAMES = (*_OF_NETWORKS, "table", "shift")


@dataclass(frozen=True, eq=False)
class WaveletModel:
    """Networks and tables, as `tools/fit_wavelet.py` fits them.

    Args:
        networks: of each component and phase, the phase running fastest.
        table: frequencies of the symbols in each row, of sum 2^16.
        shift: what is added to magnitudes 1, 2, and 3 and more before the step is applied, in 1/64.
        digest: the first bytes of the SHA-256 of all arrays.
    """

    networks: tuple[Network, ...]
    table: UInt16[np.ndarray, "r s"]
    shift: Int8[np.ndarray, "r 3"]
    digest: bytes

    def network(self, component: int, phase: int) -> Network:
        """The networks of a component's phase."""
        return self.networks[component * len(PHASES) + phase]


def quiet_rows(group: Group, phase: int) -> UInt16[np.ndarray, " o"]:
    """The rows of coefficients that see nothing but zeros, of each band of a group."""
    level = min(group.level, QUIET_LEVELS) - 1
    bands = (group.component * QUIET_LEVELS + level) * ORIENTATIONS + np.arange(ORIENTATIONS, dtype=np.uint16)
    return QUIET + bands * np.uint16(len(PHASES)) + np.uint16(phase)


def from_arrays(arrays: dict[str, np.ndarray]) -> WaveletModel:
    """A model of named arrays: those of the networks, stacked, `table` and `shift`.

    Raises:
        InputError: arrays that are missing, don't fit together, or that can't be added exactly.
    """
    # What there must be, in this order, with these shapes.
    if set(arrays) != set(_NAMES):
        raise InputError(f"a wavelet model has arrays {sorted(_NAMES)}; got {sorted(arrays)}")
    count = COMPONENTS * len(PHASES)
    if any(len(arrays[name]) != count for name in _OF_NETWORKS) or arrays["first"].shape[1] != INPUTS:
        raise InputError(
            f"a wavelet model has {count} networks of {INPUTS} inputs; got {arrays['first'].shape}"
        )
    table, shift = arrays["table"], arrays["shift"]
    if table.shape != (ALL_ROWS, SYMBOLS) or shift.shape != (ALL_ROWS, SHIFTED):
        raise InputError(f"a wavelet model's tables have {ALL_ROWS} rows; got {table.shape}, {shift.shape}")
    if (table == 0).any() or (table.sum(1, dtype=np.int64) != 1 << 16).any():
        raise InputError("a wavelet model's rows are of frequencies from 1, of sum 65,536")

    # Networks for each component and phase; what names them all.
    networks = tuple(Network(*(arrays[name][number] for name in _OF_NETWORKS)) for number in range(count))
    hashed = hashlib.sha256()
    for name in _NAMES:
        array = np.ascontiguousarray(arrays[name])
        hashed.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    for network in networks:
        network.check(maps.MOST)
    return WaveletModel(networks, table, shift, hashed.digest()[:HASH])


@cache
def default_wavelet_model() -> WaveletModel:
    """The model in the package.

    Raises:
        InputError: its file is damaged.
    """
    try:
        return from_arrays(load(_FILE.read_bytes()))
    except (OSError, SafetensorError) as error:
        raise InputError(f"the package's wavelet model {_FILE} can't be read: {error}") from None
