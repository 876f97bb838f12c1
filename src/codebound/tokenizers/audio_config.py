"""What an audio tokenizer's description says: sizes of its code and of its network."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
)

from codebound.nets.seanet import Seanet
from codebound.nets.spectral import SpectralDecoder
from codebound.sound import mdct
from codebound.sound.frames import MOST_DIM

RATES = (4_000, 192_000)  # that a tokenizer may have
MOST_BLOCK = 512  # frames


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("an odd number is accepted")
    return value


Kernel = Annotated[int, Field(ge=1, le=63), AfterValidator(_odd)]
Strides = Annotated[tuple[Annotated[int, Field(ge=2, le=64)], ...], Field(min_length=1, max_length=8)]


class NetworkConfig(BaseModel):
    """Sizes of a `SpectralDecoder`, behind a transform of whole numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    width: int = Field(160, ge=1)
    hidden: int = Field(320, ge=1)
    blocks: int = Field(5, ge=0)
    kernel: Kernel = 7

    def built(self, hop: int, dim: int) -> SpectralDecoder:
        """The network, with fresh weights."""
        return SpectralDecoder(hop, dim, **self.model_dump())


class SeanetConfig(BaseModel):
    """Sizes of a `Seanet`, which encodes and decodes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["seanet"] = "seanet"
    channels: int = Field(16, ge=1, le=1024)
    strides: Strides = (2, 4, 5, 8)
    units: int = Field(1, ge=0, le=16)
    causal: bool = True

    @property
    def hop(self) -> int:
        """Samples of a frame."""
        return math.prod(self.strides)

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
    stages: int = Field(ge=1)
    codebook_size: int = Field(ge=2)
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
