"""Arrays with names to one `.cbv` file and back: embeddings, latents, the weights of a checkpoint (docs/vectors.md).

Each array is a file of vectors of its own, with its name and shape before it.
"""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from codebound import arguments
from codebound.codec.sources import Data, read_bytes
from codebound.codec.vectors import (
    MOST_VALUES,
    VectorReport,
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
from codebound.quantize.trellis import Trellis, entropy_bits
from codebound.quantize.trellis_search import HALF
from codebound.theory.bounds import shannon_lower_bound
from codebound.theory.entropy import differential_entropy
from codebound.theory.gaussian import gap_db, spectrum, water_filling

VERSION = 1
NAME = 4096  # bytes
SEEN = 1 << 16  # vectors that a code is fitted to
ESTIMATED_DIM, ESTIMATED_ROWS = 16, 4096  # where an entropy is estimated, in a second at most
STATE_BITS = 12  # of a code of fixed rate
TRIED_VALUES = 1 << 17  # on which axes are compared
FEW_STATES = 8
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
            arguments.number("bits", self.bits, above=0, most=16)
        if self.distortion is not None:
            arguments.number("distortion", self.distortion, above=0)
        if self.fixed and self.bits not in (1, 2, 3, 4):
            raise InputError(f"a fixed rate needs bits of 1, 2, 3 or 4; got {self.bits}")
        if self.snr is not None:
            arguments.number("snr", self.snr, above=0, most=96)


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
            quantizer = fitted(vectors, aim, array.shape[axis] if array.ndim else 1)
            data = compress_vectors(vectors, quantizer, progress=progress)
        except InputError as error:
            raise CodecError(f"{name}: {error}" if name else str(error)) from None
        text = name.encode()
        if len(text) > NAME or name in (report.name for report in reports):
            raise CodecError(f"{name!r}: names must differ and have at most {NAME} bytes")
        place = axis % max(array.ndim, 1)
        numbers = [len(text), array.ndim, place, *array.shape, len(data)]
        heads.append((text, numbers, data))
        reports.append(_reported(name, array, vectors, quantizer, data))
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

    # Sparse components of few bits are the better on a short path, as it may rest at zero.
    if aim.states > FEW_STATES and float(best.code.rates.sum()) < dim:
        other = Trellis(dim, distortion, rate, FEW_STATES, transform=best.transform).eval()
        other.init_(some)
        best = other if _cost(other, some, count) < min(costs) else best
    return best


def _cost(quantizer: Trellis, some: Float[Tensor, "n D"], count: int) -> float:
    """dB of squared error, and of bits what they are worth: 6.02 dB for each bit a value.

    Principal axes are the best for Gaussian vectors, and take bits themselves. Independent components that are not
    Gaussian, and of equal variances, are better coded as they are: their principal axes are of chance.
    """
    dim = some.shape[1]
    tried = some[some.isfinite().all(1)][: max(1, TRIED_VALUES // dim)]
    indices = quantizer.encode(tried)
    error = float((quantizer.decode(indices) - tried).double().square().sum(1).mean())
    bits = entropy_bits(indices - HALF) + (16 * dim**2 / count if quantizer.transform else 0)
    return 10 * math.log10(max(error, sys.float_info.min)) + 20 * math.log10(2) * bits / dim


def _fixed(some: Float[Tensor, "n D"], bits: int) -> BitTrellis:
    """The code of so many bits a component; mixed first if that can be and measures better."""
    dim = some.shape[1]
    found = [BitTrellis(dim, bits, STATE_BITS).eval()]
    if len(some) and dim & (dim - 1) == 0:
        found.append(BitTrellis(dim, bits, STATE_BITS, rotation="hadamard").eval())
    errors = []
    for quantizer in found if len(some) else ():
        quantizer.init_(some)
        tried = some[:: max(1, len(some) // TRIED)]
        errors.append(float((quantizer(tried).z_q - tried).square().sum()))
    return found[errors.index(min(errors))] if errors else found[0]


def _as_vectors(array: Tensor, axis: int, whole: bool) -> Float[Tensor, "n D"]:
    """Rows of vectors along the axis, or of single values where there are few vectors and they need not be whole."""
    if not array.is_floating_point():
        raise CodecError(
            f"an array of {array.dtype} can't be compressed; floating-point numbers are accepted"
        )
    if array.ndim and not -array.ndim <= axis < array.ndim:
        raise CodecError(f"axis={axis} is none of an array of shape {list(array.shape)}")
    moved = array.movedim(axis, -1) if array.ndim else array.view(1)
    dim = moved.shape[-1] if moved.ndim > 1 else 1
    return moved.reshape(-1, dim if whole or moved.numel() >= LONG * dim * dim else 1)


def _reported(
    name: str, array: Tensor, vectors: Tensor, quantizer: Trellis | BitTrellis, data: bytes
) -> ArrayReport:
    """What is left of an array, measured on the file."""
    again, count = decompress_vectors(data, max_values=max(vectors.numel(), 1)), max(len(vectors), 1)
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
