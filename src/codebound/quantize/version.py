"""Which codebook a statistic is of, and since which step: so that it moves that codebook, and once."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from codebound.errors import InputError

STEPS = 2**40  # more than any training has: stamps further apart are of different codebooks


class Version(nn.Module):
    """A number that no other codebook has; it changes with every update, and is drawn anew with every start.

    A training forward stamps its statistics with it, and `update_` takes those of the present number alone. Others were
    counted already, or are of codewords that are gone, or of another codebook. A deep copy, or whatever a state is
    loaded into, has a number of its own; so it is no buffer, which others copy and average.

    Attributes:
        number: the present stamp, on the module's device.
        starts: how often the number was drawn, for those who must not wait for a device.
    """

    number: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.number = torch.tensor(secrets.randbits(62), device="cpu")
        self.number = self._number_on(torch.get_default_device())
        self.starts = 1

    def _number_on(self, device: torch.device) -> Int64[Tensor, ""]:
        """The number there, and itself whatever `to_empty` leaves there; on the device meta there are no numbers."""
        return self.number if device.type == "meta" else self.number.to(device)

    def stamp(self) -> Int64[Tensor, ""]:
        """The number of now, which later steps don't change."""
        return self.number.clone()

    def advance_(self) -> None:
        """The next step begins: what was counted is not counted again."""
        self.number.add_(1)

    def renew_(self) -> None:
        """The codewords are others: no earlier statistic is of them."""
        self.number.fill_(secrets.randbits(62))
        self.starts += 1

    def check(self, stamp: Int64[Tensor, ""]) -> None:
        """Refuse what is not of this codebook, or not of now.

        Raises:
            InputError: another stamp than the present one.
        """
        behind = int(self.number) - int(stamp)
        if 0 < behind < STEPS:
            raise InputError(
                "update_ takes each result once, and all since the last update_ in one call; "
                f"got one from {behind} update_ ago"
            )
        if behind:
            raise InputError(
                "update_ takes results of this quantizer's own forwards since its codewords were last set; got one of "
                "another quantizer, of a copy, or from before init_, reset_ or load_state_dict"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> Version:
        return Version().to(self.number.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Version:
        self.number = self._number_on(fn(self.number).device)
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any) -> None:
        self.renew_()
