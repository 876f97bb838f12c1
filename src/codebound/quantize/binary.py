"""Binary codes: LFQ and BSQ. One bit per coordinate, its sign; the index is the binary number of the bits."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from codebound import arguments
from codebound.graphs import constant
from codebound.quantize import habits
from codebound.quantize.code_entropy import codebook_entropy, sample_entropy
from codebound.quantize.habits import answered
from codebound.quantize.scalar import ScalarQuantizer

MAX_BITS = 62
TINY = 1e-6  # the largest coordinate of vectors without a direction
MAX_GROUP_BITS = 20  # 2^20 mean probabilities: 4 MB
LARGEST = 1e18  # error of a coordinate: the sum of the squares of all stays within float32


class BinaryQuantizer(ScalarQuantizer):
    """What LFQ and BSQ share: codewords ±scale, the first coordinate the highest bit, and three losses.

    With the soft code p(c|z) = softmax_c(−|y − c|²/temperature), y what the gradient passes through, bit i is 1 with
    probability σ(4·scale·y_i/temperature), independently given z. Means are over valid tokens, entropies in nats:

        commitment          E |y − sg(c)|², summed over coordinates
        entropy_sample      E H(p(c|z)): exact, a sum over bits
        entropy_codebook    H(E p(c|z)): exact within groups of at most `group_bits` bits, summed over groups

    The sum over groups is an upper bound of the joint entropy (independence), equal to it if `group_bits` ≥ `bits`.
    Cost 2·N·2^g flops per group of g bits, memory O(N·bits + 2^g): no N × 2^g array. `E p` is over this forward's
    tokens alone: over part of a batch, as on each rank, it is another (lower) entropy than over all of it.
    `loss` = commitment_weight·commitment + entropy_weight·(entropy_sample − diversity·entropy_codebook). The
    entropies regularise training: they are absent in eval, and where their weight is 0.
    """

    def __init__(
        self,
        bits: int,
        scale: float,
        entropy_weight: float,
        diversity: float,
        commitment_weight: float,
        temperature: float,
        group_bits: int,
    ) -> None:
        # Refuse what is out of range, by name.
        arguments.whole("bits", bits, most=MAX_BITS)
        arguments.whole("group_bits", group_bits, most=MAX_GROUP_BITS)
        for name, value in (("scale", scale), ("temperature", temperature)):
            arguments.number(name, value, above=0)
        weights = {
            "entropy_weight": entropy_weight,
            "diversity": diversity,
            "commitment_weight": commitment_weight,
        }
        for name, value in weights.items():
            arguments.number(name, value, least=0)

        # The losses by name; the codebook's entropy has a negative weight, as it is to be raised.
        super().__init__(
            bits,
            2**bits,
            {
                "commitment": commitment_weight,
                "entropy_sample": entropy_weight,
                "entropy_codebook": -entropy_weight * diversity,
            },
        )

        # The arguments, by their own names: a description is read off them.
        self.bits, self.scale = bits, scale
        self.entropy_weight, self.diversity = entropy_weight, diversity
        self.commitment_weight = commitment_weight
        self.temperature, self.group_bits = temperature, group_bits

    def _soft(self, z: Tensor) -> Tensor:
        return z

    def _logits(self, soft: Tensor) -> Tensor:
        return soft * (4.0 * self.scale / self.temperature)

    def _quantize(self, z: Tensor, sample: bool, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        soft = self._soft(z)
        return soft, self._index(z > 0)  # z's sign and not soft's, which may underflow

    def _powers(self, device: torch.device) -> Int64[Tensor, " bits"]:
        # Powers and not shifts, which ONNX has for unsigned integers alone.
        return constant(tuple(2**i for i in reversed(range(self.bits))), device, torch.int64)

    def _index(self, bits: Tensor) -> Tensor:
        return (bits.to(torch.int64) * self._powers(bits.device)).sum(-1)

    def _codewords(self, indices: Tensor) -> Tensor:
        bits = indices.unsqueeze(-1) // self._powers(indices.device) % 2
        return (2 * bits - 1).to(torch.float32) * self.scale

    def _losses(self, soft: Tensor, codewords: Tensor, valid: Tensor) -> dict[str, Tensor]:
        # Means over valid tokens.
        weights = valid.to(soft.dtype) / valid.sum().clamp_min(1)
        errors = torch.where(valid.unsqueeze(-1), soft - codewords, 0.0)
        squares = errors.clamp(-LARGEST, LARGEST).square()
        losses = {"commitment": (squares.sum(-1) * weights).sum()}

        # Entropies regularise training, and cost time: none in eval or where they have no weight.
        if self.training:
            logits = self._logits(soft)
            if self.loss_weights["entropy_sample"]:
                losses["entropy_sample"] = sample_entropy(logits, weights)
            if self.loss_weights["entropy_codebook"]:
                losses["entropy_codebook"] = codebook_entropy(logits, weights, self.group_bits)
        return losses

    def extra_repr(self) -> str:
        names = ("bits", "scale", "entropy_weight", "diversity", "commitment_weight", "temperature")
        settings = ", ".join(f"{name}={getattr(self, name):g}" for name in names)
        return f"{settings}, group_bits={self.group_bits}"


class LFQ(BinaryQuantizer):
    """Lookup-free quantization (Yu et al. 2023, "Language model beats diffusion", MAGVIT-v2, §3.1).

        z_q = scale·sign(z),   sign(0) = −1,   ∂z_q/∂z = I (straight through)

    Index: Σ_i 2^(bits−i) [z_i > 0], the first coordinate the highest bit, as in Open-MAGVIT2 and
    vector-quantize-pytorch (the paper's eq. 3 counts from the other end). Losses: see `BinaryQuantizer`; entropies
    are eqs. 4 and 5 with −|z − c|² as logits.

    Args:
        bits: coordinates and bits, 1 … 62. dim = bits, K = 2^bits.
        scale: of the codewords ±scale.
        entropy_weight: of entropy_sample − diversity·entropy_codebook, 0.1 in the paper.
        diversity: γ, the share of the codebook's entropy.
        commitment_weight: of |z − sg(z_q)|².
        temperature: of the soft code; 0.01 is the usual inverse temperature of 100.
        group_bits: codebook entropy exact for up to so many bits, 1 … 20.
        stochastic: bits drawn in training, 1 with the probability σ(4·scale·z/temperature) of the soft code
            (straight-through Bernoulli; temperature = 4·scale gives σ(z)), from `generator`; in eval the sign.

    In the commitment a coordinate's error counts as at most 10¹⁸, whose square is within float32; beyond that it has
    no gradient.

    Raises:
        InputError: an argument out of its range.
    """

    @answered(habits.BINARY)
    def __init__(
        self,
        bits: int,
        *,
        scale: float = 1.0,
        entropy_weight: float = 0.1,
        diversity: float = 1.0,
        commitment_weight: float = 0.25,
        temperature: float = 0.01,
        group_bits: int = 18,
        stochastic: bool = False,
    ) -> None:
        super().__init__(bits, scale, entropy_weight, diversity, commitment_weight, temperature, group_bits)
        self.stochastic = stochastic

    def _quantize(self, z: Tensor, sample: bool, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        if not (sample and self.stochastic):
            return super()._quantize(z, sample, generator)
        uniform = torch.rand(z.shape, dtype=z.dtype, device=z.device, generator=generator)
        return z, self._index(uniform < self._logits(z.detach()).sigmoid())

    def declared_jacobian(self, z: Float[Tensor, "n D"]) -> Float[Tensor, "n D D"]:
        return torch.eye(self.dim, dtype=z.dtype, device=z.device).expand(z.shape[0], -1, -1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, stochastic={self.stochastic}"


class BSQ(BinaryQuantizer):
    """Binary spherical quantization (Zhao, Xiong & Krähenbühl 2024, "Image and video tokenization with BSQ", §4).

        u = z/|z|,   z_q = sign(u)/√bits,   sign(0) = −1,   ∂z_q/∂z = (I − u uᵀ)/|z| (straight through to u)

    Both u and z_q have length 1. Index as in LFQ. Losses: see `BinaryQuantizer`, with u in the place of z and scale
    1/√bits, and the codebook's entropy by default from independent bits, as in the paper. A vector whose largest
    coordinate is under 10⁻⁶ has its code but no gradient, which would be of order 1/|z|; the zero vector has u = 0.

    Args:
        bits: coordinates and bits, 1 … 62. dim = bits, K = 2^bits.
        entropy_weight: of entropy_sample − diversity·entropy_codebook.
        diversity: γ, the share of the codebook's entropy.
        commitment_weight: of |u − sg(z_q)|², which is bounded; 0 in the authors' settings.
        temperature: of the soft code, 1 in the authors' settings.
        group_bits: codebook entropy exact within groups of so many bits, 1 … 20.

    Raises:
        InputError: an argument out of its range.
    """

    @answered(habits.BINARY)
    def __init__(
        self,
        bits: int,
        *,
        entropy_weight: float = 0.1,
        diversity: float = 1.0,
        commitment_weight: float = 0.0,
        temperature: float = 1.0,
        group_bits: int = 1,
    ) -> None:
        arguments.whole("bits", bits, most=MAX_BITS)
        super().__init__(
            bits, bits**-0.5, entropy_weight, diversity, commitment_weight, temperature, group_bits
        )

    def _soft(self, z: Tensor) -> Tensor:
        largest = z.detach().abs().amax(-1, keepdim=True)
        # A constant factor changes neither u nor its gradient, and keeps |z|² from over- and underflow.
        y = torch.where(largest < TINY, z.detach(), z) / torch.where(largest > 0, largest, 1.0)
        return y * y.square().sum(-1, keepdim=True).clamp_min(1.0).rsqrt()

    def declared_jacobian(self, z: Float[Tensor, "n D"]) -> Float[Tensor, "n D D"]:
        length = z.norm(dim=-1)[:, None, None]
        u = self._soft(z)
        across = torch.eye(self.dim, dtype=z.dtype, device=z.device) - u.unsqueeze(-1) * u.unsqueeze(-2)
        tiny = z.abs().amax(-1)[:, None, None] < TINY
        return torch.where(tiny, 0.0, across / torch.where(tiny, 1.0, length))
