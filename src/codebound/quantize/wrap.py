"""Quantizers that map the vectors before and after another quantizer: `Projected`, `Scaled`, `Pooled`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from codebound import arguments
from codebound.errors import InputError
from codebound.exact import wide
from codebound.graphs import constant, without_autocast
from codebound.quantize.base import Quantized, Quantizer, UpdateReport
from codebound.quantize.codebook import Codebook
from codebound.quantize.compose import as_rows, codebook_parameters, present
from codebound.quantize.noise import placed, seeded
from codebound.quantize.ranks import Ranks
from codebound.quantize.sharding import whole


class Around(Quantizer):
    """A quantizer around one inner quantizer: all that concerns codebooks is the inner one's."""

    def __init__(self, inner: Quantizer, dim: int) -> None:
        super().__init__()
        if not isinstance(inner, Quantizer):
            raise InputError(f"inner must be a quantizer; got {type(inner).__name__}")
        self.inner, self.dim = inner, dim

    @property
    def codebook_sizes(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner quantizer's."""
        return self.inner.codebook_sizes

    def codebooks(self) -> tuple[Codebook | None, ...]:
        """The inner quantizer's."""
        return self.inner.codebooks()

    def codewords(self) -> Float[Tensor, "K d"] | tuple[Tensor | None, ...]:
        """The inner quantizer's, in its own space."""
        return self.inner.codewords()

    @property
    def ranks(self) -> Ranks:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner quantizer's."""
        return self.inner.ranks

    def distribute_(self, *, sync: bool = True, process_group: Any = None) -> None:
        """Of the inner quantizer; see `Quantizer.distribute_`."""
        self.inner.distribute_(sync=sync, process_group=process_group)

    def codebook_parameters(self) -> list[nn.Parameter]:
        """What an optimizer moves in the codebooks (not the maps)."""
        return codebook_parameters(self)


class Wrapped(Around):
    """One inner quantizer between two maps: `_into` its space and `_back`."""

    def _into(self, rows: Float[Tensor, "n D"]) -> Float[Tensor, "n d"]:
        """Vectors as the inner quantizer sees them."""
        raise NotImplementedError

    def _back(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n D"]:
        """Its reproductions as vectors of the outer space."""
        raise NotImplementedError

    def forward(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Quantized:
        # The inner quantizer sees rows in its own space; its reproductions come back through the second map.
        self.check_input(z, mask, generator)
        flat = None if mask is None else mask.reshape(-1)
        with without_autocast(z.device):
            rows, finite = self._inside(z, flat)
            # In z's leading shape, as to some of them its sequences matter.
            result = self.inner(rows.view(*z.shape[:-1], rows.shape[-1]), mask=mask, generator=generator)
            valid = finite if flat is None else finite & flat
            z_q = torch.where(valid.unsqueeze(-1), self._back(result.z_q.view(rows.shape)), 0.0)
        indices = result.indices.view(*z.shape[:-1], len(self.codebook_sizes))
        return Quantized(z_q.view(z.shape).to(z.dtype), indices, result.loss, result.losses, result.stats)

    @torch.no_grad()
    def encode(
        self, z: Float[Tensor, "*b D"], *, mask: Bool[Tensor, "*b"] | None = None
    ) -> Int64[Tensor, "*b Q"]:
        self.check_input(z, mask)
        flat = None if mask is None else mask.reshape(-1)
        with without_autocast(z.device):
            rows = self._inside(z, flat)[0]
            indices = self.inner.encode(rows.view(*z.shape[:-1], rows.shape[-1]), mask=mask)
        return indices.view(*z.shape[:-1], len(self.codebook_sizes))

    def decode(
        self,
        indices: Int64[Tensor, "*b Q"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "*b D"]:
        self.check_indices(indices, mask)
        flat = None if mask is None else mask.reshape(-1)

        # The way back is computed as in a forward, in float32 or float64, and rounded once.
        dtype = self.decoded_dtype(dtype)
        inside = torch.float64 if dtype == torch.float64 else torch.float32
        with without_autocast(indices.device):
            rows = self.inner.decode(indices.reshape(-1, indices.shape[-1]), mask=flat, dtype=inside)
            z_q = self._back(rows).to(dtype)
        z_q = z_q if flat is None else torch.where(flat.unsqueeze(-1), z_q, 0.0)
        return z_q.view(*indices.shape[:-1], self.dim)

    @torch.no_grad()
    def init_(
        self,
        z: Float[Tensor, "*b D"],
        *,
        mask: Bool[Tensor, "*b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """The inner quantizer's `init_`, in its own space."""
        self.check_input(z, mask, generator)
        self.inner.init_(self._inside(present(z, mask), None)[0], generator=generator)

    @torch.no_grad()
    def update_(self, *results: Quantized) -> UpdateReport:
        """The inner quantizer's update."""
        return self.inner.update_(*results)

    def _inside(self, z: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Rows in the inner space, NaN where `z` is not finite so that the inner quantizer counts them."""
        rows = as_rows(z)
        finite = rows.isfinite().all(-1)
        valid = finite if mask is None else finite & mask
        # Zeros go through the map: 0·NaN would reach the gradient of its weights.
        inside = self._into(torch.where(valid.unsqueeze(-1), rows, 0.0))
        return torch.where(finite.unsqueeze(-1), inside, math.nan), finite


class Projected(Wrapped):
    """Linear maps around a quantizer of another dimension, mostly a lower one.

        z ── W_in z + b_in ── (normalise) ── inner ── W_out e + b_out ── z_q

    Few dimensions make near codewords and high usage: 32 in ViT-VQGAN (Yu et al. 2022, §3.2), 8 with cosine codes
    in DAC (Kumar et al. 2023, §3.2). `frozen` with `normalise` is the random-projection quantizer of BEST-RQ (Chiu
    et al. 2022, eq. 1). The inner losses are in the inner space; gradients of z_q reach both maps.

    Args:
        inner: quantizer of the projected vectors.
        dim: D, the size of the vectors outside.
        normalise: projected vectors are divided by their length.
        orthogonal: W_in begins with orthonormal rows (columns where it is taller than wide) and W_out as its
            transpose; else both as `nn.Linear`'s, U(±1/√inputs), with biases.
        frozen: the maps are buffers, orthogonal, W_out = W_inᵀ, without biases.
        seed: of the maps.

    Raises:
        InputError: `dim` under 1.
    """

    weight_in: Tensor
    bias_in: Tensor
    weight_out: Tensor
    bias_out: Tensor

    def __init__(
        self,
        inner: Quantizer,
        dim: int,
        *,
        normalise: bool = False,
        orthogonal: bool = False,
        frozen: bool = False,
        seed: int = 0,
    ) -> None:
        # The arguments by their own names: a description is read off them.
        arguments.whole("dim", dim)
        arguments.seed(seed)
        super().__init__(inner, dim)
        self.normalise, self.orthogonal, self.frozen, self.seed = normalise, orthogonal, frozen, seed

        # An orthonormal basis; frozen maps are it and its transpose.
        generator = seeded(seed)
        shapes = {"weight_in": (inner.dim, dim), "weight_out": (dim, inner.dim)}
        basis = _orthonormal(inner.dim, dim, generator)
        if frozen:
            self.register_buffer("weight_in", placed(basis))
            return

        # Otherwise two trained maps, from the basis or as `nn.Linear` begins.
        for name, (rows, columns) in shapes.items():
            bound = 1 / math.sqrt(columns)
            weight, bias = (
                torch.empty(shape, dtype=torch.float32, device="cpu").uniform_(
                    -bound, bound, generator=generator
                )
                for shape in ((rows, columns), (rows,))
            )
            if orthogonal:
                weight, bias = basis if name == "weight_in" else basis.T.contiguous(), torch.zeros_like(bias)
            self.register_parameter(name, nn.Parameter(placed(weight)))
            self.register_parameter(name.replace("weight", "bias"), nn.Parameter(placed(bias)))

    def _into(self, rows: Tensor) -> Tensor:
        bias = None if self.frozen else whole(self.bias_in).to(rows)
        inside = linear(rows, whole(self.weight_in).to(rows), bias)
        if not self.normalise:
            return inside
        # F.normalize has a gradient of 1/ε at the origin; here a vector without direction stays as it is.
        length = inside.norm(dim=-1, keepdim=True)
        return torch.where(length > 1e-6, inside / length.clamp_min(1e-6), inside)

    def _back(self, rows: Tensor) -> Tensor:
        if self.frozen:
            return linear(rows, self.weight_in.to(rows).T, None)
        return linear(rows, whole(self.weight_out).to(rows), whole(self.bias_out).to(rows))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, normalise={self.normalise}, frozen={self.frozen}"


class Scaled(Wrapped):
    """A quantizer at another scale: z_q = scale · inner(z / scale). What residual FSQ and LFQ stages are made of.

    Args:
        inner: quantizer of z / scale; its losses are in those units.
        scale: one positive number, or one per dimension.

    Raises:
        InputError: a scale that is not positive, or as many as `inner.dim`.
    """

    def __init__(self, inner: Quantizer, scale: float | Sequence[float]) -> None:
        if not isinstance(inner, Quantizer):
            raise InputError(f"inner must be a quantizer; got {type(inner).__name__}")
        super().__init__(inner, inner.dim)
        given = list(scale) if isinstance(scale, Sequence) and not isinstance(scale, str) else None
        many = given is not None
        factors = tuple(arguments.number("scale", s, above=0) for s in given or [scale])
        if many and len(factors) != inner.dim:
            raise InputError(f"scale must be one number or {inner.dim}; got {len(factors)}")
        if not all(0 < factor < math.inf for factor in np.array(factors, np.float32)):
            raise InputError(f"scale must be within float32; got {scale}")
        self.scale = factors if many else factors[0]

    def _into(self, rows: Tensor) -> Tensor:
        return rows / self._factor(rows)

    def _back(self, rows: Tensor) -> Tensor:
        return rows * self._factor(rows)

    def _factor(self, rows: Tensor) -> Tensor:
        # The scale is a float32 number, for float64 rows too.
        return constant(self.scale, rows.device).to(rows.dtype)

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


class Pooled(Wrapped):
    """A quantizer of means over neighbouring vectors, as a stage of lower resolution (SNAC: Siuzdak et al. 2024, §3.1).

        z ── mean of each `factor` vectors ── inner ── each repeated `factor` times ── z_q

    A vector outside is a row of vectors of `size`, one after the other: of a sequence `[b, T, size]` the groups
    `z.unflatten(1, (-1, length)).flatten(-2)`, with `length` a multiple of `factor`. Inner losses are of the means.

    Args:
        inner: quantizer of the means of a group; `Product([quantizer] * count, share=True)` for `count` of them.
        factor: how many vectors have a mean.
        size: of one vector; `inner.dim` is a multiple of it.

    Raises:
        InputError: a factor under 1, or a size that does not divide `inner.dim`.
    """

    def __init__(self, inner: Quantizer, factor: int, size: int) -> None:
        super().__init__(inner, inner.dim * factor)
        if factor < 1 or size < 1 or inner.dim % size:
            raise InputError(
                f"factor must be at least 1 and size divide inner.dim={inner.dim}; got {factor} and {size}"
            )
        self.factor, self.size = factor, size

    def _into(self, rows: Tensor) -> Tensor:
        return rows.unflatten(1, (-1, self.factor, self.size)).mean(2).flatten(1)

    def _back(self, rows: Tensor) -> Tensor:
        return rows.unflatten(1, (-1, self.size)).repeat_interleave(self.factor, dim=1).flatten(1)

    def extra_repr(self) -> str:
        return f"factor={self.factor}, size={self.size}"


class _Linear(torch.autograd.Function):
    """x Wᵀ + b, summed in float64 and rounded once; backward in the input's precision."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        x, weight, bias = inputs
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        dtype = wide(x.device)
        return F.linear(x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        x, weight = ctx.saved_tensors
        g = gradients[0]
        by_x, by_weight = ctx.needs_input_grad[:2]
        return (
            g @ weight if by_x else None,
            g.T @ x if by_weight else None,
            g.sum(0) if ctx.biased else None,
        )


def linear(
    x: Float[Tensor, "n i"], weight: Float[Tensor, "o i"], bias: Tensor | None
) -> Float[Tensor, "n o"]:
    """A linear map of a row that does not depend on how many rows come along: a float32 product's last bits do,
    and a token's noise and its chance to revive a codeword hang on its every bit."""
    return _Linear.apply(x, weight, bias)  # pyright: ignore[reportReturnType]


def _orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Uniformly random with orthonormal rows, or columns where it is tall (Mezzadri 2007)."""
    shape = max(rows, columns), min(rows, columns)
    gaussian = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    q, r = torch.linalg.qr(gaussian)
    q = (q * r.diagonal().sign()).float()
    return (q if rows >= columns else q.T).contiguous()
