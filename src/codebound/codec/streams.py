"""One level of a grid as a stream of bytes: four ways to predict it, the shortest stream kept."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from codebound.coding.container import Mode, Stream, least_bytes
from codebound.coding.errors import WrongModel
from codebound.coding.integers import frequencies
from codebound.coding.range_coder import Coder, Decoder, Encoder, Meter, Rows, Symbols
from codebound.priors import digits
from codebound.priors.experts import Contexts, Counts, Expert, Mixture
from codebound.priors.field import Field
from codebound.priors.grid_prior import GridPrior
from codebound.priors.network import Networks


class Coded(NamedTuple):
    """A stream, and −log2 of the probability that its mode gave the indices, in bits."""

    stream: Stream
    entropy: float


def encode_level(field: Field, level: int, prior: GridPrior | None, modes: tuple[Mode, ...]) -> Coded:
    """The shortest stream of a level among these modes; the lower mode where two are equal."""
    found = []
    for mode in sorted(modes):
        meter, encoder = Meter(), Encoder()
        _pass(_Both(encoder, meter), field, level, mode, prior)
        payload = encoder.payload()
        payload += bytes(max(least_bytes(field.height, field.width) - len(payload), 0))
        found.append(Coded(Stream(mode, payload), meter.bits))
    return min(found, key=lambda coded: len(coded.stream.payload))


def decode_level(stream: Stream, field: Field, level: int, prior: GridPrior | None) -> None:
    """Write a stream's indices to its level of the field; the lower levels are there already.

    Raises:
        DamagedFile: the bytes are no encoder's.
        WrongModel: the stream needs a prior, and there is none.
    """
    _pass(Decoder(stream.payload), field, level, stream.mode, prior)


def _pass(coder: Coder, field: Field, level: int, mode: Mode, prior: GridPrior | None) -> None:
    """All indices of a level through the coder: an encoder's are read, a decoder's are written."""
    size = field.sizes[level]
    if mode is Mode.RAW:
        _code_uniform(coder, field, level)
        return
    mixture = Mixture(_experts(mode, field, level, prior), len(digits.alphabets(size)))
    for at in field.diagonals():
        seen = field.seen(level, at)
        prefix, found = np.zeros(len(at), dtype=np.int64), []
        for place, digit in enumerate(digits.split(field.read(level, at), size)):
            prefix = coder.code(mixture.frequencies(place, seen, prefix), digit)
            mixture.learn(place, prefix)
            found.append(prefix)
        field.write(level, at, digits.join(found, size))


def _experts(mode: Mode, field: Field, level: int, prior: GridPrior | None) -> list[Expert]:
    size = field.sizes[level]
    if mode is Mode.ADAPTIVE:
        return [Counts(size)]
    if mode is Mode.CONTEXT:
        return [Contexts(size, level)]
    if prior is None:
        raise WrongModel("the file needs the prior that it was written with; none was given")
    return [Contexts(size, level), Networks(prior.networks[level])]


def _code_uniform(coder: Coder, field: Field, level: int) -> None:
    """Digit by digit, row by row, every value as likely as another."""
    size, at = field.sizes[level], field.rows()
    found = []
    for digit, alphabet in zip(
        digits.split(field.read(level, at), size), digits.alphabets(size), strict=True
    ):
        found.append(coder.code(frequencies(np.ones((1, alphabet), dtype=np.int64)), digit))
    field.write(level, at, digits.join(found, size))


class _Both:
    """An encoder and a meter as one coder."""

    def __init__(self, *coders: Coder) -> None:
        self._coders = coders

    def code(self, frequencies: Rows, symbols: Symbols) -> Symbols:
        for coder in self._coders:
            symbols = coder.code(frequencies, symbols)
        return symbols
