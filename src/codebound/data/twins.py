"""Copies of a picture under another name: what a training is judged by must not be among what it saw."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Bool, Int64

from codebound.data.picture_files import PictureFiles


def divided_order(
    files: PictureFiles, order: Int64[np.ndarray, " n"], held: int
) -> tuple[Int64[np.ndarray, " t"], Int64[np.ndarray, " h"]]:
    """Numbers to train on and numbers held out: of an order the first ones, and every copy of them."""
    out, rest = order[:held], order[held:]
    copied = copies(files.select(rest), files.select(out))
    return rest[~copied], np.concatenate([out, rest[copied]])


def copies(files: PictureFiles, others: PictureFiles) -> Bool[np.ndarray, " n"]:
    """Which pictures have the content, byte for byte, of one of the others.

    Only files of equal length are read, so a large folder takes little longer than its listing. What can't be read is
    no copy.
    """
    # Lengths first: they are cheap, and few pictures share one.
    sizes, other_sizes = files.sizes(), others.sizes()
    shared = np.intersect1d(sizes, other_sizes)
    shared = shared[shared > 0]

    # Then the content of those that are as long as one of the others.
    known = {_hash(others, number) for number in np.flatnonzero(np.isin(other_sizes, shared)).tolist()}
    found = np.zeros(len(files), dtype=bool)
    for number in np.flatnonzero(np.isin(sizes, shared)).tolist():
        found[number] = _hash(files, number) in known
    return found


def _hash(files: PictureFiles, number: int) -> bytes:
    return hashlib.sha256(files.content(number)).digest()
