"""Which of several codewords is nearest where floating point can't tell: ties, and leads that are rounding.

A score is `z·c − |c|²/2`. `doubt` bounds how far rounding moves the difference of two scores; `settle` looks again at
the rows whose best score leads by less. Scores in float64 leave few candidates; codewords that coincide count once;
and what is left is compared in about twice the precision of float64, pair by pair. A pair's score depends on nothing
but its vector and its codeword, so neither does the choice: not on the batch, nor on the other codewords.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

TILE_SCORES = 2**18  # float64 scores that exist at a time: 2 MB
WITHOUT_FLOAT64 = {"mps"}  # types of devices
PAIR_NUMBERS = 2**20  # numbers of a part of the pairs: 8 MB


def wide(device: torch.device) -> torch.dtype:
    """What sums are taken in: float64, or float32 where a device has no wider numbers.

    There, how a batch was divided may show in the last bits of what is summed up; nearest codewords are still settled
    in float64, on the CPU.
    """
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


Length = TypeVar("Length", Tensor, float)


def doubt(length: Length, longest: Length, dim: int, dtype: torch.dtype) -> Length:
    """The lead under which rounding in `dtype` may have chosen, from |z| `length` and the largest |c|² `longest`.

    A score is a sum of d + 1 products, so its error is at most (d + 1)·(eps/2)·(|z||c| + |c|²/2) (Higham, "Accuracy and
    Stability of Numerical Algorithms", §3.1); there are two of them, of rounded inputs. Products that underflow are
    wrong by the smallest normal number at most, each.
    """
    slope, offset = doubt_terms(longest, dim, dtype)
    return length * slope + offset


def doubt_terms(longest: Length, dim: int, dtype: torch.dtype) -> tuple[Length, Length]:
    """`doubt` as a slope, by |z|, and what is there for |z| = 0."""
    numbers = torch.finfo(dtype)
    underflow, factor = 2 * numbers.tiny / numbers.eps, (dim + 4) * numbers.eps
    root: Any = longest**0.5
    return root * factor, (0.5 * longest + underflow) * factor


def settle(
    z: Float[Tensor, "n d"], book: Float[Tensor, "k d"], *, distinct: bool = False
) -> Int64[Tensor, " n"]:
    """Index of the nearest codeword of each row, the lowest of those at the same distance; 0 for rows not finite.

    `distinct` says that no two codewords coincide.
    """
    # On the CPU where the device has no float64.
    if wide(z.device) != torch.float64:
        return settle(z.cpu().double(), book.cpu().double(), distinct=distinct).to(z.device)

    # Not centred: products of float32 numbers are exact in float64.
    z, book = z.double(), book.double()
    squares = torch.linalg.vecdot(book, book)
    found = []
    for part in z.split(max(1, TILE_SCORES // book.shape[0])):
        # Every codeword that rounding may have kept from winning is a candidate.
        scores = torch.addmm(squares, part, book.t(), beta=-0.5)
        lead = doubt(torch.linalg.vector_norm(part, dim=-1), squares.max(), z.shape[1], z.dtype)
        close = scores >= (scores.amax(1) - lead).unsqueeze(1)
        contested = (close.sum(1) > 1).nonzero().squeeze(1)

        # Where there is more than one, all is done again without repeats.
        if contested.numel() and not distinct:
            first = first_of_equals(book)
            return first[settle(z, book[first], distinct=True)]

        # If there still is, they are compared.
        row, candidate = close.nonzero(as_tuple=True)
        found.append(row.new_zeros(part.shape[0]).index_copy(0, row, candidate))
        if contested.numel():
            found[-1][contested] = _best(part[contested], book, close[contested])
    return torch.cat(found)


def first_of_equals(book: Float[Tensor, "k d"]) -> Int64[Tensor, " distinct"]:
    """The codewords that equal none of lower index, in order."""
    _, group = torch.unique(book, dim=0, return_inverse=True)
    at = torch.arange(book.shape[0], device=book.device)
    first = at.scatter_reduce(0, group, at, "amin", include_self=False)
    return at[first[group] == at]


def _best(
    z: Float[Tensor, "n d"], book: Float[Tensor, "k d"], close: Bool[Tensor, "n k"]
) -> Int64[Tensor, " n"]:
    """The best of the candidates `close` of each row by their exact scores, the lowest index of equals."""
    row, candidate = close.nonzero(as_tuple=True)
    size = max(1, PAIR_NUMBERS // z.shape[1])
    parts = zip(row.split(size), candidate.split(size), strict=True)
    high, low = map(torch.cat, zip(*(_score(z[r], book[c]) for r, c in parts), strict=True))

    # The leading part of a score decides, then the trailing one, then the index.
    keys = torch.stack([high, low, -candidate.double()])
    for i in range(len(keys)):
        best = keys.new_full((z.shape[0],), -math.inf).scatter_reduce(0, row, keys[i], "amax")
        keep = keys[i] == best[row]
        row, keys = row[keep], keys[:, keep]
    return -keys[-1].long()


def _score(z: Float[Tensor, "n d"], c: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor]:
    """`z·c − |c|²/2` of pairs as an unevaluated sum of a leading and a trailing float64 (Ogita, Rump & Oishi 2005,
    "Accurate sum and dot product", with the sum by halves)."""
    products = [_two_product(z, c), _two_product(c, -0.5 * c)]
    high, low = (torch.cat(part, dim=1) for part in zip(*products, strict=True))
    while high.shape[1] > 1:
        if high.shape[1] % 2:
            high, low = (torch.nn.functional.pad(part, (0, 1)) for part in (high, low))
        (a, b), (a_low, b_low) = high.chunk(2, dim=1), low.chunk(2, dim=1)
        high, error = _two_sum(a, b)
        low = a_low + b_low + error
    return _two_sum(high.squeeze(1), low.squeeze(1))


def _two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """a + b and its rounding error, exactly (Knuth, "The art of computer programming", vol. 2, §4.2.2)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """a·b and its rounding error, exactly (Dekker 1971, "A floating-point technique for extending the available
    precision")."""
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    product = a * b
    return product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


def _halves(a: Tensor) -> tuple[Tensor, Tensor]:
    """A number of 53 bits as the sum of two of 26."""
    scaled = (2.0**27 + 1) * a
    high = scaled - (scaled - a)
    return high, a - high
