"""The quantizers that the study compares, and how each begins badly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from codebound.errors import InputError
from codebound.quantize import Quantizer, VectorQuantizer
from codebound.quantize.assign import Soft
from codebound.quantize.init import Normal
from codebound.quantize.revival import Never, Revival
from codebound.quantize.update import EMA, BlahutArimoto
from codebound.recipes import named as quantizers
from codebound.recipes.named import KINDS, QuantizerRequest

Start = Literal["kmeans", "bad"]
FAST_DECAY = BlahutArimoto().decay  # BA's codewords follow the latents ten times as fast while it anneals
BAD_STD = 1.0  # of the bad start's codewords: nothing to do with the latents' scale


class Arm(NamedTuple):
    """A quantizer of the study."""

    label: str
    make: Callable[[QuantizerRequest], Quantizer]


def _documents(request: QuantizerRequest, annealing: float) -> VectorQuantizer:
    """As the documents have it: slope from 0.5 to 3 whatever the latents' scale, no jitter, no revival."""
    soft = Soft(steps=request.steps, start=0.5, end=3.0, annealing=annealing, scaled=False)
    return quantizers.table(request, assign=soft, update=BlahutArimoto(jitter=0.0), revival=Never())


def _ba(gamma: float, revival: Revival | None = None) -> Callable[[QuantizerRequest], Quantizer]:
    return lambda request: quantizers.table(
        request,
        assign=Soft(steps=request.steps, gamma=gamma),
        update=BlahutArimoto(),
        revival=revival or quantizers.revival(request),
    )


ARMS: dict[str, Arm] = {
    "vq-ema": Arm("EMA", KINDS["vq-ema"]),
    "vq-ema-norevival": Arm("EMA, no revival", KINDS["vq-ema-norevival"]),
    "vq-ema-fast": Arm("EMA, decay 0.9", lambda request: quantizers.table(request, update=EMA(FAST_DECAY))),
    "ba-documents": Arm("BA as documented, soft throughout", lambda request: _documents(request, 1.0)),
    "ba-documents-hard": Arm("BA as documented, then hard", lambda request: _documents(request, 0.7)),
    "ba": Arm("BA, scaled slope, γ = 1", _ba(1.0)),
    "ba-norevival": Arm("BA, scaled slope, γ = 1, no revival", _ba(1.0, Never())),
    "ba-0": Arm("BA, scaled slope, γ = 0", _ba(0.0)),
    "ba-minus": Arm("BA, scaled slope, γ = −0.5", _ba(-0.5)),
    "gradient": Arm("gradient", KINDS["gradient"]),
    "rotation": Arm("EMA, rotation trick", KINDS["rotation"]),
    "simvq": Arm("SimVQ", KINDS["simvq"]),
    "fsq": Arm("FSQ", KINDS["fsq"]),
}
BASELINE, PLAIN, FAST = "vq-ema", "vq-ema-norevival", "vq-ema-fast"
# They weigh every codeword for every token.
SOFT = ("ba-documents", "ba-documents-hard", "ba", "ba-norevival", "ba-0", "ba-minus")
WITHOUT_START = ("simvq", "fsq")  # their codewords do not begin from data


def build(arm: str, start: Start, request: QuantizerRequest) -> Quantizer:
    """The quantizer of an arm.

    Raises:
        InputError: an unknown arm, or a bad start of one that has no start.
    """
    if arm not in ARMS:
        raise InputError(f"unknown arm {arm!r}; known: {', '.join(ARMS)}")
    if start == "bad" and arm in WITHOUT_START:
        raise InputError(f"{arm} does not begin from data; it has no bad start")
    made = ARMS[arm].make(request)
    if start == "bad":
        assert isinstance(made, VectorQuantizer)
        made.init = Normal(std=BAD_STD)
    return made
