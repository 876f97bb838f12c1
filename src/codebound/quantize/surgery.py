"""Codebooks changed from outside training: their codewords set, held, added or left out, on every quantizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from codebound.errors import InputError
from codebound.quantize.codebook import Codebook
from codebound.quantize.codeword_checks import Rows, check_codewords, check_size, row_indices
from codebound.quantize.moments import forget_rows, move_rows
from codebound.quantize.resize import RowMoves

PerBook = Sequence[Any]  # an entry for each of `codebooks()`, None for one to be passed over


class Surgery(nn.Module):
    """What every quantizer can do to its codebooks, between two steps; the same on every rank.

    A quantizer of one codebook takes one tensor, number or set of rows. A composition takes a sequence with one entry
    for each of its `codebooks()`, and passes over those that are None. Codewords are in the space where they are
    searched: of `Projected` and `Scaled` the inner one.

    Where an optimizer trains the codewords, give it along: its moments of rows that are new begin at zero, and those
    of the others go with their rows. After `resize_` a model is to be wrapped in DistributedDataParallel anew.
    """

    def codebooks(self) -> tuple[Codebook | None, ...]:
        """The codebooks, each once, in the order of an `UpdateReport`; None for codes that are a formula."""
        return tuple(module for module in self.modules() if isinstance(module, Codebook))

    def codewords(self) -> Float[Tensor, "K D"] | tuple[Tensor | None, ...]:
        """The codewords as they are searched: one tensor, or of a composition one for each codebook."""
        return tuple(None if book is None else book.codewords() for book in self.codebooks())

    @torch.no_grad()
    def set_codewords_(
        self,
        codewords: Float[Tensor, "K D"] | PerBook,
        *,
        counts: Float[Tensor, " K"] | PerBook | None = None,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        """Begin anew from these codewords, as after `init_`; held ones are held where they are put.

        Args:
            codewords: K of them, finite.
            counts: the masses behind them, in tokens; 1 each without. A larger one is moved less by the next updates.
            optimizer: its moments of all codewords are zeroed.

        Raises:
            InputError: another shape, NaN or Inf, masses that are not positive, or codes that are a formula.
        """
        chosen = self._chosen("set_codewords_", "codewords", codewords)
        masses = self._entries("counts", counts)
        for i, book, new in chosen:
            check_codewords(new, masses[i], book.table.shape)

        # Only now, as all of them are right, does anything change.
        for i, book, new in chosen:
            book.set_(new, masses[i])
            if optimizer is not None:
                for parameter in book.parameters():
                    forget_rows(optimizer, parameter, torch.arange(len(parameter)))

    @torch.no_grad()
    def resize_(
        self, codebook_size: int | PerBook, *, optimizer: torch.optim.Optimizer | None = None
    ) -> tuple[RowMoves, ...]:
        """Another number of codewords: more by splitting the busiest, fewer by leaving out the least used.

        Codewords that stay are the same bit for bit. Added ones come after them, so indices from before still decode to
        what they did; where some are left out, `RowMoves.source` says which row each was.

        Args:
            codebook_size: K, for all codebooks of a composition alike or one for each.
            optimizer: its moments go with the rows; those of added ones are zero.

        Returns:
            Where the rows come from, for each codebook; no rows of codes that are a formula.

        Raises:
            InputError: fewer than 2, fewer than there are held rows, or codes that are a formula.
        """
        several = isinstance(codebook_size, int) and len(self.codebooks()) > 1
        sizes = (codebook_size,) * len(self.codebooks()) if several else codebook_size
        chosen = self._chosen("resize_", "codebook_size", sizes)
        for _, book, size in chosen:
            check_size(size, 0 if book.held_rows is None else len(book.held_rows))

        # Each codebook, and what an optimizer remembers of it.
        moves = [RowMoves.none(0 if book is None else len(book.table)) for book in self.codebooks()]
        for i, book, size in chosen:
            before = len(book.table)
            moved = moves[i] = book.resize_(size)
            if optimizer is not None and isinstance(book.table, nn.Parameter):
                move_rows(optimizer, book.table, before, moved.source, moved.fresh)
        return tuple(moves)

    def freeze_(self, rows: Rows | PerBook | None = None) -> None:
        """Hold codewords where they are, bit for bit: against updates, revival, `init_`, and an optimizer with whatever
        moments and weight decay it has. Part of the state dict.

        Args:
            rows: indices, or a mask of K; beside those that are held already. All codewords without.

        Raises:
            InputError: rows that there are not, of `form=Linear()`, or of codes that are a formula.
        """
        for book, held in self._rows("freeze_", rows):
            book.freeze_(held)

    def unfreeze_(self, rows: Rows | PerBook | None = None) -> None:
        """Let go all that `freeze_` holds, or these rows of it; they go on from where they were held.

        Raises:
            InputError: rows that there are not, or of codes that are a formula.
        """
        for book, free in self._rows("unfreeze_", rows):
            book.unfreeze_(free)

    def _rows(self, method: str, rows: Rows | PerBook | None) -> list[tuple[Codebook, Tensor | None]]:
        """The codebooks to hold or let go, with checked rows; None for all of a codebook."""
        if rows is None:
            return [(book, None) for book in self.codebooks() if book is not None]
        return [
            (book, row_indices(own, book.table.shape[0]))
            for _, book, own in self._chosen(method, "rows", rows)
        ]

    def _chosen(self, method: str, name: str, values: Any) -> list[tuple[int, Codebook, Any]]:
        """The codebooks that a method is to change: the place of each, itself, and the value given for it."""
        if not self.codebooks():
            raise InputError(f"{method} needs a table of codewords; {type(self).__name__} has none")
        chosen = []
        for i, (book, value) in enumerate(zip(self.codebooks(), self._entries(name, values), strict=True)):
            if book is None and value is not None:
                where = f"; {name}[{i}] must be None" if len(self.codebooks()) > 1 else ""
                raise InputError(
                    f"{method} needs a table of codewords; in {type(self).__name__} they are a formula{where}"
                )
            if book is not None and value is not None:
                chosen.append((i, book, value))
        return chosen

    def _entries(self, name: str, values: Any) -> Sequence[Any]:
        """A value for each codebook; of one codebook it may stand alone."""
        count = len(self.codebooks())
        if values is None:
            return (None,) * count
        listed = isinstance(values, list | tuple)
        if listed and len(values) == count and not (count == 1 and isinstance(values[0], int)):
            return values
        if count != 1:
            got = f"{len(values)} entries" if listed else f"one {type(values).__name__}"
            raise InputError(f"{name} must be a sequence, an entry for each of {count} codebooks; got {got}")
        return (values,)
