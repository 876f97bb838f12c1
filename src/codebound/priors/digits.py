"""An index as one digit, or as two where the codebook is too large for one distribution."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from codebound.coding.errors import DamagedFile
from codebound.coding.integers import ALPHABET


def alphabets(codebook_size: int) -> tuple[int, ...]:
    """How many values each digit has: (K,) up to 512; else (⌈K / 2^b⌉, 2^b) with b = ⌈⌈log2 K⌉ / 2⌉."""
    if codebook_size <= ALPHABET:
        return (codebook_size,)
    low = 1 << -(-(codebook_size - 1).bit_length() // 2)
    return (-(-codebook_size // low), low)


def split(indices: Int64[np.ndarray, "*b"], codebook_size: int) -> list[Int64[np.ndarray, "*b"]]:
    """The digits, the high one first."""
    sizes = alphabets(codebook_size)
    return [indices] if len(sizes) == 1 else [indices // sizes[1], indices % sizes[1]]


def join(digits: list[Int64[np.ndarray, "*b"]], codebook_size: int) -> Int64[np.ndarray, "*b"]:
    """The indices of these digits.

    Raises:
        DamagedFile: digits of no index below the codebook size, which an encoder never writes.
    """
    if len(digits) == 1:
        return digits[0]
    indices = digits[0] * alphabets(codebook_size)[1] + digits[1]
    if indices.max(initial=0) >= codebook_size:
        raise DamagedFile(f"the stream holds index {indices.max()}; the codebook has {codebook_size}")
    return indices
