"""What importers share: a state dict that can be read, masses that belong to their codewords, projections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from codebound.errors import InputError
from codebound.quantize.base import Quantizer
from codebound.quantize.update import EMA, CodebookState
from codebound.quantize.vector import VectorQuantizer
from codebound.quantize.wrap import Projected

CONTAINERS = ("state_dict", "model", "best_state", "generator")  # where training programs put a state dict


def part_of(state: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by the rest of their names.

    Raises:
        InputError: not a state dict but a checkpoint that holds one, or nothing under this prefix.
    """
    # A whole checkpoint is a dictionary with the state dict inside.
    if inside := [name for name in CONTAINERS if isinstance(state.get(name), Mapping)]:
        raise InputError(f"state is a whole checkpoint, not a state dict: pass checkpoint[{inside[0]!r}]")
    if other := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise InputError(f"state must be a state dict of tensors; {other[0]!r} holds none")

    found = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if not found:
        raise InputError(f"prefix={prefix!r} begins no name of the state dict, whose names are {_few(state)}")
    return found


def refuse_unknown(state: Mapping[str, Tensor], known: Sequence[str], step: str) -> None:
    """Refuse tensors that have no counterpart here, with what can be done instead."""
    if unknown := sorted(set(state) - set(known)):
        raise InputError(f"state has {_few(unknown)}, which have no counterpart here: {step}")


def _few(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:6]) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "")


def take_masses(
    quantizer: VectorQuantizer, counts: Float[Tensor, " K"], sums: Float[Tensor, "K D"], unit: bool = False
) -> None:
    """Take an average's counts and sums over, where the codewords are its means.

    They are not where codewords were assigned, which leaves the sums stale: these would come back at the next step.

    Args:
        unit: the codewords are the means' directions.
    """
    assert isinstance(quantizer.update, EMA)
    epsilon, total = quantizer.update.smoothing, counts.sum()
    smoothed = (counts + epsilon) * total / (total + len(counts) * epsilon)
    means, codewords = sums / smoothed.unsqueeze(1), quantizer.codebook.table
    if unit:
        means = nn.functional.normalize(means, dim=1)
    if torch.allclose(means, codewords, rtol=1e-3, atol=1e-4 * float(codewords.abs().max())):
        quantizer.codebook.write_(CodebookState(codewords, counts, sums))


def projected(inner: Quantizer, state: Mapping[str, Tensor], normalise: bool = False) -> Quantizer:
    """`inner` between the linear maps `project_in` and `project_out`, where the state has them."""
    maps = {name for name in state if name.startswith("project_in.")}
    if unknown := maps - {
        "project_in.weight",
        "project_in.bias",
    }:  # a LayerNorm after it, or cosine projection
        raise InputError(f"source has {sorted(unknown)}, which have no counterpart here")
    if "project_in.weight" not in state:
        return inner
    weight_in, weight_out = state["project_in.weight"], state["project_out.weight"]
    outer = Projected(inner, weight_in.shape[1], normalise=normalise)
    with torch.no_grad():
        outer.weight_in.copy_(weight_in)
        outer.weight_out.copy_(weight_out)
        for ours, theirs in ((outer.bias_in, "project_in.bias"), (outer.bias_out, "project_out.bias")):
            ours.copy_(state[theirs]) if theirs in state else ours.zero_()
    return outer
