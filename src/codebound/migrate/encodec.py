"""From checkpoints with the residual quantizer of EnCodec (its own package, audiocraft, transformers)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from codebound.errors import InputError
from codebound.migrate.parts import part_of, projected, refuse_unknown, take_masses
from codebound.quantize.base import Quantizer
from codebound.quantize.estimator import StraightThrough
from codebound.quantize.residual import Residual
from codebound.quantize.revival import Resample
from codebound.quantize.update import EMA
from codebound.quantize.vector import VectorQuantizer
from codebound.quantize.wrap import Projected

_STAGE = re.compile(r"(?:vq\.)?layers\.(\d+)\.(.*)")
_BOOK = ("embed", "embed_avg", "cluster_size", "inited")
_MAPS = ("project_in.weight", "project_in.bias", "project_out.weight", "project_out.bias")


def from_encodec(state: Mapping[str, Any], prefix: str = "quantizer.") -> Residual:
    """The residual quantizer of an EnCodec checkpoint (Défossez, Copet, Synnaeve & Adi 2022).

    Read are the layouts of the authors' package and of audiocraft (`vq.layers.0._codebook.embed`) and of transformers'
    `EncodecModel` (`layers.0.codebook.embed`). In eval: the same indices and reproductions, here `[*, Q]` for latents
    `[*, D]` (`quantize.channel_first` takes `[b, D, time]`). All stages are taken; a lower bandwidth is a prefix of
    the indices: `decode(indices[..., :n])`.

    What a state dict does not say is as their code has it: decay 0.99, commitment of weight 1 as a mean over stages
    and dimensions. Revival is ours, `Resample()`.

    Args:
        state: the state dict of the whole model, or of its quantizer with `prefix=""`.
        prefix: where the quantizer stands in it.

    Raises:
        InputError: a state dict without such a quantizer, or one that has seen no data; what to do is said.
    """
    # The tensors of each stage, by their names within it.
    stages: dict[int, dict[str, Tensor]] = {}
    part = part_of(state, prefix)
    for name, tensor in part.items():
        if found := _STAGE.fullmatch(name):
            inner = re.sub(r"^_?codebook\.", "codebook.", found[2])
            stages.setdefault(int(found[1]), {})[inner] = tensor
    if not stages or "codebook.embed" not in stages.get(0, {}):
        raise InputError(
            f"state has no {prefix}vq.layers.0._codebook.embed and no {prefix}layers.0.codebook.embed; give the prefix "
            "before these names, or from_taming for one codebook"
        )
    if sorted(stages) != list(range(len(stages))):
        raise InputError(f"state has the stages {sorted(stages)}: some between are missing")

    # Maps around a codebook pass the gradient by themselves: an estimator on the total would leave them without one.
    built = [_stage(stages[i], i, len(stages)) for i in range(len(stages))]
    mapped = any(isinstance(stage, Projected) for stage in built)
    return Residual(built, estimator=None if mapped else StraightThrough()).eval()


def _stage(part: Mapping[str, Tensor], number: int, depth: int) -> Quantizer:
    known = [f"codebook.{name}" for name in _BOOK]
    refuse_unknown(part, (*known, *_MAPS), "only codebooks with linear maps around them can be taken over")
    embed, sums, counts, inited = (part.get(name) for name in known)
    if embed is None:
        raise InputError(f"state has no codebook in stage {number}")
    if inited is not None and not bool(inited.all()):
        raise InputError(
            f"stage {number} has seen no data (inited is 0): there are no codewords to take; train it, or build "
            "recipes.encodec() and call init_(z)"
        )

    # The codebook with the masses behind it, then the maps around it.
    size, dim = embed.shape
    quantizer = VectorQuantizer(
        dim,
        size,
        update=EMA(decay=0.99),
        revival=Resample(),
        loss_weights={"commitment": 1.0 / (depth * dim)},
        seed=number,
    ).to(embed.device)
    quantizer.codebook.reset_(embed.float())
    if sums is not None and counts is not None:
        take_masses(quantizer, counts.float(), sums.float())
    return projected(quantizer, part)
