"""How a gradient passes the quantizer.

Each estimator declares the Jacobian ∂z_q/∂z that back-propagation sees, as a function of the token; the contract
checks it by autograd. In eval the value is always the codeword, exactly; in training too, but for `NSVQ`, `DiVeQ`
and soft `Gumbel`, whose point is that it is not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from codebound import arguments
from codebound.exact import wide
from codebound.graphs import is_exported
from codebound.quantize.assign import CHUNK
from codebound.quantize.noise import gumbel, normal, token_keys
from codebound.quantize.update import Memory


class Choice(NamedTuple):
    """What was chosen from, for estimators that look beyond the chosen codeword."""

    codewords: Float[Tensor, "K D"]
    memory: Memory
    scale: float = 1.0  # of the assignment's logits −|z − c|²/scale


class EstimatorBase(ABC):
    """From tokens and their codewords to reproductions that carry a gradient."""

    @abstractmethod
    def __call__(
        self, z: Float[Tensor, "n D"], chosen: Float[Tensor, "n D"], choice: Choice
    ) -> Float[Tensor, "n D"]:
        """Reproductions of `z`, whose codewords are `chosen`."""

    @abstractmethod
    def jacobian(
        self, z: Float[Tensor, "n D"], chosen: Float[Tensor, "n D"], choice: Choice
    ) -> Float[Tensor, "n D D"]:
        """∂z_q/∂z that back-propagation sees, per token, codewords held."""


@dataclass(frozen=True)
class StraightThrough(EstimatorBase):
    """The gradient passes unchanged: ∂z_q/∂z = I (Bengio, Léonard & Courville 2013; VQ-VAE, eq. 3)."""

    kind: Literal["straight_through"] = "straight_through"

    def __call__(self, z: Tensor, chosen: Tensor, choice: Choice) -> Tensor:
        return _with_value(chosen, z)

    def jacobian(self, z: Tensor, chosen: Tensor, choice: Choice) -> Tensor:
        return _eye(z)


@dataclass(frozen=True)
class StopGradient(EstimatorBase):
    """No gradient reaches the encoder through the reproduction: ∂z_q/∂z = 0; only the commitment moves it."""

    kind: Literal["stop_gradient"] = "stop_gradient"

    def __call__(self, z: Tensor, chosen: Tensor, choice: Choice) -> Tensor:
        return chosen.detach()

    def jacobian(self, z: Tensor, chosen: Tensor, choice: Choice) -> Tensor:
        return torch.zeros_like(_eye(z))


@dataclass(frozen=True)
class Rotation(EstimatorBase):
    """The rotation and scaling that take z to its codeword, held constant (Fifty et al. 2024, eq. 4).

    ∂z_q/∂z = (|c|/|z|)·(I − 2rrᵀ + 2ĉẑᵀ), r = (ẑ + ĉ)/|ẑ + ĉ|. Where the scale exceeds `max_scale` (z near the
    origin), or z and c point opposite ways or have no direction, the map is not defined or explodes: there the
    gradient passes unchanged.
    """

    max_scale: float = 10.0
    kind: Literal["rotation"] = "rotation"

    def __post_init__(self) -> None:
        arguments.number("max_scale", self.max_scale, least=1)

    def __call__(self, z: Tensor, chosen: Tensor, choice: Choice) -> Tensor:
        scale, r, from_z, to_c, safe = self._parts(z.detach(), chosen.detach())
        turned = z - 2 * r * (r * z).sum(-1, keepdim=True) + 2 * to_c * (from_z * z).sum(-1, keepdim=True)
        return _with_value(chosen, torch.where(safe, scale * turned, z))

    def jacobian(self, z: Tensor, chosen: Tensor, choice: Choice) -> Tensor:
        scale, r, from_z, to_c, safe = self._parts(z, chosen)
        turn = _eye(z) - 2 * _outer(r, r) + 2 * _outer(to_c, from_z)
        return torch.where(safe.unsqueeze(-1), scale.unsqueeze(-1) * turn, _eye(z))

    def _parts(self, z: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        tiny = torch.finfo(z.dtype).tiny
        length_z, length_c = (x.norm(dim=-1, keepdim=True).clamp_min(tiny) for x in (z, c))
        from_z, to_c = z / length_z, c / length_c
        middle = from_z + to_c
        length = middle.norm(dim=-1, keepdim=True)
        scale = length_c / length_z
        safe = (scale <= self.max_scale) & (length_c > tiny) & (length > 1e-3)
        return scale, middle / length.clamp_min(1e-3), from_z, to_c, safe


@dataclass(frozen=True)
class Projection(EstimatorBase):
    """The gradient of projecting z on the line of its codeword: ∂z_q/∂z = ccᵀ/|c|²; I where c = 0."""

    kind: Literal["projection"] = "projection"

    def __call__(self, z: Tensor, chosen: Tensor, choice: Choice) -> Tensor:
        unit, safe = self._direction(chosen.detach())
        return _with_value(chosen, torch.where(safe, unit * (unit * z).sum(-1, keepdim=True), z))

    def jacobian(self, z: Tensor, chosen: Tensor, choice: Choice) -> Tensor:
        unit, safe = self._direction(chosen)
        return torch.where(safe.unsqueeze(-1), _outer(unit, unit), _eye(z))

    def _direction(self, c: Tensor) -> tuple[Tensor, Tensor]:
        tiny = torch.finfo(c.dtype).tiny
        length = c.norm(dim=-1, keepdim=True)
        return c / length.clamp_min(tiny), length > tiny


@dataclass(frozen=True)
class NSVQ(EstimatorBase):
    """Noise in place of the error, of equal length: z + |z − c|·v/|v|, v ~ N(0, I) (Vali & Bäckström 2022, eq. 6).

    In training the value is not the codeword but as far from z; the length carries a gradient to the encoder and,
    where codewords are trained, to the codebook.
    """

    kind: Literal["nsvq"] = "nsvq"

    def __call__(self, z: Tensor, chosen: Tensor, choice: Choice) -> Tensor:
        return z + _distance(z, chosen) * self._direction(z, choice)

    def jacobian(self, z: Tensor, chosen: Tensor, choice: Choice) -> Tensor:
        return _eye(z) + _outer(self._direction(z, choice), _unit(z - chosen))

    def _direction(self, z: Tensor, choice: Choice) -> Tensor:
        return _unit(normal(token_keys(z, choice.memory.salt), z.shape[-1]).to(z))


@dataclass(frozen=True)
class DiVeQ(EstimatorBase):
    """The error's length times a fixed direction near the error's: z + |z − c|·sg(u/|u|), u = c − z + std·v.

    Vali, Bäckström & Solin 2025, "DiVeQ: differentiable vector quantization using the reparameterization trick".
    For std → 0 the value is the codeword, and the length carries the gradient.
    """

    std: float = 0.01
    kind: Literal["diveq"] = "diveq"

    def __post_init__(self) -> None:
        arguments.number("std", self.std, least=0)

    def __call__(self, z: Tensor, chosen: Tensor, choice: Choice) -> Tensor:
        return z + _distance(z, chosen) * self._direction(z, chosen, choice)

    def jacobian(self, z: Tensor, chosen: Tensor, choice: Choice) -> Tensor:
        return _eye(z) + _outer(self._direction(z, chosen, choice), _unit(z - chosen))

    def _direction(self, z: Tensor, chosen: Tensor, choice: Choice) -> Tensor:
        noise = normal(token_keys(z, choice.memory.salt), z.shape[-1]).to(z)
        return _unit((chosen - z).detach() + self.std * noise)


@dataclass(frozen=True)
class Gumbel(EstimatorBase):
    """Through the softmax of the perturbed logits the assignment drew from, at an annealed temperature τ.

    Jang, Gu & Poole 2017. y = softmax((−|z − c_j|²/scale + g_j)/τ); the value is Σ y_j c_j if soft, the codeword if
    `hard`, and the gradient is of Σ y_j c_j in both. τ falls geometrically from `start` to `end` over `steps`.

    The last bits of a soft value may depend on how many rows come along, as those of a product of matrices do.
    """

    hard: bool = True
    start: float = 1.0
    end: float = 0.1
    steps: int = 5000
    kind: Literal["gumbel"] = "gumbel"

    def __post_init__(self) -> None:
        arguments.number("start", self.start, above=0)
        arguments.number("end", self.end, above=0)
        arguments.whole("steps", self.steps)

    def temperature(self, memory: Memory) -> Float[Tensor, ""]:
        """τ at this step."""
        progress = (memory.step.to(wide(memory.step.device)) / self.steps).clamp(max=1.0)
        return self.start * (self.end / self.start) ** progress

    def __call__(self, z: Tensor, chosen: Tensor, choice: Choice) -> Tensor:
        keys = token_keys(z, choice.memory.salt)
        mean = soft_codeword(z, choice.codewords, keys, choice.scale, self.temperature(choice.memory))
        return _with_value(chosen, mean) if self.hard else mean

    def jacobian(self, z: Tensor, chosen: Tensor, choice: Choice) -> Tensor:
        noise = gumbel(token_keys(z, choice.memory.salt), choice.codewords.shape[0]).to(z)
        return _softmax_jacobian(z, choice, noise, self.temperature(choice.memory).to(z))


@dataclass(frozen=True)
class SoftmaxAll(EstimatorBase):
    """Through the softmax over all codewords, value the chosen one (IBQ: Shi et al. 2024, "Scalable image
    tokenization with index backpropagation quantization", eq. 5), in memory that does not grow with N·K.

    y = softmax(−|z − c_j|²/temperature); where codewords are trained, all of them receive a gradient.
    """

    temperature: float = 1.0
    kind: Literal["softmax_all"] = "softmax_all"

    def __post_init__(self) -> None:
        arguments.number("temperature", self.temperature, above=0)

    def __call__(self, z: Tensor, chosen: Tensor, choice: Choice) -> Tensor:
        mean = soft_codeword(z, choice.codewords, None, self.temperature, z.new_ones(()))
        return chosen + (mean - mean.detach())

    def jacobian(self, z: Tensor, chosen: Tensor, choice: Choice) -> Tensor:
        still = z.new_zeros(z.shape[0], choice.codewords.shape[0])
        return _softmax_jacobian(z, choice._replace(scale=self.temperature), still, z.new_ones(()))


Estimator = StraightThrough | StopGradient | Rotation | Projection | NSVQ | DiVeQ | Gumbel | SoftmaxAll


def soft_codeword(
    z: Float[Tensor, "n D"],
    codewords: Float[Tensor, "K D"],
    keys: Int64[Tensor, " n"] | None,
    scale: float,
    temperature: Float[Tensor, ""],
) -> Float[Tensor, "n D"]:
    """Σ_j y_j c_j, y = softmax((−|z − c_j|²/scale + g_j)/temperature), g Gumbel noise of `keys` or 0.

    Computed in chunks of tokens, forward and again backward, so that nothing of size n×K is kept.
    """
    return _SoftCodeword.apply(z, codewords, keys, scale, temperature)  # pyright: ignore[reportReturnType]


class _SoftCodeword(torch.autograd.Function):
    """`soft_codeword` with a backward pass of its own, which computes the weights again instead of keeping them."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        z, codewords, keys, ctx.scale, temperature = inputs
        ctx.save_for_backward(z, codewords, keys, temperature)

    @staticmethod
    def forward(
        z: Tensor, codewords: Tensor, keys: Tensor | None, scale: float, temperature: Tensor
    ) -> Tensor:
        codewords = codewords.to(z)
        parts = [y @ codewords for _, y in _weights(z, codewords, keys, scale, temperature)]
        return torch.cat(parts) if parts else torch.zeros_like(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        z, codewords, keys, temperature = ctx.saved_tensors
        gradient, c = gradients[0], codewords.to(z)
        dz, dc = [z[:0]], torch.zeros_like(c)
        for rows, y in _weights(z, c, keys, ctx.scale, temperature):
            g = gradient[rows]
            along = g @ c.T
            dlogits = y * (along - (y * along).sum(-1, keepdim=True)) / (ctx.scale * temperature.to(z))
            # logits are −|z − c|²: Σ_j dlogits_j = 0 removes the term in z alone.
            dz.append(2 * dlogits @ c)
            dc = dc + y.T @ g + 2 * (dlogits.T @ z[rows] - dlogits.sum(0).unsqueeze(-1) * c)
        return torch.cat(dz), dc.to(codewords.dtype), None, None, None


def _weights(z: Tensor, codewords: Tensor, keys: Tensor | None, scale: float, temperature: Tensor):
    """The softmax weights of all codewords for some tokens at a time, with the rows that they are of."""
    size = max(1, CHUNK // codewords.shape[0])
    centre = codewords.mean(0)
    c = codewords - centre
    # All at once in a graph that leaves: a loop would be recorded for this number of tokens.
    starts = range(0, z.shape[0], size)
    for rows in [slice(None)] if is_exported() else [slice(start, start + size) for start in starts]:
        logits = torch.addmm(-c.square().sum(-1), z[rows] - centre, c.T, alpha=2.0) / scale
        if keys is not None:
            logits = logits + gumbel(keys[rows], c.shape[0]).to(logits)
        yield rows, (logits / temperature.to(logits)).softmax(-1)


def _softmax_jacobian(z: Tensor, choice: Choice, noise: Tensor, temperature: Tensor) -> Tensor:
    """∂/∂z of Σ y_j c_j: 2/(scale·temperature) times the covariance of the codewords under y."""
    c = choice.codewords.to(z)
    logits = (-(z.unsqueeze(1) - c).square().sum(-1) / choice.scale + noise) / temperature
    y = logits.softmax(-1)
    mean = y @ c
    spread = torch.einsum("nk,kd,ke->nde", y, c, c) - _outer(mean, mean)
    return 2.0 / (choice.scale * temperature) * spread


def _with_value(value: Tensor, path: Tensor) -> Tensor:
    """`value` exactly, with the gradient of `path`: z + (c − z).detach() would round, x − x is zero."""
    return value.detach() + (path - path.detach())


def _distance(z: Tensor, c: Tensor) -> Tensor:
    """|z − c|, with gradient 0 where they are equal."""
    square = (z - c).square().sum(-1, keepdim=True)
    apart = square > 0
    return torch.where(apart, torch.where(apart, square, 1.0).sqrt(), 0.0)


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return a.unsqueeze(-1) * b.unsqueeze(-2)


def _eye(z: Tensor) -> Tensor:
    return torch.eye(z.shape[-1], dtype=z.dtype, device=z.device).expand(z.shape[0], -1, -1)
