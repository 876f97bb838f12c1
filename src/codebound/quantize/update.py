"""How codewords move: pure functions of (state, counts, sums). Tensors may carry leading runs axes `*m`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from codebound import arguments
from codebound.exact import wide
from codebound.quantize.noise import mix, normal


class CodebookState(NamedTuple):
    """Codewords and the masses behind them; whatever replaces a codeword replaces its mass too."""

    codewords: Float[Tensor, "*m K D"]
    counts: Float[Tensor, "*m K"]
    sums: Float[Tensor, "*m K D"]

    @staticmethod
    def fresh(codewords: Float[Tensor, "*m K D"]) -> CodebookState:
        """A state in which each codeword carries the mass of one token."""
        counts = codewords.new_ones(codewords.shape[:-1])
        return CodebookState(codewords, counts, codewords.clone())

    def replace(self, rows: Tensor, codewords: Tensor, counts: Tensor) -> CodebookState:
        """The state with the given rows `[r]` of a single codebook replaced, masses included."""
        return CodebookState(
            self.codewords.index_copy(0, rows, codewords),
            self.counts.index_copy(0, rows, counts),
            self.sums.index_copy(0, rows, codewords * counts.unsqueeze(-1)),
        )


class Memory(NamedTuple):
    """What a codebook remembers, as assignments and updates may read it."""

    counts: Float[Tensor, " K"]  # the masses behind the codewords
    step: Int64[Tensor, ""]  # number of updates so far
    distortion: Float[Tensor, ""]  # running hard squared error per token; 0 before the first update
    salt: Int64[Tensor, ""]  # one for each (seed, step): where this step's noise begins
    annealing: Bool[Tensor, ""]  # whether a soft assignment is still in its soft phase


@dataclass(frozen=True)
class EMA:
    """Running means of the cells: N ← γN + (1−γ)n, m ← γm + (1−γ)Σz, c = m/N (VQ-VAE, appendix A.1).

    `smoothing` is the Laplace ε: N is replaced by (N + ε)·ΣN/(ΣN + Kε). As ε does not decay while m does,
    plain smoothing pulls an unused codeword into the origin after ln(N₀/ε)/(−ln γ) steps; so a codeword whose
    count has fallen under 100 ε stays where it is until it is hit again or revived.
    """

    decay: float = 0.99
    smoothing: float = 1e-5
    kind: Literal["ema"] = "ema"
    trains: ClassVar[bool] = False

    def __post_init__(self) -> None:
        arguments.number("decay", self.decay, least=0, below=1)
        arguments.number("smoothing", self.smoothing, least=0)

    def step(
        self,
        state: CodebookState,
        counts: Float[Tensor, "*m K"],
        sums: Float[Tensor, "*m K D"],
        memory: Memory | None = None,
    ) -> CodebookState:
        # The running sums, in float64: n of tokens, m of vectors.
        old = state.codewords
        dtype = wide(old.device)
        n = state.counts.to(dtype).mul(self.decay).add_(counts, alpha=1 - self.decay)
        m = state.sums.to(dtype).mul(self.decay).add_(sums, alpha=1 - self.decay)

        # Smoothed masses; codewords whose mass has decayed stay where they are, so dividing by 0 does no harm.
        total, k = n.sum(-1, keepdim=True), n.shape[-1]
        smoothed = (n + self.smoothing) * (total / (total + k * self.smoothing))
        moved = (m / smoothed.unsqueeze(-1)).to(old.dtype)
        alive = (n > 100 * self.smoothing).unsqueeze(-1)
        return CodebookState(torch.where(alive, moved, old), n.to(old.dtype), m.to(old.dtype))


@dataclass(frozen=True)
class Gradient:
    """Codewords are a parameter; an optimizer moves them along the gradient of the codebook loss."""

    kind: Literal["gradient"] = "gradient"
    trains: ClassVar[bool] = True

    def step(
        self,
        state: CodebookState,
        counts: Float[Tensor, "*m K"],
        sums: Float[Tensor, "*m K D"],
        memory: Memory | None = None,
    ) -> CodebookState:
        return state


@dataclass(frozen=True)
class Frozen:
    """Codewords stay as they were initialised."""

    kind: Literal["frozen"] = "frozen"
    trains: ClassVar[bool] = False

    def step(
        self,
        state: CodebookState,
        counts: Float[Tensor, "*m K"],
        sums: Float[Tensor, "*m K D"],
        memory: Memory | None = None,
    ) -> CodebookState:
        return state


@dataclass(frozen=True)
class BlahutArimoto:
    """Soft centroids and their marginal by EMA: N ← ρN + (1−ρ)Σq, m ← ρm + (1−ρ)Σq z, c = m/N, p = N/ΣN.

    The codeword step of Blahut's algorithm with a reproduction alphabet that moves (Rose 1994, "A mapping approach
    to rate-distortion computation"); the responsibilities are `assign.Soft`'s. While it anneals, ρ is `decay` and
    codewords are shaken by N(0, (`jitter`²·d/D) I), d the running distortion: codewords that have merged are a
    saddle point, and only noise parts them at the next critical slope. After that it is EMA with `hard_decay`.
    """

    decay: float = 0.9
    hard_decay: float = 0.99
    jitter: float = 0.05
    kind: Literal["blahut_arimoto"] = "blahut_arimoto"
    trains: ClassVar[bool] = False

    def __post_init__(self) -> None:
        arguments.number("decay", self.decay, least=0, below=1)
        arguments.number("hard_decay", self.hard_decay, least=0, below=1)
        arguments.number("jitter", self.jitter, least=0)

    def step(
        self,
        state: CodebookState,
        counts: Float[Tensor, " K"],
        sums: Float[Tensor, "K D"],
        memory: Memory | None = None,
    ) -> CodebookState:
        # After annealing it is plain EMA.
        if memory is None or not bool(memory.annealing):
            return EMA(self.hard_decay).step(state, counts, sums)

        # While it anneals, codewords that have merged are shaken apart.
        soft = EMA(self.decay).step(state, counts, sums)
        rows, dim = soft.codewords.shape
        keys = mix(mix(memory.salt) ^ torch.arange(rows, device=memory.salt.device))
        shake = normal(keys, dim) * (self.jitter * (memory.distortion / dim).sqrt())

        # Sums follow the codewords, so that the next mean is taken from where they are.
        codewords = soft.codewords + shake.to(soft.codewords)
        return CodebookState(codewords, soft.counts, codewords * soft.counts.unsqueeze(-1))


Update = EMA | Gradient | Frozen | BlahutArimoto


def codebook_gradient(
    codewords: Float[Tensor, "*m K D"], counts: Float[Tensor, "*m K"], sums: Float[Tensor, "*m K D"]
) -> Float[Tensor, "*m K D"]:
    """Gradient of the codebook loss mean‖sg(z) − c‖² in closed form: 2(N_j c_j − m_j)/B.

    What autograd finds for `Gradient`, without the graph: the studies train many runs at once with it.
    """
    batch = counts.sum(-1, keepdim=True).clamp_min(1.0).unsqueeze(-1)
    return ((counts.unsqueeze(-1) * codewords - sums) * (2.0 / batch)).to(codewords.dtype)
