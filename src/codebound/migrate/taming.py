"""From checkpoints with the quantizer of taming-transformers (VQGAN, latent diffusion, LlamaGen)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codebound.errors import InputError
from codebound.migrate.parts import part_of, refuse_unknown, take_masses
from codebound.quantize.assign import Cosine, Nearest
from codebound.quantize.form import Table, Unit
from codebound.quantize.revival import Never
from codebound.quantize.update import EMA, Gradient
from codebound.quantize.vector import VectorQuantizer

_AVERAGE = ("embedding.cluster_size", "embedding.embed_avg")
_COUNTERS = ("codebook_used",)  # LlamaGen's window of indices: it changes no index


def from_taming(
    state: Mapping[str, Any], prefix: str = "quantize.", *, unit: bool = False
) -> VectorQuantizer:
    """The quantizer of a VQGAN checkpoint (Esser, Rombach & Ommer 2021), also of latent diffusion and LlamaGen.

    Their `VectorQuantizer`, `VectorQuantizer2` and `EMAVectorQuantizer` all keep the codewords as `embedding.weight`.
    In eval: the same indices and reproductions. `quant_conv` and `post_quant_conv` belong to the model: latents are
    what `quant_conv` gives, channels last (`quantize.channel_first` takes them as they are).

    What a state dict does not say is as their code has it: no revival, and their losses, 1 for the commitment and 0.25
    for the codebook (`legacy=True`), as means over D; or an average of decay 0.99 where its masses are in the state.

    Args:
        state: the state dict of the whole model, or of its quantizer with `prefix=""`.
        prefix: where the quantizer stands in it.
        unit: latents and codewords are compared, and returned, on the unit sphere (LlamaGen's `codebook_l2_norm`).

    Raises:
        InputError: a state dict without such a quantizer; what to do instead is said.
    """
    # Another quantizer under the same prefix is named.
    part = part_of(state, prefix)
    if "proj.weight" in part:
        raise InputError(
            f"state has {prefix}proj.weight: a GumbelQuantize, whose indices are of logits and not of a codebook; "
            "its model can't be taken over, train assign=GumbelAssign(), estimator=GumbelEstimator() instead"
        )
    if "used" in part:
        raise InputError(
            f"state has {prefix}used: indices that were renumbered (remap); leave that tensor out for indices of the "
            "whole codebook, and renumber them by it afterwards"
        )
    if "embedding.weight" not in part:
        near = [name.removesuffix("embedding.weight") for name in state if name.endswith("embedding.weight")]
        step = f"prefix={near[0]!r} has one" if near else "it holds no quantizer of this layout"
        raise InputError(f"state has no {prefix}embedding.weight; {step}")
    step = "only the codebook of a quantizer with one table can be taken over (from_encodec for stages)"
    refuse_unknown(part, ("embedding.weight", *_AVERAGE, *_COUNTERS), step)

    # Codewords by gradient, or by an average whose masses are there.
    codewords = part["embedding.weight"].float()
    averaged = all(name in part for name in _AVERAGE)
    size, dim = codewords.shape
    quantizer = VectorQuantizer(
        dim,
        size,
        assign=Cosine() if unit else Nearest(),
        form=Unit() if unit else Table(),
        update=EMA(decay=0.99) if averaged else Gradient(),
        revival=Never(),
        loss_weights={"commitment": 1.0 / dim, "codebook": 0.25 / dim},
    )
    quantizer.codebook.reset_(codewords)
    if averaged:
        take_masses(quantizer, *(part[name].float() for name in _AVERAGE), unit=unit)
    return quantizer.to(codewords.device).eval()
