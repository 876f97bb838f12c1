"""How a vector finds its codeword.

An assignment has three parts: the choice in training (`__call__`), which may be random; the choice in eval
(`encode`), which never is; and what it hands to the update (`statistics`), which may be soft. All of them see the
codebook's `Memory` (masses, step, running distortion) and change nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from codebound import arguments, search
from codebound.exact import wide
from codebound.graphs import has_numbers, is_exported, is_recorded
from codebound.quantize.noise import gumbel, token_keys
from codebound.quantize.update import Memory

CHUNK = 2**20  # scores that exist at a time where all codewords of a token are needed: 4 MB
SOFT_CHUNK = 2**18  # the same in float64, passed over several times: 2 MB stay in the cache


class AssignBase(ABC):
    """Deterministic and hard, unless a subclass says otherwise."""

    @abstractmethod
    def encode(
        self, z: Float[Tensor, "n D"], codewords: Float[Tensor, "K D"], memory: Memory
    ) -> Int64[Tensor, " n"]:
        """The choice in eval."""

    def __call__(
        self, z: Float[Tensor, "n D"], codewords: Float[Tensor, "K D"], memory: Memory
    ) -> Int64[Tensor, " n"]:
        """The choice in training."""
        return self.encode(z, codewords, memory)

    def statistics(
        self,
        z: Float[Tensor, "n D"],
        codewords: Float[Tensor, "K D"],
        indices: Int64[Tensor, " n"],
        memory: Memory,
    ) -> tuple[Float[Tensor, " K"], Float[Tensor, "K D"]]:
        """Counts and sums for the update, float64; tokens of index −1 have no part in them."""
        return search.assignment_sums(z, indices, codewords.shape[0])


@dataclass(frozen=True)
class Nearest(AssignBase):
    """The codeword at the least Euclidean distance; the lowest index wins a tie."""

    kind: Literal["nearest"] = "nearest"

    def encode(self, z: Tensor, codewords: Tensor, memory: Memory) -> Tensor:
        return search.nearest(z, codewords)


@dataclass(frozen=True)
class Cosine(AssignBase):
    """The codeword at the least angle, whatever the lengths (DAC, Kumar et al. 2023, §3.2; ViT-VQGAN)."""

    kind: Literal["cosine"] = "cosine"

    def encode(self, z: Tensor, codewords: Tensor, memory: Memory) -> Tensor:
        return search.nearest(_direction(z.detach()), _direction(codewords.detach()))


@dataclass(frozen=True)
class Stochastic(AssignBase):
    """In training codeword j with probability ∝ exp(−|z − c_j|²/temperature); in eval the nearest.

    The Boltzmann distribution of the squared distance (soft VQ; Rose 1998), drawn by the Gumbel-max trick in
    bounded memory. The noise is a function of (seed, step, token): a recomputation or another rank draws the same, and
    equal tokens of one step share their draw. Pass a `generator` for other draws within a step.
    """

    temperature: float = 1.0
    kind: Literal["stochastic"] = "stochastic"

    def __post_init__(self) -> None:
        arguments.number("temperature", self.temperature, above=0)

    def encode(self, z: Tensor, codewords: Tensor, memory: Memory) -> Tensor:
        return search.nearest(z, codewords)

    def __call__(self, z: Tensor, codewords: Tensor, memory: Memory) -> Tensor:
        return _gumbel_max(z.detach(), codewords.detach(), self.temperature, memory.salt)


@dataclass(frozen=True)
class Gumbel(AssignBase):
    """Gumbel-softmax codes (Jang, Gu & Poole 2017): logits −|z − c_j|²/scale, perturbed in training.

    Needs the estimator `Gumbel`, which differentiates the softmax of the very same perturbed logits.
    """

    scale: float = 1.0
    kind: Literal["gumbel"] = "gumbel"

    def __post_init__(self) -> None:
        arguments.number("scale", self.scale, above=0)

    def encode(self, z: Tensor, codewords: Tensor, memory: Memory) -> Tensor:
        return search.nearest(z, codewords)

    def __call__(self, z: Tensor, codewords: Tensor, memory: Memory) -> Tensor:
        return _gumbel_max(z.detach(), codewords.detach(), self.scale, memory.salt)


@dataclass(frozen=True)
class EntropyConstrained(AssignBase):
    """Least |z − c_j|² + weight·length_j, length_j = −log2 of the codeword's share (Chou, Lookabaugh & Gray 1989).

    A popular codeword is cheap in an entropy-coded file, so it wins more than its Voronoi cell. `weight` is the
    price of a bit in squared error: the slope of the operational rate-distortion curve. Shares are of the masses that
    `update=EMA()` keeps, so it needs that update.
    """

    weight: float = 0.1
    kind: Literal["entropy_constrained"] = "entropy_constrained"

    def __post_init__(self) -> None:
        arguments.number("weight", self.weight, least=0)

    def encode(self, z: Tensor, codewords: Tensor, memory: Memory) -> Tensor:
        counts = memory.counts.clamp_min(1e-6)
        length = (counts.sum() / counts).log2()
        # |[z, 0] − [c, √p]|² = |z − c|² + p: the price is one more coordinate, and the search stays as it is.
        price = (self.weight * length).sqrt().to(codewords).unsqueeze(-1)
        return search.nearest(F.pad(z.detach(), (0, 1)), torch.cat([codewords.detach(), price], dim=-1))


@dataclass(frozen=True)
class Soft(AssignBase):
    """Blahut–Arimoto responsibilities q_ij ∝ p_j^γ exp(−slope·|z_i − c_j|²) for the update, hard codes forward.

    The slope is κ·D/(2·d), D the dimension and d the running hard distortion: κ = 1 is the slope at which a
    Gaussian has that distortion. κ rises geometrically from `start` to `end` over `annealing`·`steps` steps;
    after that the statistics are hard. γ = 1 is Blahut–Arimoto (Blahut 1972), γ = 0 deterministic annealing (Rose
    1998), γ < 0 balances the load. Below the critical slope 1/(2λ_max) all codewords merge. With `scaled=False` κ is
    itself the slope, as in descriptions that do not look at the latents' scale. Needs the update `BlahutArimoto`.
    """

    steps: int = 5000
    start: float = 0.5
    end: float = 4.0
    annealing: float = 0.7
    gamma: float = 1.0
    scaled: bool = True
    kind: Literal["soft"] = "soft"

    def __post_init__(self) -> None:
        arguments.whole("steps", self.steps)
        arguments.number("start", self.start, above=0)
        arguments.number("end", self.end, above=0)
        arguments.number("annealing", self.annealing, above=0, most=1)
        arguments.number("gamma", self.gamma)

    def encode(self, z: Tensor, codewords: Tensor, memory: Memory) -> Tensor:
        return search.nearest(z, codewords)

    def is_soft(self, memory: Memory) -> Tensor:
        """Whether this step still anneals."""
        return memory.step < self.annealing * self.steps

    def slope(self, memory: Memory, dim: int) -> Float[Tensor, ""]:
        """The present slope, float64; where it is scaled, infinite before any distortion was seen."""
        dtype = wide(memory.step.device)
        progress = (memory.step.to(dtype) / (self.annealing * self.steps)).clamp(max=1.0)
        kappa = self.start * (self.end / self.start) ** progress
        return kappa * dim / (2.0 * memory.distortion.to(dtype)) if self.scaled else kappa

    def statistics(
        self, z: Tensor, codewords: Tensor, indices: Tensor, memory: Memory
    ) -> tuple[Tensor, Tensor]:
        hard = super().statistics(z, codewords, indices, memory)
        # Before the first update there is no running distortion: that batch is counted hard.
        soft = self.is_soft(memory) & (memory.distortion > 0)
        # A recorded graph can't branch, and on a device the question would wait for the queue.
        if not is_recorded() and has_numbers(soft) and z.is_cpu and not bool(soft):
            return hard
        # In float64, so that the sums do not depend on how a batch was divided.
        dtype = wide(z.device)
        z, codewords = z.detach().to(dtype), codewords.detach().to(dtype)
        slope = self.slope(memory, z.shape[-1]).nan_to_num(posinf=0.0)
        prior = (memory.counts.to(dtype) / memory.counts.sum()).clamp_min(1e-12).log() * self.gamma
        counts, sums = _soft_sums(z, codewords, indices >= 0, prior, slope)
        return torch.where(soft, counts, hard[0]), torch.where(soft, sums, hard[1])


def _soft_sums(
    z: Float[Tensor, "n D"],
    codewords: Float[Tensor, "K D"],
    valid: Bool[Tensor, " n"],
    prior: Float[Tensor, " K"],
    slope: Float[Tensor, ""],
) -> tuple[Float[Tensor, " K"], Float[Tensor, "K D"]]:
    """Counts and sums under q_ij ∝ exp(prior_j − slope·|z_i − c_j|²), float64."""
    # A column of ones beside z: one product gives sums and counts together.
    present = valid.unsqueeze(-1)
    z = z.where(present, 0.0)
    moments = torch.cat([z, present.to(z)], dim=-1)
    # Prior and slope go into the product: every further pass over all pairs would cost as much as it.
    scores, slopes = prior - slope * codewords.square().sum(-1), 2.0 * slope * codewords.T
    total = z.new_zeros(moments.shape[1], len(codewords))
    size = max(1, SOFT_CHUNK // len(codewords))
    for part, moment in zip(_parts(z, size), _parts(moments, size), strict=True):
        total.addmm_(moment.T, torch.addmm(scores, part, slopes).softmax(-1))
    return total[-1], total[:-1].T.contiguous()


Assign = Nearest | Cosine | Stochastic | Gumbel | EntropyConstrained | Soft


def _direction(x: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
    """Vectors of length 1, whatever the lengths of `x`; zero stays zero."""
    # First by the largest coordinate: squares of tiny ones underflow, and F.normalize leaves them as they are. In one
    # layout, as the order of a sum hangs on it.
    largest = x.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    return F.normalize((x / largest).contiguous(), dim=-1)


def _chunks(x: Tensor, codewords: Tensor) -> tuple[Tensor, ...]:
    """Tokens in parts so small that the scores of all codewords fit in `CHUNK` numbers."""
    return _parts(x, max(1, CHUNK // codewords.shape[0]))


def _parts(x: Tensor, size: int) -> tuple[Tensor, ...]:
    """Rows in parts of `size`; all at once in a graph that leaves, where the number of parts would be fixed."""
    return (x,) if is_exported() else x.split(size)


def _scores(z: Tensor, codewords: Tensor) -> Tensor:
    """|z|² − |z − c_j|²: squared distances, negated, up to what all codewords share."""
    return torch.addmm(-codewords.square().sum(-1), z, codewords.T, alpha=2.0)


def _gumbel_max(z: Tensor, codewords: Tensor, scale: float, salt: Tensor) -> Tensor:
    """A draw from softmax(−|z − c|²/scale) for each token: the largest of the logits with Gumbel noise on them."""
    # Centred, for the scores' rounding; the keys are of the tokens as they came.
    centre = codewords.mean(0)
    keys, codes = token_keys(z, salt), codewords - centre
    parts = [
        (_scores(part - centre, codes) / scale + gumbel(key, codes.shape[0])).argmax(-1)
        for part, key in zip(_chunks(z.to(codes), codes), _chunks(keys, codes), strict=True)
    ]
    return torch.cat(parts) if parts else keys
