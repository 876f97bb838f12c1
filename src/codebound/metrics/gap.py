"""How far a quantizer stands from the limit of its source, on held-out latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric

from codebound import arguments
from codebound.errors import InputError
from codebound.metrics.code_usage import count, require_indices
from codebound.metrics.usage import entropy_rate
from codebound.theory import bounds, gaussian
from codebound.theory.entropy import differential_entropy

Rate = Literal["nominal", "entropy"]


class Gap(Metric):
    """Distortion at the code's rate against a limit and against a reference, each under its own name.

        gap_db = 10 log₁₀(D / D_SLB(R)),   D_SLB(R) = D/(2πe) · 2^(2(h − R)/dim)   (Shannon 1959)

    h is estimated from a sample of the latents (`theory.entropy`), so the gap has an interval [`gap_db_low`,
    `gap_db_high`]: two standard errors and the estimator's drift. `gaussian_reference_db` is the same to the
    water-filled Gaussian of equal covariance, which data that are not Gaussian may beat: negative is no error there.

    Args:
        dim: D of the latents.
        codebook_sizes: K of each codebook, `quantizer.codebook_sizes`.
        rate: `"nominal"`: Σ log₂ K, what fixed-length codes spend; `"entropy"`: the sum of the stages' index
            entropies, what an ideal entropy coder spends that knows each stage's frequencies (Miller–Madow: plug-in
            plus (K₊ − 1)/(2N ln 2), at most log₂ K, for a plug-in from few tokens is too low and would flatter); or a
            number, the bits per vector of a code that is counted elsewhere. It may be set at any time before `compute`.
        samples: latents kept for the entropy estimate, those with the smallest hash of their own bits: the same
            ones however the set was divided over batches and ranks.

    `compute` returns float64 scalars: `distortion` (squared error summed over D, mean over tokens), `rate_bits` (per
    vector), `shannon` and `gaussian_reference` (distortions at that rate), `gap_db`, `gap_db_low`, `gap_db_high`,
    `gaussian_reference_db`, `tokens`.

    Raises:
        InputError: wrong shapes or an unknown rate; from `compute`: too few tokens, a singular covariance, discrete
            latents (their entropy is −∞), or no distortion at all.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    error: Tensor
    tokens: Tensor
    first: Tensor
    second: Tensor
    counts: Tensor
    sample: Tensor

    def __init__(
        self,
        dim: int,
        codebook_sizes: Sequence[int],
        *,
        rate: Rate | float = "nominal",
        samples: int = 10_000,
        **metric_options: Any,
    ) -> None:
        super().__init__(**metric_options)
        if isinstance(rate, str) and rate not in get_args(Rate):
            raise InputError(
                f"rate is {rate!r}; accepted are {', '.join(map(repr, get_args(Rate)))}, or a number"
            )
        arguments.whole("dim", dim)
        arguments.whole("samples", samples)
        if not isinstance(codebook_sizes, Sequence) or isinstance(codebook_sizes, str):
            raise InputError(f"codebook_sizes must be a sequence, one for each index; got {codebook_sizes!r}")
        for size in codebook_sizes:
            arguments.whole("codebook_sizes", size)
        self.dim, self.codebook_sizes, self.samples = dim, tuple(codebook_sizes), samples
        self.rate: Rate | float = rate if isinstance(rate, str) else arguments.number("rate", rate, least=0)
        kinds = {"error": (), "tokens": (), "first": (dim,), "second": (dim, dim)}
        for name, shape in kinds.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        codewords = sum(self.codebook_sizes) if rate == "entropy" else 0
        self.add_state("counts", torch.zeros(codewords, dtype=torch.int64), dist_reduce_fx="sum")
        # One row per latent, its key first; unfilled rows have the key ∞.
        empty = torch.full((samples, 1 + dim), torch.inf, dtype=torch.float64)
        self.add_state("sample", empty, dist_reduce_fx=_smallest)

    def update(
        self,
        z: Float[Tensor, "*b D"],
        z_q: Float[Tensor, "*b D"],
        indices: Int[Tensor, "*b Q"] | None = None,
        *,
        mask: Bool[Tensor, "*b"] | None = None,
    ) -> None:
        """Add latents and their reproductions.

        Left out are tokens where `mask` is False, `z` is not finite, or an index is −1.

        Args:
            indices: needed for `rate="entropy"`.
        """
        self._check(z, z_q, indices, mask)
        rows, reproductions = z.detach().reshape(-1, self.dim), z_q.detach().reshape(-1, self.dim)
        valid = rows.isfinite().all(-1)
        if mask is not None:
            valid &= mask.reshape(-1)
        if indices is not None:
            codes = indices.reshape(-1, indices.shape[-1])
            valid &= (codes >= 0).all(-1)
            if self.rate == "entropy":
                self.counts += count(codes[valid], self.codebook_sizes)
        rows, reproductions = rows[valid].double(), reproductions[valid].double()
        self.error += (rows - reproductions).square().sum()
        self.tokens += len(rows)
        self.first += rows.sum(0)
        self.second += rows.T @ rows
        keyed_rows = torch.cat([_keys(rows).unsqueeze(1), rows], dim=1)
        self.sample = _smallest(torch.cat([self.sample, keyed_rows]).unsqueeze(0), self.samples)

    def compute(self) -> dict[str, Tensor]:
        """The figures by name."""
        tokens = float(self.tokens)
        if tokens < 1:
            raise InputError("Gap has seen no finite, unmasked latent")
        distortion, rate = float(self.error) / tokens, self._rate_bits()
        sample = self.sample[self.sample[:, 0].isfinite(), 1:]
        entropy = differential_entropy(sample.cpu().numpy(), max_samples=self.samples)
        low, shannon, high = (
            bounds.shannon_lower_bound(bits, self.dim, rate)
            for bits in (entropy.low, entropy.bits, entropy.high)
        )
        reference = gaussian.water_filling(gaussian.spectrum(self._covariance()), rate).distortion
        figures = {
            "distortion": distortion,
            "rate_bits": rate,
            "shannon": shannon,
            "gaussian_reference": reference,
            "gap_db": gaussian.gap_db(distortion, shannon),
            "gap_db_low": gaussian.gap_db(distortion, high),
            "gap_db_high": gaussian.gap_db(distortion, low),
            "gaussian_reference_db": gaussian.gap_db(distortion, reference),
            "tokens": tokens,
        }
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}

    def _rate_bits(self) -> float:
        if self.rate == "nominal":
            return sum(math.log2(size) for size in self.codebook_sizes)
        if not isinstance(self.rate, str):
            return self.rate
        return sum(entropy_rate(counts) for counts in self.counts.split(self.codebook_sizes))

    def _covariance(self) -> np.ndarray:
        mean = self.first / self.tokens
        return (self.second / self.tokens - torch.outer(mean, mean)).cpu().numpy()

    def _check(self, z: Tensor, z_q: Tensor, indices: Tensor | None, mask: Tensor | None) -> None:
        for name, rows in {"z": z, "z_q": z_q}.items():
            if not isinstance(rows, Tensor):
                raise InputError(f"{name} must be a tensor; got {type(rows).__name__}")
        if indices is not None:
            require_indices(indices)
        depth = len(self.codebook_sizes)
        if z.ndim < 1 or z.shape[-1] != self.dim or z_q.shape != z.shape:
            raise InputError(
                f"z and z_q must both have shape [*, {self.dim}]; got {list(z.shape)} and {list(z_q.shape)}"
            )
        if indices is None and self.rate == "entropy":
            raise InputError("rate='entropy' needs the indices of every update")
        if indices is not None and indices.shape != (*z.shape[:-1], depth):
            raise InputError(
                f"indices must have shape {[*z.shape[:-1], depth]}, one per vector and codebook; got "
                f"{list(indices.shape)}"
            )
        if mask is not None and (mask.dtype != torch.bool or mask.shape != z.shape[:-1]):
            raise InputError(f"mask must be bool {list(z.shape[:-1])}; got {mask.dtype} {list(mask.shape)}")


def _smallest(parts: Tensor, size: int | None = None) -> Tensor:
    """The `size` rows of least key in `[parts, rows, 1 + D]`; without `size` as many as one part has."""
    rows = parts.flatten(0, 1)
    order = rows[:, 0].argsort(stable=True)
    return rows[order[: size or parts.shape[1]]]


def _keys(rows: Float[Tensor, "n D"]) -> Float[Tensor, " n"]:
    """Pseudo-random numbers in [0, 1), a hash of each row's bits (SplitMix64's finaliser; int64 wraps around)."""
    odd = torch.arange(1, rows.shape[1] + 1, device=rows.device) * 2 * 0x1E3779B97F4A7C15 + 1
    x = (rows.view(torch.int64) * odd).sum(-1) if len(rows) else rows.new_empty(0, dtype=torch.int64)
    for shift, factor in ((30, 0x3F58476D1CE4E5B9), (27, 0x14D049BB133111EB)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return ((x >> 11) & ((1 << 53) - 1)).double() / (1 << 53)
