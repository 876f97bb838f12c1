"""What an audio tokenizer's description says: sizes of its code and of its network."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
)

from codebound.nets.seanet import WIDEST, Seanet
from codebound.nets.spectral import SpectralDecoder
from codebound.sound import mdct
from codebound.sound.frames import MOST_DIM

RATES = (4_000, 192_000)  # that a tokenizer may have
MOST_BLOCK = 512  # frames
MOST_STAGES, MOST_CODEWORDS = 64, 65_536
LARGEST = 4096  # width, units or blocks of a `SpectralDecoder`


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("an odd number is accepted")
    return value


Kernel = Annotated[int, Field(ge=1, le=63), AfterValidator(_odd)]
Strides = Annotated[tuple[Annotated[int, Field(ge=2, le=64)], ...], Field(min_length=1, max_length=8)]


class NetworkSizes(BaseModel):
    """Sizes of a `SpectralDecoder`."""

    width: int = Field(default=160, ge=1, le=LARGEST)
    hidden: int = Field(default=320, ge=1, le=LARGEST)
    blocks: int = Field(default=5, ge=0, le=LARGEST)
    kernel: Kernel = 7


class SeanetSizes(BaseModel):
    """Sizes of a `Seanet`."""

    channels: int = Field(default=16, ge=1, le=WIDEST)
    strides: Strides = (2, 4, 5, 8)
    units: int = Field(default=1, ge=0, le=16)
    causal: bool = True


class NetworkConfig(NetworkSizes):
    """A `SpectralDecoder`, behind a transform of whole numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def built(self, hop: int, dim: int) -> SpectralDecoder:
        """The network, with fresh weights."""
        return SpectralDecoder(hop, dim, **self.model_dump())


class SeanetConfig(SeanetSizes):
    """A `Seanet`, which encodes and decodes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["seanet"] = "seanet"

    @property
    def hop(self) -> int:
        """Samples of a frame."""
        return math.prod(self.strides)

    @property
    def reach(self) -> int:
        """Frames that it looks at, and that a block has at least, whatever its channels."""
        with torch.device("meta"):
            network = Seanet(1, channels=1, strides=self.strides, units=self.units, causal=self.causal)
        return max(*network.encoded, *network.decoded)

    def built(self, dim: int) -> Seanet:
        """The network, with fresh weights."""
        return Seanet(dim, **self.model_dump(exclude={"kind"}))


def _kind(value: Any) -> str:
    """Which network a description is of; the first models named none."""
    named = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return "spectral" if named is None else str(named)


AnyNetwork = Annotated[
    Annotated[NetworkConfig, Tag("spectral")] | Annotated[SeanetConfig, Tag("seanet")], Discriminator(_kind)
]


class AudioConfig(BaseModel):
    """A whole `AudioTokenizer` but its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sample_rate: int = Field(ge=RATES[0], le=RATES[1])
    network: AnyNetwork | None  # before the hop, which must fit it
    hop: int = Field(ge=2, le=mdct.LONGEST)
    dim: int = Field(ge=1, le=MOST_DIM)
    stages: int = Field(ge=1, le=MOST_STAGES)
    codebook_size: int = Field(ge=2, le=MOST_CODEWORDS)
    block: int = Field(ge=1, le=MOST_BLOCK)
    context: int = Field(ge=0, le=MOST_BLOCK)

    @field_validator("hop")
    @classmethod
    def _fits(cls, hop: int, info: Any) -> int:
        """The transform halves a hop; a Seanet's strides make it."""
        network = info.data.get("network")
        if isinstance(network, SeanetConfig) and network.hop != hop:
            raise ValueError(f"the strides' product is {network.hop}, not {hop}")
        if not isinstance(network, SeanetConfig) and hop % 2:
            raise ValueError("an even number is accepted")
        return hop
