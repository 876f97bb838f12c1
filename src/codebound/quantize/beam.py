"""Beam search over sums of codewords, one from each stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from codebound import search
from codebound.exact import first_of_equals, wide
from codebound.graphs import is_exported
from codebound.quantize.vector import VectorQuantizer

CHUNK = 2**20  # numbers that exist at a time: 4 MB


@torch.no_grad()
def beam_search(
    stages: Sequence[VectorQuantizer],
    z: Float[Tensor, "n D"],
    width: int,
    depths: Int64[Tensor, " n"] | None = None,
) -> Int64[Tensor, "n Q"]:
    """Indices of Σ_q c_q near z, the best of `width` partial sums kept at every stage (Babenko & Lempitsky 2014,
    "Additive quantization", §3.2).

    The greedy sum always keeps its place in the beam, so the result is never worse. Where `depths` is less than Q
    the best sum of so many stages is returned, with −1 after it; a row that is not finite gets −1.
    """
    finite = z.isfinite().all(-1)
    clean = torch.where(finite.unsqueeze(-1), z, 0.0)
    depths = torch.full_like(finite, len(stages), dtype=torch.int64) if depths is None else depths
    books = [stage.codebook.codewords().detach().to(z.dtype) for stage in stages]
    # A graph that leaves holds no operator of ours: plain operations, all rows at once, with the repeats.
    paths = (_search if is_exported() else _beam_op)(books, clean, width, depths)
    return torch.where(finite.unsqueeze(-1), paths, -1)


def _chunked(books: list[Tensor], z: Tensor, width: int, depths: Tensor) -> Tensor:
    """`_search` on so many rows at a time that memory stays bounded, among codewords that differ."""
    # Of codewords that coincide the first stands for all: the others would take places in the beam.
    firsts = [first_of_equals(book) for book in books]
    books = [book[first] for book, first in zip(books, firsts, strict=True)]

    # As indices of all codewords again, −1 where a row's depth ends.
    largest = max(max(book.shape[0] for book in books), width * z.shape[1])
    size = max(1, CHUNK // (width * largest))
    parts = zip(z.split(size), depths.split(size), strict=True)
    paths = torch.cat([_search(books, rows, width, depth) for rows, depth in parts])
    columns = zip(paths.unbind(1), firsts, strict=True)
    return torch.stack([torch.where(path < 0, -1, first[path]) for path, first in columns], dim=1)


# An operator to the compiler: a traced loop over chunks would hold for one number of tokens.
_beam_op = torch.library.custom_op(
    "codebound::beam_search",
    _chunked,
    mutates_args=(),
    schema="(Tensor[] books, Tensor z, int width, Tensor depths) -> Tensor",
)


@_beam_op.register_vmap
def _(info: Any, in_dims: tuple[Any, ...], books: list[Tensor], z: Tensor, width: int, depths: Tensor):
    # One batch after the other: a beam is many products already.
    dims = [*in_dims[0], in_dims[1], in_dims[3]]
    tensors = [*books, z, depths]
    each = [
        [t if at is None else t.select(at, i) for t, at in zip(tensors, dims, strict=True)]
        for i in range(info.batch_size)
    ]
    return torch.stack([_beam_op(own[:-2], own[-2], width, own[-1]) for own in each]), 0


@_beam_op.register_fake
def _(books: list[Tensor], z: Tensor, width: int, depths: Tensor) -> Tensor:
    return depths.new_empty(z.shape[0], len(books))


def _search(books: Sequence[Tensor], z: Tensor, width: int, depths: Tensor) -> Tensor:
    """`beam_search` of rows that are all finite and fit in memory at once."""
    # Each row begins with one partial sum, the empty one: what is left of it, and its indices so far.
    n, dim = z.shape
    left = z.unsqueeze(1)  # [n, beam, D]
    paths = best = depths  # there is one stage at least
    for q, codewords in enumerate(books):
        # Every partial sum of the beam is continued by its few nearest codewords.
        few = min(width, codewords.shape[0])
        candidates = _nearest_few(left.reshape(-1, dim), codewords, few).view(n, left.shape[1], few)
        # The first place is the greedy sum's; it goes on with the exact search's codeword, and always stays.
        candidates[:, 0, 0] = search.nearest(left[:, 0], codewords)

        # The best of all continuations stay.
        rest = (left.unsqueeze(2) - codewords[candidates]).flatten(1, 2)
        error = rest.square().sum(-1)
        ranked = error.clone()
        ranked[:, 0] = -1.0  # the greedy sum
        places = ranked.topk(min(width, ranked.shape[1]), largest=False).indices
        grown = candidates.flatten(1).unsqueeze(-1)
        if q > 0:
            grown = torch.cat([paths.repeat_interleave(few, 1), grown], dim=-1)
        left, paths, error = _take(rest, places), _take(grown, places), error.gather(1, places)

        # Rows whose depth reaches here take the best sum of this stage.
        winner = _take(paths, error.argmin(1, keepdim=True)).squeeze(1)
        so_far = torch.nn.functional.pad(winner, (0, len(books) - q - 1), value=-1)
        best = so_far if q == 0 else torch.where((depths > q).unsqueeze(-1), so_far, best)
    return best


def _nearest_few(z: Tensor, codewords: Tensor, few: int) -> Tensor:
    """The `few` nearest codewords of each row: candidates, so those at nearly the same distance may be swapped."""
    # In float64, so that which ones they are does not hang on the rows that come along.
    z, c = z.to(wide(z.device)), codewords.to(wide(z.device))
    scores = torch.addmm(-0.5 * c.square().sum(-1), z, c.T)
    return scores.topk(few, dim=-1).indices


def _take(x: Tensor, at: Tensor) -> Tensor:
    """Entries `at` of axis 1."""
    return x.gather(1, at.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
