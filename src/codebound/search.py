"""Nearest codeword: exact, in constant memory, for one codebook or for many at once.

Everything above stands on three functions: `nearest` (indices), `assignment_sums` (what Lloyd, EMA and the
gradient of the codebook loss all need) and `distortion`.

The argument of the maximum of `z·c − |c|²/2` is the nearest codeword. `tiles` finds it in constant memory. Of
vectors of few dimensions that is mostly writing and reading of scores; where Numba is installed, `fused` keeps
them in registers.

Float32 scores lose the answer when distances are small beside the vectors' lengths (latents with mean 1 and
spread 1e-3; two far clusters). So both sides are centred on the mean codeword, and rows whose two best scores
are closer than a bound on their rounding are looked at again in `exact`, where ties are ties.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from codebound.errors import InputError
from codebound.exact import doubt, doubt_terms, settle, wide
from codebound.graphs import has_numbers, is_exported, is_recorded, nearest_in_graph
from codebound.tiles import TILE_SCORES, best_scores, score_buffer

SMALL_SCORES = 2**16  # fewer than these: calls cost more than arithmetic
SUM_NUMBERS = 2**18  # float64 numbers of a part of the sums: 2 MB
FUSED_DIM = 32  # most dimensions for which scores in registers beat a product of matrices
WORTH = 2**29  # scores, over all searches: half a second of them, as long as loading the compiled search
LONG = 2**26  # scores of a search
CALL = 2**17  # scores in the time that any search takes
_searched = 0


def nearest(
    z: Float[Tensor, "*b d"], codebook: Float[Tensor, "*m k d"], *, certify: bool = True
) -> Int64[Tensor, "..."]:  # noqa: UP037
    """Index of the nearest codeword: `argmin_j |z − c_j|²`; the lowest index wins a tie.

    Args:
        z: vectors. With one codebook any leading shape; with `*m` codebooks `[n, d]` (shared by all of them)
            or `[*m, n, d]` (each has its own).
        codebook: `[k, d]`, or `[*m, k, d]` for many codebooks of one size.
        certify: look again, in float64 and more, at rows whose lead may be rounding. Without it, up to a third
            faster where d is small and the compiled search is not installed, and an index may be another whose
            distance agrees to the rounding of scores.

    Returns:
        int64 indices, `[*b]` for one codebook, `[*m, n]` for many.

    Computed in float32 (float64 if either input is float64) whatever autocast or
    `torch.set_float32_matmul_precision` say. A row's index depends on nothing but the row and the codebook: not on the
    batch that it came in, nor on the scale of both. In exported and traced graphs it is `graphs.nearest_in_graph`, with
    plain operations and no second look. A row that is not finite gets an arbitrary valid index; a codeword
    that is not finite is never chosen, unless there is no other.

    Raises:
        InputError: shapes that don't fit together, or an empty codebook.
    """
    _check(z, codebook)
    z, codebook = z.detach(), codebook.detach()
    dtype = torch.float64 if torch.float64 in (z.dtype, codebook.dtype) else torch.float32
    z, codebook = z.to(dtype), codebook.to(dtype)
    runs = codebook.shape[:-2]
    books = codebook.reshape(-1, *codebook.shape[-2:])
    if not runs:
        return _search(z.reshape(-1, z.shape[-1]), books, certify).view(z.shape[:-1])
    if z.ndim == 2:
        return _search(z, books, certify).view(*runs, z.shape[0])
    own = z.reshape(books.shape[0], *z.shape[-2:])  # −1 would be ambiguous for n = 0
    plain = not certify and z.device.type == "cpu" and not is_recorded() and has_numbers(own, books)
    if plain and math.isfinite(float(books.sum())):
        return _nearest_each(own, books).view(*runs, z.shape[-2])
    indices = [_search(own[m], books[m : m + 1], certify) for m in range(books.shape[0])]
    return torch.cat(indices).view(*runs, z.shape[-2])


def is_long(z: Float[Tensor, "*zm n d"], codebook: Float[Tensor, "*m k d"]) -> bool:
    """Whether a search is better certified where nobody needs it: of so many scores it is compiled, where it can be.

    Sizes alone decide, so that numbers are the same with Numba and without.
    """
    return codebook.ndim == 2 and z.shape[-2] * codebook.shape[-2] >= LONG


def assignment_sums(
    z: Float[Tensor, "*zm n d"], indices: Int64[Tensor, "*m n"], codebook_size: int
) -> tuple[Float[Tensor, "*m k"], Float[Tensor, "*m k d"]]:
    """Counts and sums of the vectors of each cell, in float64 (`exact.wide`); indices of −1 are left out.

    Float64 so that sums over ranks or accumulation steps, rounded once by whoever uses them, do not depend on
    how a batch was divided.

    Args:
        z: vectors, `[n, d]` (shared by all runs) or `[*m, n, d]`.
        indices: `[*m, n]`, from −1 to `codebook_size − 1`; not checked, as this runs in compiled graphs.

    Returns:
        counts `[*m, k]` and sums `[*m, k, d]`.
    """
    runs, n, dim = indices.shape[:-1], indices.shape[-1], z.shape[-1]
    if indices.ndim == 1 and _plain(z, indices) and _searched >= WORTH and (fused := _loaded()) is not None:
        found = fused.cell_sums(z.detach().contiguous().numpy(), indices.contiguous().numpy(), codebook_size)
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])
    m = math.prod(runs)
    bins = codebook_size + 1  # the extra bin swallows what is masked: −1 is the last of them
    target = indices.remainder(bins).reshape(m, n)  # −1 would be ambiguous for n = 0
    if m > 1:
        target = target + torch.arange(0, m * bins, bins, device=z.device).unsqueeze(1)
    sums = z.new_zeros(m * bins, dim, dtype=wide(z.device))
    counts = sums.new_zeros(m * bins).index_add_(0, target.reshape(-1), sums.new_ones(m * n))
    # In parts that stay in the cache; a recorded graph takes all at once, as its size may be a symbol.
    part = n if is_recorded() else max(1, SUM_NUMBERS // (m * dim))
    for first in range(0, n, max(part, 1)):
        vectors, cells = z.detach()[..., first : first + part, :], target[:, first : first + part]
        rows = vectors.to(sums.dtype).expand(*runs, *vectors.shape[-2:]).reshape(-1, dim)
        sums.index_add_(0, cells.reshape(-1), rows)
    return counts.view(*runs, bins)[..., :-1], sums.view(*runs, bins, dim)[..., :-1, :]


def distortion(
    z: Float[Tensor, "*zm n d"],
    codebook: Float[Tensor, "*m k d"],
    indices: Int64[Tensor, "*m n"] | None = None,
) -> Float[Tensor, "*m"]:
    """Mean over the vectors of the squared error, summed over dimensions.

    The errors are squared in float32 (float64 if an input is float64) and added up in float64.

    Args:
        z: vectors, `[n, d]` (shared) or `[*m, n, d]`.
        indices: as `nearest` returns; searched for if not given.

    Raises:
        InputError: indices out of range.
    """
    if indices is None:
        indices = nearest(z, codebook)
    elif indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < codebook.shape[-2]:
        raise InputError(
            f"indices must be in 0 … {codebook.shape[-2] - 1}; got {int(indices.min())} … {int(indices.max())}"
        )
    dtype = torch.float64 if torch.float64 in (z.dtype, codebook.dtype) else torch.float32
    z, codebook = z.to(dtype), codebook.to(dtype)
    runs, (k, dim) = codebook.shape[:-2], codebook.shape[-2:]
    flat = indices.reshape(math.prod(runs), indices.shape[-1])
    offset = torch.arange(flat.shape[0], device=z.device).unsqueeze(1) * k
    reproduction = (
        codebook.reshape(-1, dim).index_select(0, (flat + offset).view(-1)).view(*indices.shape, dim)
    )
    return (z - reproduction).square().sum(-1, dtype=wide(z.device)).mean(-1).view(runs)


def _check(z: Tensor, codebook: Tensor) -> None:
    if not isinstance(z, Tensor) or not isinstance(codebook, Tensor):
        raise InputError(
            f"z and codebook must be tensors; got {type(z).__name__} and {type(codebook).__name__}"
        )
    if z.is_complex() or codebook.is_complex():
        raise InputError(f"z and codebook must be real; got {z.dtype} and {codebook.dtype}")
    if codebook.ndim < 2 or 0 in codebook.shape[-2:]:
        raise InputError(
            f"codebook must have shape [*m, k, d] with k ≥ 1 and d ≥ 1; got {list(codebook.shape)}"
        )
    if z.ndim < 1 or z.shape[-1] != codebook.shape[-1]:
        raise InputError(
            f"z must have {codebook.shape[-1]} as its last size, as the codebook has; got z {list(z.shape)}, "
            f"codebook {list(codebook.shape)}"
        )
    if codebook.ndim > 2 and z.ndim != 2 and z.shape[:-2] != codebook.shape[:-2]:
        raise InputError(
            f"with several codebooks z must be [n, d] or share their leading axes; got z {list(z.shape)}, "
            f"codebook {list(codebook.shape)}"
        )


def _search(z: Tensor, books: Tensor, certify: bool) -> Tensor:
    """Indices `[m, n]` of `z [n, d]` in `books [m, k, d]`."""
    if is_exported():
        return nearest_in_graph(z, books)
    if torch.compiler.is_compiling() or not has_numbers(z, books):
        return _nearest_op(z, books, certify)
    return _nearest(z, books, certify)


def _nearest(z: Tensor, books: Tensor, certify: bool) -> Tensor:
    m, k, _ = books.shape
    if z.shape[0] == 0:
        return torch.empty(m, 0, dtype=torch.int64, device=z.device)
    if certify and k > 1 and (fused := _fused(z, k)) is not None:
        found = [part for book in books if (part := _nearest_fused(z, book, fused)) is not None]
        if len(found) == m:
            return torch.stack(found) if m > 1 else found[0].unsqueeze(0)
    centre = books.mean(dim=(0, 1))
    if not math.isfinite(float(centre.sum())):  # the sums of finite ones may overflow, too
        usable = books.isfinite().all(-1)
        if not bool(usable.all()):
            return torch.cat([_among(z, *pair, certify) for pair in zip(books, usable, strict=True)])
        centre = centre.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    if z.dtype == torch.float64:
        z, books = _in_range(z, books)
        centre = books.mean(dim=(0, 1))
    certify = certify and k > 1
    with _full_precision(z.device):
        if m == 1 and z.device.type == "cpu" and z.shape[0] * k <= SMALL_SCORES and z.dtype == torch.float32:
            return _nearest_small(z, books[0], centre, certify)
        indices, margins, lengths = best_scores(z, books, centre, certify)
        if certify:
            _recheck(z, books, centre, indices, margins, lengths)
    return indices


def _fused(z: Tensor, k: int) -> ModuleType | None:
    """The compiled search, where it can take these vectors, is installed, and there was so much to search that it pays.

    Uncertified indices never come from it: they would be others once it is loaded.
    """
    global _searched
    if z.device.type != "cpu" or z.dtype != torch.float32 or not 0 < z.shape[1] <= FUSED_DIM:
        return None
    if _searched < WORTH:
        _searched += z.shape[0] * k + CALL
        return None
    return _loaded()


def _plain(z: Tensor, indices: Tensor) -> bool:
    """Whether these are float32 numbers on the CPU, to be summed up in float64, and nothing is recorded."""
    if is_recorded():  # first: what a graph sees, it would be compiled anew for
        return False
    here = z.device.type == indices.device.type == "cpu" and z.dtype == torch.float32
    return here and wide(z.device) == torch.float64 and has_numbers(z, indices)


@cache
def _loaded() -> ModuleType | None:
    try:
        return import_module("codebound.fused")
    except ImportError:
        return None


def _nearest_fused(z: Tensor, book: Tensor, fused: ModuleType) -> Tensor | None:
    """Indices `[n]`, by scores in registers: same bounds, same recheck. None where a codeword is not finite."""
    codewords = fused.laid_out(book.contiguous().numpy())
    if not codewords.finite:
        return None
    terms = doubt_terms(float(codewords.longest), z.shape[1], z.dtype)
    found, doubtful = fused.best(z.contiguous().numpy(), codewords, *terms)
    indices = torch.from_numpy(found)
    if len(doubtful):
        rows = torch.from_numpy(doubtful)
        indices[rows] = settle(z[rows], book)
    return indices


def _in_range(z: Tensor, books: Tensor) -> tuple[Tensor, Tensor]:
    """Both times one power of two, such that squares of codewords neither overflow nor underflow: for float64, as
    float32 is settled in float64, which holds all its squares."""
    _, exponent = math.frexp(float(books.abs().max()))
    factor = 2.0 ** -max(-1000, min(exponent, 1000))
    return z * factor, books * factor


def _among(z: Tensor, book: Tensor, usable: Tensor, certify: bool) -> Tensor:
    """Indices `[1, n]` of `z` among the usable codewords of one book."""
    at = usable.nonzero().squeeze(1)
    if at.numel() == 0:
        return torch.zeros(1, z.shape[0], dtype=torch.int64, device=z.device)
    return at[_nearest(z, book[at].unsqueeze(0), certify)]


def _nearest_small(z: Tensor, book: Tensor, centre: Tensor, certify: bool) -> Tensor:
    """`_nearest` for one small codebook in one tile, in as few calls as possible: same bounds, same recheck."""
    (n, dim), k = z.shape, book.shape[0]
    zc, cc = z - centre, book - centre
    half = torch.linalg.vecdot(cc, cc).mul_(0.5)
    tile = score_buffer(z.dtype, n * k)[: n * k].view(n, k)
    scores = torch.addmm(half, zc, cc.t(), beta=-1, out=tile).numpy()
    best = scores.argmax(1)
    if certify:
        # One bound for all rows, from the largest number among them: a looser one, in two calls.
        length = float(torch.linalg.vector_norm(zc, math.inf)) * math.sqrt(dim)
        lead = doubt(length, 2 * float(half.max()), dim, z.dtype)
        flat = scores.reshape(-1)
        at = best + np.arange(0, n * k, k)
        score = flat[at]
        flat[at] = -np.inf
        doubtful = ~(score > tile.amax(1).numpy() + lead)
        if doubtful.any():
            best[doubtful] = settle(z[torch.from_numpy(doubtful)], book).numpy()
    return torch.from_numpy(best).unsqueeze(0)


def _nearest_each(z: Tensor, books: Tensor) -> Tensor:
    """Indices `[m, n]` of `z [m, n, d]`, each in its own of `books [m, k, d]`: many small searches as few products."""
    m, n, _ = z.shape
    k = books.shape[1]
    if n == 0:
        return torch.empty(m, 0, dtype=torch.int64)
    if n * k > TILE_SCORES:
        return torch.cat([_nearest(z[i], books[i : i + 1], certify=False) for i in range(m)])
    together = min(m, TILE_SCORES // (n * k))
    buffer = score_buffer(z.dtype, together * n * k)
    indices = np.empty((m, n), dtype=np.int64)
    with _full_precision(z.device):
        centre = books.mean(dim=1, keepdim=True).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        z, books = z - centre, books - centre
        half = torch.linalg.vecdot(books, books).mul_(0.5).unsqueeze(-2)
        for first in range(0, m, together):
            part = slice(first, min(first + together, m))
            scores = buffer[: (part.stop - first) * n * k].view(-1, n, k)
            torch.bmm(z[part], books[part].mT, out=scores)
            np.argmax(scores.sub_(half[part]).numpy(), axis=-1, out=indices[part])
    return torch.from_numpy(indices)


def _recheck(
    z: Tensor, books: Tensor, centre: Tensor, indices: Tensor, margins: Tensor, lengths: Tensor
) -> None:
    """Search again, in place, where the best score leads by less than rounding can amount to."""
    longest = (books - centre).square().sum(-1).amax(dim=1, keepdim=True)
    # Ties, overflow and underflow leave no lead.
    doubtful = ~(margins > doubt(lengths, longest, z.shape[1], z.dtype))
    for book in doubtful.any(dim=1).nonzero().flatten().tolist():
        rows = doubtful[book].nonzero().squeeze(1)
        indices[book, rows] = settle(z[rows], books[book])


def _full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Matrix products in true float32, under any autocast and any global precision flag."""
    # Per backend: torch refuses the process-wide flag where a user has set any of these.
    cuda = device.type == "cuda"
    backend = torch.backends.cuda.matmul if cuda else torch.backends.mkldnn.matmul  # pyright: ignore
    if backend.fp32_precision in ("none", "ieee") and not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return _with_full_precision(backend, device)


@contextmanager
def _with_full_precision(backend: Any, device: torch.device) -> Iterator[None]:
    before = backend.fp32_precision
    backend.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        backend.fp32_precision = before


# NumPy and data-dependent rechecks can't be recorded: to torch.compile, fake tensors and torch.func the search is one
# opaque node.
_nearest_op = torch.library.custom_op(
    "codebound::nearest", _nearest, mutates_args=(), schema="(Tensor z, Tensor books, bool certify) -> Tensor"
)


@_nearest_op.register_vmap
def _(
    info: Any, in_dims: tuple[int | None, ...], z: Tensor, books: Tensor, certify: bool
) -> tuple[Tensor, int]:
    # Vectors beside vectors; each batch of codebooks by itself.
    each = books if in_dims[1] is None else books.movedim(in_dims[1], 0)
    if in_dims[0] is not None:
        z = z.movedim(in_dims[0], 0)
    if in_dims[1] is None:
        found = _nearest_op(z.flatten(0, 1), books, certify)
        return found.view(books.shape[0], *z.shape[:2]), 1
    rows = z if in_dims[0] is not None else z.expand(len(each), *z.shape)
    return torch.stack([_nearest_op(*pair, certify) for pair in zip(rows, each, strict=True)]), 0


@_nearest_op.register_fake
def _(z: Tensor, books: Tensor, certify: bool) -> Tensor:
    return z.new_empty(books.shape[0], z.shape[0], dtype=torch.int64)
