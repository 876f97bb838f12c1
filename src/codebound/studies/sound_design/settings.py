"""What can be set in the study of sound designs, and its arms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from codebound import config
from codebound.runs import audio

Loss = Literal["spectral", "complex", "both", "stft", "stft-period", "seanet"]
BOTH = {"complex": 4.0, "mel": 0.1}
AGAINST = {**BOTH, "adversarial": 0.05, "features": 0.1, "begin": 0.3}
LOSSES: Mapping[Loss, Mapping[str, Any]] = {
    "spectral": {"complex": 0.0, "magnitude": 4.0, "mel": 0.1},
    "complex": {"complex": 4.0, "mel": 0.0},
    "both": BOTH,
    "stft": {**AGAINST, "discriminators": ("stft",)},
    "stft-period": {**AGAINST, "discriminators": ("stft", "period")},
    "seanet": {**BOTH, "network": "seanet"},
}
HOP = math.prod(audio.Settings().strides)  # of the SEANet
LABELS: Mapping[str, str] = {
    "none": "no network: the plain inverse",
    "spectral": "magnitudes and log-mel",
    "complex": "complex spectra",
    "both": "complex spectra and log-mel",
    "stft": "both, against spectra",
    "stft-period": "both, against spectra and periods",
    "seanet": "both, a SEANet in place of the transform",
}


class Settings(config.Settings):
    """All that decides the study's numbers but the sound itself.

    Attributes:
        bits: nominal ones of a frame, for each of which codes are compared; up to 16 one table stands among them.
        stages, codebook_size: of the codes that decoders are trained on.
        losses: arms of the decoder.
        steps, batch_size, seconds: of each arm; crops of so many seconds.
        fit_frames: that transform and codebooks are fitted to.
        width, hidden, blocks: of the decoder's network; channels: of the SEANet.
        clips: held-out recordings.
        listeners: PESQ and STOI, too.
    """

    CHOOSES: ClassVar = frozenset({"seeds", "losses"})

    data: str = "speech"
    sample_rate: int = Field(default=16_000, ge=4_000, le=192_000)
    hop: int = Field(default=320, ge=8, le=4096, multiple_of=2)
    dim: int = Field(default=64, ge=2, le=128)
    seeds: int = Field(default=3, ge=1)
    bits: tuple[Annotated[int, Field(ge=2, le=400)], ...] = (10, 32, 64)
    stages: int = Field(default=8, ge=1, le=64)
    codebook_size: int = Field(default=256, ge=4, le=65536)
    iterations: int = Field(default=8, ge=1)
    losses: tuple[Loss, ...] = tuple(LOSSES)
    steps: int = Field(default=300, ge=1)
    batch_size: int = Field(default=4, ge=1)
    seconds: float = Field(default=1.5, gt=0, le=60)
    fit_frames: int = Field(default=10_000, ge=16)
    width: int = Field(default=160, ge=1)
    hidden: int = Field(default=320, ge=1)
    blocks: int = Field(default=5, ge=1)
    channels: int = Field(default=16, ge=1)
    clips: int = Field(default=4, ge=1)
    listeners: bool = True

    @model_validator(mode="after")
    def _some(self) -> Settings:
        if not self.bits and not self.losses:
            raise ValueError("bits or losses: something to compare is needed")
        if "seanet" in self.losses and self.hop != HOP:
            raise ValueError(f"hop is {self.hop}; with the arm seanet {HOP} is accepted")
        size = self.codebook_size
        if size & (size - 1):
            raise ValueError(f"codebook_size is {size}; powers of two are accepted, whose bits are whole")
        return self
