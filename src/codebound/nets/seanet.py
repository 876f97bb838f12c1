"""Sound to latents and back by strided convolutions over samples (SEANet: Tagliasacchi et al. 2020; EnCodec: Défossez
et al. 2022, §3.1, whose LSTM is left out: what it remembers has no end, so that no block could be decoded by itself).

What a frame depends on is known in frames: with so many around it, a piece gives what the whole gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv_transpose1d, elu, pad
from torch.nn.utils.parametrizations import weight_norm

from codebound import arguments
from codebound.errors import InputError

ENDS = 7  # taps of the first and of the last convolution
WIDEST = 1024  # channels at the samples' rate, and parts of a latent
MOST_CHANNELS = 16 * WIDEST  # behind the last stride


class Reach(NamedTuple):
    """How many frames before and after a frame are looked at."""

    before: int
    after: int


class Strided(nn.Conv1d):
    """A convolution from n samples to n / stride, causal or with as many zeros on both sides."""

    def __init__(self, into: int, out: int, kernel: int, stride: int = 1, *, causal: bool) -> None:
        super().__init__(into, out, kernel, stride)
        missing = kernel - stride
        after = 0 if causal else missing // 2
        self.sides = (missing - after, after)
        _begin(self, into * kernel)

    def forward(self, input: Float[Tensor, "b c n"]) -> Float[Tensor, "b d m"]:
        return conv1d(pad(input, self.sides), self.weight, self.bias, self.stride)

    def seen(self, low: int, high: int) -> tuple[int, int]:
        """The first and the last input that outputs low … high depend on."""
        first = low * self.stride[0] - self.sides[0]
        return first, high * self.stride[0] - self.sides[0] + self.kernel_size[0] - 1


class Widened(nn.ConvTranspose1d):
    """A transposed convolution from n samples to n · stride, each from two: causal, or cut equally on both sides."""

    def __init__(self, into: int, out: int, stride: int, *, causal: bool) -> None:
        super().__init__(into, out, 2 * stride, stride)
        self.cut = 0 if causal else stride // 2
        _begin(self, 2 * into)

    def forward(
        self, input: Float[Tensor, "b c n"], output_size: list[int] | None = None
    ) -> Float[Tensor, "b d m"]:
        wide = conv_transpose1d(input, self.weight, self.bias, self.stride)
        return wide[..., self.cut : self.cut + input.shape[-1] * self.stride[0]]

    def seen(self, low: int, high: int) -> tuple[int, int]:
        """The first and the last input that outputs low … high depend on."""
        stride, kernel = self.stride[0], self.kernel_size[0]
        return -(-(low + self.cut - kernel + 1) // stride), (high + self.cut) // stride


class ResidualUnit(nn.Module):
    """x + W₁ σ(W₃ σ(x)), σ = ELU: three taps over half of the channels, then one."""

    def __init__(self, width: int, *, causal: bool) -> None:
        super().__init__()
        inner = max(width // 2, 1)
        wide = Strided(width, inner, 3, causal=causal)
        self.sides = wide.sides
        self.wide = weight_norm(wide)
        self.narrow = weight_norm(Strided(inner, width, 1, causal=causal))

    def forward(self, x: Float[Tensor, "b c n"]) -> Float[Tensor, "b c n"]:
        return x + self.narrow(elu(self.wide(elu(x))))

    def seen(self, low: int, high: int) -> tuple[int, int]:
        """As of its first convolution."""
        return low - self.sides[0], high + self.sides[1]


class Rectified(nn.ELU):
    """An ELU, which looks at nothing around."""

    def seen(self, low: int, high: int) -> tuple[int, int]:
        """The same samples."""
        return low, high


class Seanet(nn.Module):
    """An encoder and its mirror.

    ```
    x [b n] ──7 taps──▶ [residual units, ELU, stride s] × strides ──▶ ELU, 7 taps ──▶ z [b t d],  t = n / Π s
    z ──7 taps──▶ [ELU, widened by s, residual units] × strides, reversed ──▶ ELU, 7 taps ──▶ x̂ [b n]
    ```

    Channels double with each stride. `encode` and `decode` begin with silence and end with it.

    Args:
        dim: of a latent.
        channels: at the samples' rate.
        strides: first to last; their product is the hop.
        units: residual ones before each stride.
        causal: a latent looks at no sample after its hop, and a sample at no latent after its own.

    Attributes:
        hop: samples of a frame.
        encoded, decoded: what a latent sees in hops of samples, and a hop of samples in latents.

    Raises:
        InputError: an argument out of its range.
    """

    def __init__(
        self,
        dim: int,
        *,
        channels: int = 16,
        strides: Sequence[int] = (2, 4, 5, 8),
        units: int = 1,
        causal: bool = True,
    ) -> None:
        super().__init__()
        arguments.whole("dim", dim, most=WIDEST)
        arguments.whole("channels", channels, most=WIDEST)
        arguments.whole("units", units, least=0, most=16)
        if not isinstance(strides, Sequence):
            raise InputError(f"strides are {strides!r}; a sequence of ints in 2 … 64 is accepted")
        for stride in strides:
            arguments.whole("strides", stride, least=2, most=64)
        if not strides or channels << len(strides) > MOST_CHANNELS:
            raise InputError(
                f"strides are {list(strides)}: at least one is accepted, and up to {MOST_CHANNELS} channels after them"
            )
        self.hop, self.dim, self.causal = math.prod(strides), dim, causal

        # Down: units at each width, then a stride that doubles it.
        width = channels
        down: list[nn.Module] = [weight_norm(Strided(1, width, ENDS, causal=causal))]
        for stride in strides:
            down += [ResidualUnit(width, causal=causal) for _ in range(units)]
            down += [
                Rectified(),
                weight_norm(Strided(width, 2 * width, 2 * stride, stride, causal=causal)),
            ]
            width *= 2
        down += [Rectified(), weight_norm(Strided(width, dim, ENDS, causal=causal))]

        # Up: the same mirrored.
        up: list[nn.Module] = [weight_norm(Strided(dim, width, ENDS, causal=causal))]
        for stride in reversed(strides):
            up += [Rectified(), weight_norm(Widened(width, width // 2, stride, causal=causal))]
            width //= 2
            up += [ResidualUnit(width, causal=causal) for _ in range(units)]
        up += [Rectified(), weight_norm(Strided(width, 1, ENDS, causal=causal))]
        self.down, self.up = nn.Sequential(*down), nn.Sequential(*up)

        # Backwards from a frame to the samples that it sees, and from a hop of samples to the frames.
        low, high = _seen(self.down, 0, 0)
        self.encoded = Reach(-(low // self.hop), high // self.hop)
        low, high = _seen(self.up, 0, self.hop - 1)
        self.decoded = Reach(-low, high)

    def encode(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "b t d"]:
        """Latents of sounds in [−1, 1] of whole hops."""
        return self.down(x[:, None]).transpose(1, 2)

    def decode(self, z: Float[Tensor, "b t d"]) -> Float[Tensor, "b n"]:
        """Samples of latents, a hop of each."""
        return self.up(z.transpose(1, 2))[:, 0]


def _begin(layer: nn.Conv1d | nn.ConvTranspose1d, inputs: int) -> None:
    """Outputs as large as the inputs that each is a sum of, and no biases: sound comes through from the first step."""
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _seen(layers: nn.Sequential, low: int, high: int) -> tuple[int, int]:
    """The first and the last input that outputs low … high of a stack depend on."""
    for layer in reversed(list(layers)):
        assert isinstance(layer, Strided | Widened | ResidualUnit | Rectified)
        low, high = layer.seen(low, high)
    return low, high
