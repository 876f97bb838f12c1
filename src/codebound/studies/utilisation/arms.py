"""The quantizers that the study compares, and how each begins badly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from codebound.quantize import Quantizer, VectorQuantizer
from codebound.quantize.assign import Soft
from codebound.quantize.init import Normal
from codebound.quantize.revival import Never, Revival
from codebound.quantize.update import EMA, BlahutArimoto
from codebound.recipes import named
from codebound.recipes.named import KINDS, QuantizerRequest

Start = Literal["kmeans", "bad"]
STARTS: dict[Start, str] = {"kmeans": "from k-means", "bad": "from a bad start"}
FAST_DECAY = BlahutArimoto().decay  # BA's codewords follow the latents ten times as fast while it anneals
BAD_STD = 1.0  # of the bad start's codewords: nothing to do with the latents' scale


class Arm(NamedTuple):
    """A quantizer of the study, and its colour in the figures."""

    label: str
    colour: str
    make: Callable[[QuantizerRequest], Quantizer]


def _proposed(annealing: float) -> Callable[[QuantizerRequest], Quantizer]:
    """As the proposal has it: slope from 0.5 to 3 whatever the latents' scale, no jitter, no revival."""

    def make(request: QuantizerRequest) -> Quantizer:
        soft = Soft(steps=request.steps, start=0.5, end=3.0, annealing=annealing, scaled=False)
        return named.table(request, assign=soft, update=BlahutArimoto(jitter=0.0), revival=Never())

    return make


def _scaled(gamma: float, revival: Revival | None = None) -> Callable[[QuantizerRequest], Quantizer]:
    """A slope that follows the latents' distortion."""
    return lambda request: named.table(
        request,
        assign=Soft(steps=request.steps, gamma=gamma),
        update=BlahutArimoto(),
        revival=revival or named.revival(request),
    )


# Names are those in results.json of all runs; hues go together: EMA blue, BA as proposed orange, BA scaled green.
ARMS: dict[str, Arm] = {
    "vq-ema": Arm("EMA", "#0b63a5", KINDS["vq-ema"]),
    "vq-ema-norevival": Arm("EMA, no revival", "#5b9bd5", KINDS["vq-ema-norevival"]),
    "vq-ema-fast": Arm(
        "EMA, decay 0.9", "#aa4499", lambda request: named.table(request, update=EMA(FAST_DECAY))
    ),
    "ba-documents": Arm("BA as proposed, soft", "#c2410c", _proposed(1.0)),
    "ba-documents-hard": Arm("BA as proposed, then hard", "#e39a6b", _proposed(0.7)),
    "ba": Arm("BA, scaled, γ = 1", "#117733", _scaled(1.0)),
    "ba-norevival": Arm("BA, scaled, γ = 1, no revival", "#57b36f", _scaled(1.0, Never())),
    "ba-0": Arm("BA, scaled, γ = 0", "#98cfa5", _scaled(0.0)),
    "ba-minus": Arm("BA, scaled, γ = −0.5", "#7a3fa0", _scaled(-0.5)),
    "gradient": Arm("gradient", "#8a6100", KINDS["gradient"]),
    "rotation": Arm("EMA, rotation trick", "#b3261e", KINDS["rotation"]),
    "simvq": Arm("SimVQ", "#00798c", KINDS["simvq"]),
    "fsq": Arm("FSQ", "#777777", KINDS["fsq"]),
}
BASELINE, PLAIN, FAST = "vq-ema", "vq-ema-norevival", "vq-ema-fast"
# They weigh every codeword for every token.
SOFT = ("ba-documents", "ba-documents-hard", "ba", "ba-norevival", "ba-0", "ba-minus")
WITHOUT_START = ("simvq", "fsq")  # their codewords do not begin from data


def build(arm: str, start: Start, request: QuantizerRequest) -> Quantizer:
    """The quantizer of an arm; from a bad start its codewords are drawn from N(0, I)."""
    quantizer = ARMS[arm].make(request)
    if start == "bad":
        assert isinstance(quantizer, VectorQuantizer)
        quantizer.init = Normal(std=BAD_STD)
    return quantizer
