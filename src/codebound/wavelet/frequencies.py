"""The rows of probabilities while a picture is coded: the model's, and more and more what the picture has shown."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from codebound.coding.integers import frequencies
from codebound.wavelet.model import SYMBOLS, WaveletModel

COUNT = 2048  # what one coefficient weighs beside a row of the model, which weighs 2^16
MOST = 1 << 24  # counts of a row: beyond it they are halved


class Frequencies:
    """Both sides hold one, and tell it of every strip after it was coded."""

    def __init__(self, model: WaveletModel) -> None:
        self._model = model.table.astype(np.float64)
        self._counts = np.zeros(model.table.shape, dtype=np.int64)
        self.rows: Float64[np.ndarray, "r s"] = frequencies(self._model)

    def learn(self, rows: Int64[np.ndarray, " n"], symbols: Int64[np.ndarray, " n"]) -> None:
        """These symbols were coded under these rows."""
        # Counted all at once; rows that were not used stay as they are.
        found = np.bincount(rows * SYMBOLS + symbols, minlength=self._counts.size)
        found = found.reshape(self._counts.shape)
        used = np.flatnonzero(found.any(1))
        self._counts += found

        # Old counts give way where there are too many to be added exactly.
        while (full := used[self._counts[used].sum(1) > MOST]).size:
            self._counts[full] >>= 1
        self.rows[used] = frequencies(self._model[used] + COUNT * self._counts[used])
