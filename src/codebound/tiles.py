"""The best score of each row, tile by tile: nothing of the size rows × codewords exists.

On the CPU the scores of a tile are written into one reused buffer that stays in the cache, and reduced there by
NumPy, whose `argmax` is vectorised (`torch.argmax` is not: 10 to 30 times slower).
"""

from __future__ import annotations

import threading

import numpy as np
import torch
from torch import Tensor

TILE_SCORES = 2**19  # scores per tile: 2 MB of float32, reused, which stay in the cache
TILE_CODEWORDS = 512
CUDA_TILE_SCORES = 2**24
_buffers = threading.local()


def best_scores(z: Tensor, books: Tensor, centre: Tensor, lead: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Index of the best score `z·c − |c|²/2`, both less the centre, `[m, n]`.

    If `lead` is asked for also its lead over the second, `[m, n]`, and |z|, `[n]`.
    """
    m, k, _ = books.shape
    books = books - centre
    codes = torch.cat([books, torch.linalg.vecdot(books, books).mul_(-0.5).unsqueeze(-1)], dim=-1).view(
        m * k, -1
    )
    return (_tiles_cpu if z.device.type == "cpu" else _tiles_device)(z, centre, codes, m, k, lead)


def _tiles_cpu(
    z: Tensor, centre: Tensor, codes: Tensor, m: int, k: int, lead: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Best index and its lead `[m, n]`: tiles of rows × (some whole codebooks, or a part of one).

    As many rows as fit beside one codebook, and more codebooks only where there are few rows: tall products are
    faster than wide ones.
    """
    n, dim = z.shape
    indices = np.empty((m, n), dtype=np.int64)
    margins = np.empty((m, n), dtype=z.numpy().dtype)
    lengths = z.new_empty(n if lead else 0)
    part = min(k, TILE_CODEWORDS)
    rows = min(n, max(1, TILE_SCORES // part))
    together = min(m, max(1, TILE_SCORES // (rows * part))) if part == k else 1
    buffer = score_buffer(z.dtype, rows * together * part)
    queries = z.new_ones(rows, dim + 1)
    for row in range(0, n, rows):
        q = queries[: min(rows, n - row)]
        torch.sub(z[row : row + rows], centre, out=q[:, :dim])
        if lead:
            lengths[row : row + rows] = torch.linalg.vector_norm(q[:, :dim], dim=-1)
        for book in range(0, m, together):
            g = min(together, m - book)
            tiles = [
                _tile(
                    q,
                    codes[book * k + start : (book + g - 1) * k + min(start + part, k)],
                    buffer,
                    g,
                    start,
                    lead,
                )
                for start in range(0, k, part)
            ]
            index, score, second = tiles[0] if len(tiles) == 1 else _merge(tiles)
            indices[book : book + g, row : row + rows] = index.T
            with np.errstate(invalid="ignore"):  # rows that are not finite
                margins[book : book + g, row : row + rows] = (score - second).T
    return torch.from_numpy(indices), torch.from_numpy(margins), lengths


def score_buffer(dtype: torch.dtype, size: int) -> Tensor:
    """Room for one tile's scores, kept from call to call: fresh memory would fault in page by page."""
    buffer = getattr(_buffers, str(dtype), None)
    if buffer is None or buffer.numel() < size:
        buffer = torch.empty(max(size, TILE_SCORES), dtype=dtype)
        setattr(_buffers, str(dtype), buffer)
    return buffer


def _tile(
    q: Tensor, block: Tensor, buffer: Tensor, g: int, start: int, lead: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best index, best score and second score `[rows, g]` of one product; indices count from `start`."""
    rows, width = q.shape[0], block.shape[0] // g
    tile = torch.mm(q, block.t(), out=buffer[: rows * block.shape[0]].view(rows, -1)).view(rows * g, width)
    flat = tile.view(-1).numpy()
    best = tile.numpy().argmax(-1)
    at = best + np.arange(0, rows * g * width, width)
    score = flat.take(at)
    second = score
    if lead:
        flat[at] = -np.inf  # the buffer is ours
        second = tile.amax(-1).numpy()  # torch's `amax` is vectorised, as its `argmax` is not
    return best.reshape(rows, g) + start, score.reshape(rows, g), second.reshape(rows, g)


def _merge(
    tiles: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best and second of the parts of a codebook; of equals the first, which has the lowest index."""
    index, best, second = tiles[0]
    for other, value, runner_up in tiles[1:]:
        second = np.maximum(np.maximum(second, runner_up), np.minimum(best, value))
        index, best = np.where(value > best, other, index), np.maximum(best, value)
    return index, best, second


def _tiles_device(
    z: Tensor, centre: Tensor, codes: Tensor, m: int, k: int, lead: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The same with torch operations only, for accelerators; one codebook at a time."""
    n = z.shape[0]
    queries = torch.cat([z - centre, z.new_ones(n, 1)], dim=-1)
    indices = torch.empty(m, n, dtype=torch.int64, device=z.device)
    margins = z.new_empty(m, n)
    part = min(k, 65536)
    rows = max(1, CUDA_TILE_SCORES // part)
    for book in range(m):
        for row in range(0, n, rows):
            q = queries[row : row + rows]
            best = q.new_full((q.shape[0],), -torch.inf)
            second, index = best, torch.zeros_like(best, dtype=torch.int64)
            for start in range(0, k, part):
                tile = torch.mm(q, codes[book * k + start : book * k + min(start + part, k)].t())
                value, winner = tile.max(dim=1)
                if lead:
                    runner_up = tile.scatter_(1, winner.unsqueeze(1), -torch.inf).amax(dim=1)
                    second = torch.maximum(torch.maximum(second, runner_up), torch.minimum(best, value))
                index, best = torch.where(value > best, winner + start, index), torch.maximum(best, value)
            indices[book, row : row + rows], margins[book, row : row + rows] = index, best - second
    return indices, margins, torch.linalg.vector_norm(queries[:, :-1], dim=-1)
