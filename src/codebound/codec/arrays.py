"""Arrays with names to one `.cbv` file and back: embeddings, latents, the weights of a checkpoint (docs/vectors.md).

Each array is a file of vectors of its own, with its name and shape before it.
"""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from codebound import arguments
from codebound.codec.sources import Data, read_bytes
from codebound.codec.vector_means import large_means
from codebound.codec.vectors import (
    MOST_VALUES,
    VectorReport,
    check_finite,
    compress_vectors,
    decompress_vectors,
    inspect_vectors,
)
from codebound.coding import varint
from codebound.coding.container import ARRAYS as SIGNATURE
from codebound.coding.container import VECTORS
from codebound.coding.errors import CodecError, DamagedFile, UnsupportedFile
from codebound.errors import InputError
from codebound.quantize.bit_trellis import BitTrellis
from codebound.quantize.trellis import Trellis
from codebound.quantize.trellis_aim import entropy_bits
from codebound.quantize.trellis_code import spread
from codebound.quantize.trellis_search import HALF
from codebound.theory.bounds import shannon_lower_bound
from codebound.theory.entropy import differential_entropy
from codebound.theory.gaussian import gap_db, spectrum, water_filling

VERSION = 1
NAME = 4096  # bytes
SEEN = 1 << 16  # vectors that a code is fitted to
ESTIMATED_DIM, ESTIMATED_ROWS = 16, 4096  # where an entropy is estimated, in a second at most
# State bits of a code of fixed rate: for bits of a component, the least dim from which so many are best on N(0, I)
# (`benchmarks/trellis.py short`). A register that closes around a vector costs it its state bits; with fewer components
# than the first a scalar quantizer is better.
STATE_BITS = {
    1: {8: 2, 16: 3, 24: 4, 32: 6, 64: 9, 96: 12},
    2: {8: 4, 16: 6, 32: 8, 64: 12},
    3: {12: 6, 24: 9, 32: 12},
    4: {12: 8, 16: 12},
}
MODERATE = 1e9  # magnitudes up to it and down to its inverse are left as they are
MOST_BITS, MOST_SNR = (
    15,
    90,
)  # asked for: a code of 16 bits at most serves them for components of equal variance
TRIED_VALUES = 1 << 17  # on which axes are compared
FEW_STATES = 8
ALL_SCALARS = (1.0,)
TRIED = 256  # vectors on which its choices are compared
LONG = 16  # vectors for each of their components: with fewer the axes would be too much of a file


@dataclass(frozen=True)
class Aim:
    """What is asked for: bits per value, squared error per vector, or the ratio of variance to error in dB."""

    bits: float | None = None
    distortion: float | None = None
    snr: float | None = None
    states: int = 8
    fixed: bool = False  # bits of every value alike, each vector decodable by itself

    def __post_init__(self) -> None:
        given = [name for name in ("bits", "distortion", "snr") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InputError(
                f"one of bits, distortion and snr must be given; got {', '.join(given) or 'none'}"
            )
        if self.bits is not None:
            arguments.number("bits", self.bits, above=0, most=MOST_BITS)
        if self.distortion is not None:
            arguments.number("distortion", self.distortion, above=0)
        if self.fixed and self.bits not in (1, 2, 3, 4):
            raise InputError(f"a fixed rate needs bits of 1, 2, 3 or 4; got {self.bits}")
        if self.snr is not None:
            arguments.number("snr", self.snr, above=0, most=MOST_SNR)


class ArrayReport(NamedTuple):
    """What became of one array."""

    name: str
    shape: tuple[int, ...]
    dim: int  # of the vectors that it was coded as
    bytes: int
    bits_per_value: float
    snr: float  # dB; inf where nothing is lost
    above_gaussian: (
        float  # dB above the bound for Gaussian vectors of this covariance: real data may be below
    )
    above_shannon: float | None  # dB above Shannon's lower bound, estimated; None where it can't be


def compress_arrays(
    arrays: Iterable[tuple[str, Float[Tensor, ...]]],
    aim: Aim,
    *,
    axis: int = -1,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[bytes, list[ArrayReport]]:
    """A file of arrays, and what became of each. It is decoded once, to measure what it lost.

    An array is vectors along `axis` on their principal axes, or where it has few of them, values by themselves.

    Raises:
        CodecError: no array, two of one name, or one that can't be compressed; it is named.
        InputError: an aim that no code reaches.
    """
    heads, reports = [], []
    for name, array in arrays:
        try:
            vectors = _as_vectors(array, axis, aim.fixed)
            check_finite(vectors)
            power = _power(vectors)
            vectors = _divided(vectors, power)
            centre = large_means(vectors)
            centred = vectors if centre is None else vectors - centre
            quantizer = fitted(centred, _aim_divided(aim, power), array.shape[axis] if array.ndim else 1)
            data = compress_vectors(centred, quantizer, power=power, centre=centre, progress=progress)
            report = _reported(name, array, vectors, quantizer, data, power)
        except InputError as error:
            raise CodecError(f"{name}: {error}" if name else str(error)) from None
        text = name.encode()
        if len(text) > NAME or name in (report.name for report in reports):
            raise CodecError(f"{name!r}: names must differ and have at most {NAME} bytes")
        place = axis % max(array.ndim, 1)
        numbers = [len(text), array.ndim, place, *array.shape, len(data)]
        heads.append((text, numbers, data))
        reports.append(report)
    if not reports:
        raise CodecError("arrays must be one or more; got none")

    # Names and sizes have a checksum of their own, the files theirs.
    out = SIGNATURE + bytes([VERSION]) + varint.write(len(heads))
    for text, numbers, _ in heads:
        out += b"".join(map(varint.write, numbers)) + text
    out += zlib.crc32(out).to_bytes(4, "little")
    return out + b"".join(data for _, _, data in heads), reports


def decompress_arrays(data: Data, *, max_values: int = MOST_VALUES) -> dict[str, Tensor]:
    """The arrays of a file by their names, of the shapes and types that they had.

    Raises:
        CodecError: as `decompress_vectors`.
    """
    found = {}
    for name, (shape, place, file) in opened(read_bytes(data)).items():
        vectors = decompress_vectors(file, max_values=max_values)
        if vectors.numel() != math.prod(shape):
            raise DamagedFile(
                f"the file's array {name!r} has {vectors.numel()} values; its shape is {list(shape)}"
            )
        moved = [size for at, size in enumerate(shape) if at != place] + [shape[place]] if shape else []
        array = vectors.reshape(moved)
        found[name] = array.movedim(-1, place) if shape else array
    return found


def opened(raw: bytes) -> dict[str, tuple[tuple[int, ...], int, bytes]]:
    """Shape, vector axis and file of vectors of each array.

    Raises:
        DamagedFile: not such a file, cut off or changed.
        UnsupportedFile: of another version.
    """
    if raw.startswith(VECTORS):  # vectors by themselves, as `compress_vectors` gives them
        shape = inspect_vectors(raw).shape
        return {"": (shape, len(shape) - 1, raw)}
    reader = varint.Reader(raw)
    start = reader.take(min(len(SIGNATURE), len(raw)), "signature")
    if start != SIGNATURE:
        raise DamagedFile("not a .cbv file: " + (f"it starts with {start!r}" if start else "it is empty"))
    (version,) = reader.take(1, "header")
    if version != VERSION:
        raise UnsupportedFile(f"the file has format version {version}; this package reads version {VERSION}")
    heads = []
    for _ in range(reader.number("number of arrays", 1, max(len(raw), 1))):
        length = reader.number("length of a name", 0, NAME)
        ndim = reader.number("number of axes", 0, 16)
        place = reader.number("vector's axis", 0, max(ndim - 1, 0))
        shape = tuple(reader.number("size", 0, 1 << 34) for _ in range(ndim))
        size = reader.number("length", 0, (1 << 35) - 1)
        heads.append((reader.take(length, "name").decode(errors="replace"), shape, place, size))
    if int.from_bytes(reader.take(4, "checksum"), "little") != zlib.crc32(raw[: reader.at - 4]):
        raise DamagedFile("the file is damaged: the checksum of its names is wrong")
    found = {name: (shape, place, reader.take(size, "array")) for name, shape, place, size in heads}
    if reader.at != len(raw):
        raise DamagedFile(f"the file goes on for {len(raw) - reader.at} bytes after its end")
    return found


def verify_arrays(data: Data, *, max_values: int = MOST_VALUES) -> int:
    """Decode all of a file; how many values it holds.

    Raises:
        CodecError: as `decompress_arrays`.
    """
    return sum(array.numel() for array in decompress_arrays(data, max_values=max_values).values())


def inspect_arrays(data: Data) -> Mapping[str, tuple[tuple[int, ...], VectorReport]]:
    """Shape and `inspect_vectors`' report of each array; nothing is decoded."""
    return {
        name: (shape, inspect_vectors(file)) for name, (shape, _, file) in opened(read_bytes(data)).items()
    }


def fitted(vectors: Float[Tensor, "n D"], aim: Aim, whole: int) -> Trellis | BitTrellis:
    """The code for some of the vectors, spread evenly over all; `whole` components make one of the user's vectors.

    On principal axes, or the components as they are, and below a bit a value with fewer states, too: what measures
    better.
    """
    count, dim = vectors.shape
    some = vectors[:: max(1, count // SEEN)].float()
    if aim.fixed:
        return _fixed(some, int(aim.bits or 0))
    rate, distortion = None, 1.0
    if aim.bits is not None:
        rate, distortion = aim.bits * dim, None
    elif aim.distortion is not None:
        distortion = aim.distortion * dim / whole
    elif aim.snr is not None:
        spread = float(some.double().var(0, correction=0).sum()) if count else 0.0
        distortion = spread * 10 ** (-aim.snr / 10) if spread > 0 else 1.0
    # One value alone has no spread: then any code will do, as the mean is all.
    found = [Trellis(dim, distortion, rate, aim.states, transform=None).eval()]
    if dim > 1:
        found.append(Trellis(dim, distortion, rate, aim.states).eval())
    costs = []
    for quantizer in found if count else ():
        quantizer.init_(some)
        costs.append(_cost(quantizer, some, count))
    if not costs:
        return found[-1]
    best = found[costs.index(min(costs))]

    # Sparse components of few bits are the better on a short path, as it may rest at zero, or on none: as scalars.
    if float(best.code.rates.sum()) < dim:
        for states, parts in ((FEW_STATES, best._parts), (FEW_STATES, ALL_SCALARS)):
            if (states, parts) == (best.states, best._parts):
                continue
            other = Trellis(dim, distortion, rate, states, transform=best.transform).eval()
            other._parts = parts
            other.init_(some)
            costs.append(_cost(other, some, count))
            best = other if costs[-1] == min(costs) else best
    return best


def _cost(quantizer: Trellis, some: Float[Tensor, "n D"], count: int) -> float:
    """dB of squared error, and of bits what they are worth: 6.02 dB for each bit a value.

    Principal axes are the best for Gaussian vectors, and take bits themselves. Independent components that are not
    Gaussian, and of equal variances, are better coded as they are: their principal axes are of chance.
    """
    dim = some.shape[1]
    tried = spread(some[some.isfinite().all(1)], max(1, TRIED_VALUES // dim))
    indices = quantizer.encode(tried)
    error = float((quantizer.decode(indices) - tried).double().square().sum(1).mean())
    bits = entropy_bits(indices - HALF) + (16 * dim**2 / count if quantizer.transform else 0)
    return 10 * math.log10(max(error, sys.float_info.min)) + 20 * math.log10(2) * bits / dim


def _fixed(some: Float[Tensor, "n D"], bits: int) -> BitTrellis:
    """The code of so many bits a component; mixed first if that can be and measures better."""
    dim, choices = some.shape[1], STATE_BITS[bits]
    if not len(some):
        raise InputError("there are no vectors; a fixed rate needs 1 vector at least")
    if dim < min(choices):
        raise InputError(
            f"vectors have {dim} components; a fixed rate of {bits} bits needs {min(choices)} at least, as with fewer "
            "a scalar quantizer is better (without a fixed rate any number is accepted)"
        )
    state_bits = choices[max(least for least in choices if least <= dim)]
    found = [BitTrellis(dim, bits, state_bits).eval()]
    if dim & (dim - 1) == 0:
        found.append(BitTrellis(dim, bits, state_bits, rotation="hadamard").eval())
    errors = []
    for quantizer in found:
        quantizer.init_(some)
        tried = some[:: max(1, len(some) // TRIED)]
        errors.append(float((quantizer(tried).z_q - tried).square().sum()))
    return found[errors.index(min(errors))]


def _as_vectors(array: Tensor, axis: int, whole: bool) -> Float[Tensor, "n D"]:
    """Rows of vectors along the axis, or of single values where there are few vectors and they need not be whole."""
    if not array.is_floating_point():
        raise CodecError(
            f"an array of {array.dtype} can't be compressed; floating-point numbers are accepted"
        )
    if array.ndim and not -array.ndim <= axis < array.ndim:
        raise CodecError(f"axis={axis} is none of an array of shape {list(array.shape)}")
    if array.ndim and array.shape[axis] == 0:
        raise CodecError(
            f"an array of shape {list(array.shape)} has vectors of no component; at least 1 is accepted"
        )
    moved = array.movedim(axis, -1) if array.ndim else array.view(1)
    dim = moved.shape[-1] if moved.ndim > 1 else 1
    return moved.reshape(-1, dim if whole or moved.numel() >= LONG * dim * dim else 1)


def _power(vectors: Float[Tensor, "n D"]) -> int:
    """The power of 2 that brings the largest magnitude to 1 where float32 could not hold its square; 0 elsewhere."""
    largest = max((float(part.abs().max()) for part in vectors.split(SEEN) if part.numel()), default=0.0)
    return 0 if largest == 0 or 1 / MODERATE <= largest <= MODERATE else math.frexp(largest)[1]


def _divided(vectors: Float[Tensor, "n D"], power: int) -> Float[Tensor, "n D"]:
    """vectors / 2^power, in two steps as 2^power itself may be beyond float64."""
    if power == 0:
        return vectors
    half = power // 2
    return (vectors.double() * 2.0**-half * 2.0 ** (half - power)).to(vectors.dtype)


def _aim_divided(aim: Aim, power: int) -> Aim:
    """The same aim for vectors divided by 2^power."""
    if aim.distortion is None or power == 0:
        return aim
    # What is far above the variance of what has magnitude 1 asks for nothing more.
    return replace(aim, distortion=2.0 ** min(math.log2(aim.distortion) - 2 * power, 100.0))


def _reported(
    name: str, array: Tensor, vectors: Tensor, quantizer: Trellis | BitTrellis, data: bytes, power: int
) -> ArrayReport:
    """What is left of an array, measured on the file."""
    again, count = decompress_vectors(data, max_values=max(vectors.numel(), 1)), max(len(vectors), 1)
    again = _divided(again, power)
    lost = variance = 0.0
    mean = vectors.double().mean(0) if len(vectors) else 0.0
    for one, other in zip(vectors.split(SEEN), again.split(SEEN), strict=True):
        lost += float((one.double() - other.double()).square().sum())
        variance += float((one.double() - mean).square().sum())
    bits = 8 * len(data) / count
    if isinstance(quantizer, Trellis):
        variances = quantizer.variances.double().numpy()
    else:
        some = vectors[:: max(1, len(vectors) // SEEN)].double()
        variances = spectrum(torch.cov(some.t(), correction=0).reshape(vectors.shape[1], -1).numpy())
    bound = water_filling(variances, bits).distortion
    return ArrayReport(
        name=name,
        shape=tuple(array.shape),
        dim=vectors.shape[1],
        bytes=len(data),
        bits_per_value=8 * len(data) / max(array.numel(), 1),
        snr=10 * math.log10(variance / lost) if lost > 0 and variance > 0 else math.inf,
        above_gaussian=gap_db(lost / count, bound) if lost > 0 and bound > 0 else 0.0,
        above_shannon=_above_shannon(vectors, lost / count, bits),
    )


def _above_shannon(vectors: Tensor, error: float, bits: float) -> float | None:
    """dB above Shannon's lower bound by an estimate of the entropy, of so few dimensions that it means something.

    None also for numbers that repeat (of few bits, say) or lie in a plane: they have no density.
    """
    count, dim = vectors.shape
    if dim > ESTIMATED_DIM or count < ESTIMATED_ROWS or error <= 0:
        return None
    some = vectors[:: max(1, count // ESTIMATED_ROWS)].double().cpu().numpy()
    try:
        entropy = differential_entropy(some, max_samples=ESTIMATED_ROWS)
    except InputError:
        return None
    return gap_db(error, shannon_lower_bound(entropy.bits, dim, bits))
