"""The levels of a grid as one stream of bytes: four ways to predict a level, the cheapest kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from codebound.coding.container import Mode, least_bytes
from codebound.coding.errors import WrongModel
from codebound.coding.integers import Rows, frequencies
from codebound.coding.range_coder import Coder, Decoder, Encoder, Meter, Symbols
from codebound.priors import digits
from codebound.priors.experts import Contexts, Counts, Expert, Mixture, Panel
from codebound.priors.field import Field
from codebound.priors.grid_prior import GridPrior
from codebound.priors.network import Networks

# Opinions that a mode hears: counts; also contexts (`experts.Contexts`); also the network.
_HEARD = {Mode.ADAPTIVE: 1, Mode.CONTEXT: 4, Mode.NETWORK: 5}


class CodedStream(NamedTuple):
    """A grid's indices as bytes, and how each level was coded.

    Attributes:
        stream: the bytes.
        modes: how each level is predicted.
        bits: −log2 of the probability that this gave a level's indices: what the level costs.
    """

    stream: bytes
    modes: tuple[Mode, ...]
    bits: tuple[float, ...]


# A diagonal's products are too small for threads: two of them take three times as long where cores are busy.
@threadpool_limits.wrap(limits=1, user_api="blas")
def encode_levels(field: Field, prior: GridPrior | None, modes: Sequence[Mode]) -> CodedStream:
    """All levels, each in the mode among these that takes fewest bits; the lower one where two are equal."""
    # Level by level: code it in all modes at once, each on a copy of the encoder, and go on with the cheapest.
    encoder, chosen, bits = Encoder(), [], []
    for level in range(len(field.sizes)):
        attempts = {mode: _EncoderAndMeter(encoder.clone()) for mode in sorted(modes)}
        _pass(attempts, field, level, prior)
        mode = min(attempts, key=lambda mode: attempts[mode].meter.bits)
        encoder = attempts[mode].encoder
        chosen.append(mode)
        bits.append(attempts[mode].meter.bits)

    # A decoder refuses streams too short for their grid: fill up with the zeros that it reads past the end anyway.
    stream = encoder.payload()
    stream += bytes(max(least_bytes(field.height, field.width, len(field.sizes)) - len(stream), 0))
    return CodedStream(stream, tuple(chosen), tuple(bits))


@threadpool_limits.wrap(limits=1, user_api="blas")
def decode_levels(stream: bytes, modes: Sequence[Mode], field: Field, prior: GridPrior | None) -> None:
    """Write a stream's indices to the field.

    Raises:
        DamagedFile: the bytes are no encoder's.
        WrongModel: a level needs a prior, and there is none.
    """
    decoder = Decoder(stream, least_bytes(field.height, field.width, len(field.sizes)))
    for level, mode in enumerate(modes):
        _pass({mode: decoder}, field, level, prior)
    decoder.check_end()


def level_bits(field: Field, level: int, mode: Mode, prior: GridPrior | None) -> float:
    """−log2 of the probability that a mode gives the indices of a level, in bits."""
    meter = Meter()
    _pass({mode: meter}, field, level, prior)
    return meter.bits


def _pass(coders: Mapping[Mode, Coder], field: Field, level: int, prior: GridPrior | None) -> None:
    """All indices of a level in each mode through its coder: encoders' are read, a decoder's, who is alone then, are
    written."""
    # The raw mode predicts nothing.
    size = field.sizes[level]
    if Mode.RAW in coders:
        _code_uniform(coders[Mode.RAW], field, level)

    # The others hear more or fewer of the same experts.
    predicted = [mode for mode in coders if mode is not Mode.RAW]
    if not predicted:
        return
    panel, places = Panel(_experts(max(predicted), field, level, prior)), len(digits.alphabets(size))
    heard = [(coders[mode], Mixture(places, _HEARD[mode])) for mode in predicted]

    # Diagonal by diagonal: all its positions are predicted from indices that both sides know by then.
    for at in field.diagonals():
        neighbours = field.seen(level, at)
        prefix, coded_digits = np.zeros(len(at), dtype=np.int64), []

        # Digit by digit: the second one is predicted knowing the first; all learn each right after it.
        for place, digit in enumerate(digits.split(field.read(level, at), size)):
            rows = panel.rows(place, neighbours, prefix)
            for coder, mixture in heard:
                prefix = coder.code(mixture.frequencies(place, rows), digit)
                mixture.learn(place, prefix)
            panel.learn(place, prefix)
            coded_digits.append(prefix)
        field.write(level, at, digits.join(coded_digits, size))


def _experts(mode: Mode, field: Field, level: int, prior: GridPrior | None) -> list[Expert]:
    """Who predicts the indices of a level in a mode; `WrongModel` where that needs a prior and there is none."""
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
    coded_digits = []
    for digit, alphabet in zip(
        digits.split(field.read(level, at), size), digits.alphabets(size), strict=True
    ):
        coded_digits.append(coder.code(frequencies(np.ones((1, alphabet), dtype=np.int64)), digit))
    field.write(level, at, digits.join(coded_digits, size))


class _EncoderAndMeter:
    """An encoder and a meter as one coder."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.meter = encoder, Meter()

    def code(self, frequencies: Rows, symbols: Symbols, rows: Symbols | None = None) -> Symbols:
        self.meter.code(frequencies, symbols, rows)
        return self.encoder.code(frequencies, symbols, rows)
