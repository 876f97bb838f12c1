"""The only owner of mutable code state: the table, its masses, the usage window, the step counter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from codebound.errors import InputError
from codebound.exact import wide
from codebound.graphs import constant, without_autocast
from codebound.quantize.codeword_checks import Rows, check_codewords, check_size, row_indices
from codebound.quantize.form import Form, Linear, Table, Unit
from codebound.quantize.noise import mix, placed, seeded
from codebound.quantize.resize import RowMoves, grown, shrunk
from codebound.quantize.sharding import is_sharded, whole, write_whole_
from codebound.quantize.update import CodebookState, Frozen, Memory, Update
from codebound.quantize.version import Version


class Codebook(nn.Module):
    """K codewords of D numbers and what is remembered about them.

    The table is a parameter where an optimizer moves it and a buffer elsewhere; of the form `Linear` the map is
    the parameter and the table a frozen buffer. All of it stays float32 under
    `.half()` and `.bfloat16()`: running sums die in 8 bits of mantissa, and the table is small.

    Codewords may be held: all (`freeze_()`) or some (`freeze_(rows)`). Held rows have their codewords beside the table,
    where no optimizer reaches them; both are part of the state only while there are some.
    """

    table: Tensor
    counts: Tensor
    sums: Tensor
    window_counts: Tensor
    step: Tensor
    salt: Tensor
    initialised: Tensor
    distortion: Tensor
    frozen: Tensor
    held_rows: Tensor | None  # int64 [r]
    held_codewords: Tensor | None  # [r, D], as rows of the table
    written: Tensor | None  # the table as it was written here last, where sums belong to it
    sharded: bool = False  # whether `fully_shard` has divided what an optimizer trains

    def __init__(
        self,
        codebook_size: int,
        dim: int,
        update: Update,
        seed: int = 0,
        form: Form = Table(),  # noqa: B008
    ) -> None:
        super().__init__()

        # The table: a parameter where an optimizer moves it.
        self.form = form
        table = placed(
            torch.randn(codebook_size, dim, generator=seeded(seed), dtype=torch.float32, device="cpu")
        )
        if update.trains and not isinstance(form, Linear):
            self.table = nn.Parameter(table)
        else:
            self.register_buffer("table", table)

        # Of the form `Linear` the map is what trains.
        if isinstance(form, Linear):
            self.map = nn.Parameter(torch.eye(dim, dtype=torch.float32))

        # What is remembered beside it; buffers, so that all of it is saved and moved with the module.
        state = CodebookState.fresh(table)
        self.register_buffer("counts", state.counts)
        self.register_buffer("sums", state.sums)
        self.register_buffer("window_counts", torch.zeros(codebook_size, dtype=torch.int64))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("salt", mix(torch.tensor(seed, dtype=torch.int64)))
        self.register_buffer(
            "initialised", torch.zeros((), dtype=torch.uint8)
        )  # `AveragedModel` takes no bool
        self.register_buffer("distortion", torch.zeros((), dtype=torch.float32))
        self.register_buffer("frozen", torch.zeros((), dtype=torch.uint8))
        self.version = Version()
        self.register_buffer("held_rows", None)
        self.register_buffer("held_codewords", None)

        # Where masses and sums are kept, a table that differs from this one was written by somebody else.
        masses = not (update.trains or isinstance(update, Frozen))
        self.register_buffer("written", table.clone() if masses else None, persistent=False)

    def codewords(self) -> Float[Tensor, "K D"]:
        """The codewords as they are searched and returned."""
        table = self._table()
        if isinstance(self.form, Linear):
            with without_autocast(table.device):
                return table @ whole(self.map).T
        return nn.functional.normalize(table, dim=-1) if isinstance(self.form, Unit) else table

    def _table(self) -> Float[Tensor, "K D"]:
        """The table with its held rows as they were, whatever an optimizer has made of them."""
        # Nobody casts it but fully_shard with a mixed precision.
        table = whole(self.table)
        if table.dtype in (torch.bfloat16, torch.float16):
            raise InputError(
                f"codewords must stay float32; param_dtype={table.dtype} of fully_shard rounds them"
            )
        if self.held_rows is None or self.held_codewords is None:
            return table
        return table.index_copy(0, self.held_rows, self.held_codewords)

    def state(self) -> CodebookState:
        """The state that updates and revivals map to a new one."""
        return CodebookState(self._table().detach(), self.counts, self.sums)

    def write_(self, state: CodebookState) -> None:
        """Take over a state, all of it but the codewords of held rows."""
        if self.held_rows is not None and self.held_codewords is not None:
            state = state.replace(self.held_rows, self.held_codewords, state.counts[self.held_rows])
        self.check_writable()
        write_whole_(self.table, state.codewords)
        self.counts.copy_(state.counts)
        self.sums.copy_(state.sums)
        if self.written is not None:
            self.written.copy_(state.codewords)

    def adopt_(self) -> None:
        """Go on from codewords that were loaded or copied into the table: their masses stay, sums follow them.

        Without it the next step would take the means of what stood there before.
        """
        if self.written is None or torch.equal(self.table, self.written):
            return
        foreign = (self.table != self.written).any(-1, keepdim=True)
        self.sums.copy_(torch.where(foreign, self.table * self.counts.unsqueeze(-1), self.sums))
        self.written.copy_(self.table)

    @torch.no_grad()
    def reset_(self, codewords: Float[Tensor, "K D"], counts: Float[Tensor, " K"] | None = None) -> None:
        """Begin anew from these codewords: masses of one token each unless `counts` are given, an empty window.

        Raises:
            InputError: another shape, codewords that are not finite, or masses that are not positive.
        """
        # New codewords have no past: masses of one token, and nothing counted.
        check_codewords(codewords, counts, self.table.shape)
        codewords = codewords.detach().to(self.table.device, self.table.dtype)
        fresh = CodebookState.fresh(codewords)
        masses = fresh.counts if counts is None else counts.to(fresh.counts)
        self.write_(CodebookState(codewords, masses, codewords * masses.unsqueeze(-1)))
        if isinstance(self.form, Linear):
            write_whole_(self.map, torch.eye(self.map.shape[0], device=self.map.device))
        self.distortion.zero_()
        self.window_counts.zero_()
        self.initialised.fill_(True)
        self.version.renew_()

    def set_(self, codewords: Float[Tensor, "K D"], counts: Float[Tensor, " K"] | None = None) -> None:
        """`reset_`, and held rows are held at their new codewords."""
        check_codewords(codewords, counts, self.table.shape)
        if self.held_rows is not None:
            self._hold_(self.held_rows, codewords.to(self.table.device, self.table.dtype))
        self.reset_(codewords, counts)

    def check_writable(self) -> None:
        """Refuse to write into what `fully_shard` gathered for a forward: it would be lost with it."""
        if self.sharded and not all(is_sharded(parameter) for parameter in self.parameters()):
            raise InputError(
                "codewords can't be written while fully_shard has them gathered, as after a forward without backward: "
                "call reshard() of the module that was given to fully_shard first"
            )

    def memory(self) -> Memory:
        """What assignments and updates may read."""
        step = self.step
        annealing = constant(False, step.device, torch.bool)
        return Memory(self.counts, step, self.distortion, self.salt ^ step, annealing)

    def observe_(self, distortion: Float[Tensor, ""]) -> None:
        """Take a batch's hard squared error per token into the running mean (decay 0.9)."""
        old = self.distortion
        if float(old) > 0:
            old.mul_(0.9).add_(0.1 * distortion)
        else:
            old.copy_(distortion)

    @property
    def held(self) -> bool:
        """Whether no codeword may move: after `freeze_()`, or `requires_grad_(False)` on what an optimizer trains."""
        trained = list(self.parameters(recurse=False))
        return bool(self.frozen) or (len(trained) > 0 and not any(p.requires_grad for p in trained))

    def freeze_(self, rows: Rows | None = None) -> None:
        """Hold all codewords where they are, or those of `rows` (beside the ones that are held already).

        Raises:
            InputError: rows that there are not, or rows of the form `Linear`, which moves all codewords at once.
        """
        if rows is None:
            self._freeze_all_(True)
            return
        if isinstance(self.form, Linear):
            raise InputError(
                "freeze_ of rows: form=Linear() moves all codewords at once; freeze_() holds all of them"
            )
        added = self._rows(rows)
        held = added if self.held_rows is None else torch.cat([self.held_rows, added]).unique()
        self._hold_(held, self._table())

    def unfreeze_(self, rows: Rows | None = None) -> None:
        """Let go all codewords that `freeze_` held, or those of `rows`; they go on from where they were held.

        Raises:
            InputError: rows that there are not.
        """
        if rows is None:
            self._freeze_all_(False)
        if self.held_rows is not None:
            self.write_(self.state())
            still = self.held_rows[:0]
            if rows is not None:
                still = self.held_rows[~torch.isin(self.held_rows, self._rows(rows))]
            self._hold_(still, self._table())

    def _freeze_all_(self, frozen: bool) -> None:
        """Hold the whole table, or let it go."""
        self.check_writable()
        self.frozen.fill_(frozen)
        for parameter in self.parameters():
            parameter.requires_grad_(not frozen)
            if frozen:  # on a gradient of zeros an optimizer would still move it, by its moments
                parameter.grad = None

    def _rows(self, rows: Rows) -> Int64[Tensor, " r"]:
        return row_indices(rows, self.table.shape[0]).to(self.table.device)

    def _hold_(self, rows: Int64[Tensor, " r"], table: Float[Tensor, "K D"]) -> None:
        """Hold these rows of a table, and no others."""
        self.held_rows = rows if len(rows) else None
        self.held_codewords = table.detach()[rows].clone() if len(rows) else None

    def window(self) -> Float[Tensor, " K"]:
        """The hits of this window so far, as numbers to compute with."""
        return self.window_counts.to(wide(self.window_counts.device))

    def end_window_(self) -> Float[Tensor, " K"]:
        """The hits of a window that ends; of held rows at least a fair share, as they are not to be revived."""
        window = self.window()
        self.window_counts.zero_()
        if self.written is None:
            self.counts.copy_(window)
        if self.held_rows is not None:
            fair = window.sum() / window.shape[0]
            window[self.held_rows] = window[self.held_rows].clamp_min(fair)
        return window

    def free_of(self, rows: Int64[Tensor, " r"]) -> Int64[Tensor, " _"]:
        """Those of these rows that are not held."""
        return rows if self.held_rows is None else rows[~torch.isin(rows, self.held_rows)]

    def usage(self) -> Float[Tensor, " K"]:
        """How much each codeword is used: its mass where updates keep masses, else its hits in this window and the
        last."""
        return self.counts if self.written is not None else self.counts + self.window_counts.to(self.counts)

    @torch.no_grad()
    def resize_(self, codebook_size: int) -> RowMoves:
        """Another number of codewords: more by splitting the busiest, fewer by leaving out the least used.

        The ones that stay are the same bit for bit, and in the same order; added ones stand after them, each beside
        the one it was split from, with half its mass. Held ones are never left out.

        Returns:
            Where each row comes from.

        Raises:
            InputError: fewer than 2, or fewer than there are held rows.
        """
        # Which codewords stay, and what is split off.
        check_size(codebook_size, 0 if self.held_rows is None else len(self.held_rows))
        if self.sharded:
            raise InputError(
                "resize_ of a codebook that fully_shard has divided: resize it before fully_shard"
            )
        self.adopt_()
        state, window, usage = self.state(), self.window_counts, self.usage()
        if codebook_size <= state.counts.shape[0]:
            resized = shrunk(state, window, usage, codebook_size, self.held_rows)
        else:
            resized = grown(state, window, usage, codebook_size, int(self.step_salt()))

        # The parameter remains the same object, so that an optimizer goes on with it.
        if self.held_rows is not None:
            kept = torch.searchsorted(resized.moves.source[: state.counts.shape[0]], self.held_rows)
            self._hold_(kept, resized.state.codewords)
        if isinstance(self.table, nn.Parameter):
            # A graph that is still there knows its old shape; only a change of type makes autograd forget that one.
            self.table.grad = None
            self.table.data = resized.state.codewords.bfloat16()
            self.table.data = resized.state.codewords
        else:
            self.table = resized.state.codewords
        self.counts, self.sums, self.window_counts = *resized.state[1:], resized.window_counts
        self.written = None if self.written is None else self.table.clone()
        self.version.renew_()
        return resized.moves

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Held rows are part of a whole state: as many as it has. A part of a state leaves them as they are.
        if f"{prefix}held_rows" in state_dict:
            rows = state_dict[f"{prefix}held_rows"]
            self.held_rows = self.counts.new_zeros(rows.shape, dtype=torch.int64)
            self.held_codewords = self.counts.new_zeros(len(rows), self.table.shape[1])
        elif f"{prefix}frozen" in state_dict:
            self.held_rows = self.held_codewords = None

        # The frozen flag travels; whether a parameter wants a gradient does not.
        # What was made by `to_empty` holds anything before it is loaded, so a frozen state freezes in any case.
        before = not self.frozen.is_meta and bool(self.frozen)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if not self.frozen.is_meta and (before or bool(self.frozen)):
            self._freeze_all_(bool(self.frozen))

        # A table that came with its sums belongs to them.
        together = all(f"{prefix}{name}" in state_dict for name in ("table", "counts", "sums"))
        if together and self.written is not None:
            self.written = self.table.clone()

    def step_salt(self) -> Int64[Tensor, ""]:
        """A number for each (seed, step), the same on every rank; whoever draws noise from it mixes it."""
        return self.salt ^ self.step

    def __setattr__(self, name: str, value: Any) -> None:
        # This is how `fully_shard` puts parts in the place of parameters, and whole ones in that of parts.
        if name in ("table", "map") and is_sharded(value):
            self.__dict__["sharded"] = True
        super().__setattr__(name, value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Codebook:
        return super()._apply(lambda t: same_dtype(fn, t), recurse)


def same_dtype(fn: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    moved = fn(t)
    return moved if moved.dtype == t.dtype else t.to(moved.device)
