"""The only owner of mutable code state: the table, its masses, the usage window, the step counter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from codebound.errors import InputError
from codebound.quantize.form import Form, Linear, Table, Unit
from codebound.quantize.noise import mix
from codebound.quantize.update import CodebookState, Memory, Update
from codebound.quantize.version import Version


class Codebook(nn.Module):
    """K codewords of D numbers and what is remembered about them.

    The table is a parameter where an optimizer moves it and a buffer elsewhere; of the form `Linear` the map is
    the parameter and the table a frozen buffer. All of it stays float32 under
    `.half()` and `.bfloat16()`: running sums die in 8 bits of mantissa, and the table is small.
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
        generator = torch.Generator().manual_seed(seed)
        table = torch.randn(codebook_size, dim, generator=generator)
        if update.trains and not isinstance(form, Linear):
            self.table = nn.Parameter(table)
        else:
            self.register_buffer("table", table)

        # Of the form `Linear` the map is what trains.
        if isinstance(form, Linear):
            self.map = nn.Parameter(torch.eye(dim))

        # What is remembered beside it; buffers, so that all of it is saved and moved with the module.
        state = CodebookState.fresh(table)
        self.register_buffer("counts", state.counts)
        self.register_buffer("sums", state.sums)
        self.register_buffer("window_counts", torch.zeros(codebook_size, dtype=torch.float64))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("salt", mix(torch.tensor(seed, dtype=torch.int64)))
        self.register_buffer(
            "initialised", torch.zeros((), dtype=torch.uint8)
        )  # `AveragedModel` takes no bool
        self.register_buffer("distortion", torch.zeros(()))
        self.register_buffer("frozen", torch.zeros((), dtype=torch.uint8))
        self.version = Version()

    def codewords(self) -> Float[Tensor, "K D"]:
        """The codewords as they are searched and returned."""
        if isinstance(self.form, Linear):
            with torch.autocast(self.table.device.type, enabled=False):
                return self.table @ self.map.T
        return nn.functional.normalize(self.table, dim=-1) if isinstance(self.form, Unit) else self.table

    def state(self) -> CodebookState:
        """The state that updates and revivals map to a new one."""
        return CodebookState(self.table.detach(), self.counts, self.sums)

    @torch.no_grad()
    def write_(self, state: CodebookState) -> None:
        """Take over a state, all of it."""
        self.table.copy_(state.codewords)
        self.counts.copy_(state.counts)
        self.sums.copy_(state.sums)

    @torch.no_grad()
    def reset_(self, codewords: Float[Tensor, "K D"]) -> None:
        """Begin anew from these codewords: fresh masses, empty window.

        Raises:
            InputError: another shape, or codewords that are not finite.
        """
        # Refuse what would spoil the state.
        if codewords.shape != self.table.shape:
            raise InputError(
                f"codewords must have shape {list(self.table.shape)}; got {list(codewords.shape)}"
            )
        if not bool(codewords.isfinite().all()):
            raise InputError("codewords must be finite; got NaN or Inf")

        # New codewords have no past: masses of one token, and nothing counted.
        self.write_(CodebookState.fresh(codewords.detach().to(self.table)))
        if isinstance(self.form, Linear):
            self.map.copy_(torch.eye(self.map.shape[0]))
        self.distortion.zero_()
        self.window_counts.zero_()
        self.initialised.fill_(True)
        self.version.renew_()

    def memory(self) -> Memory:
        """What assignments and updates may read."""
        annealing = self.step.new_zeros((), dtype=torch.bool)
        return Memory(self.counts, self.step, self.distortion, self.step_salt(), annealing)

    @torch.no_grad()
    def observe_(self, distortion: Float[Tensor, ""]) -> None:
        """Take a batch's hard squared error per token into the running mean (decay 0.9)."""
        old = self.distortion
        old.copy_(torch.where(old > 0, 0.9 * old + 0.1 * distortion, distortion))

    def freeze_(self, frozen: bool = True) -> None:
        """Hold the codewords where they are, against updates, revival and gradients; False lets them go."""
        self.frozen.fill_(frozen)
        for parameter in self.parameters():
            parameter.requires_grad_(not frozen)

    def _load_from_state_dict(self, *args: Any) -> None:
        before = not self.frozen.is_meta and bool(self.frozen)
        super()._load_from_state_dict(*args)
        if bool(self.frozen) != before:  # the buffer travels; whether a parameter wants a gradient does not
            self.freeze_(not before)

    def step_salt(self) -> Int64[Tensor, ""]:
        """A number for each (seed, step), the same on every rank; whoever draws noise from it mixes it."""
        return self.salt ^ self.step

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Codebook:
        return super()._apply(lambda t: _same_dtype(fn, t), recurse)


def _same_dtype(fn: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    moved = fn(t)
    return moved if moved.dtype == t.dtype else t.to(moved.device)
