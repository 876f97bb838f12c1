"""Lattice codes: the nearest lattice point in closed form, and codebooks cut from a lattice.

Conway & Sloane, "Fast quantizing and decoding algorithms for lattice quantizers and codes", IEEE Trans. IT
1982.
"""

from __future__ import annotations

from itertools import combinations, product

import torch
from jaxtyping import Float
from torch import Tensor


def nearest_in_d(x: Float[Tensor, "*b k"]) -> Float[Tensor, "*b k"]:
    """Nearest point of D_k, the integer vectors of even sum (of Z for k = 1)."""
    rounded = x.round()
    if x.shape[-1] == 1:
        return rounded
    error = x - rounded
    worst = error.abs().argmax(-1, keepdim=True)
    # Where the sum is odd, the coordinate that was rounded furthest goes the other way.
    other = torch.where(error.gather(-1, worst) < 0, -1.0, 1.0).to(x)
    odd = rounded.sum(-1, keepdim=True).remainder(2)
    return rounded.scatter_add(-1, worst, other * odd)


def nearest_in_e8(x: Float[Tensor, "*b 8"]) -> Float[Tensor, "*b 8"]:
    """Nearest point of E8 = D8 ∪ (D8 + ½)."""
    whole, half = nearest_in_d(x), nearest_in_d(x - 0.5) + 0.5
    closer = (x - whole).square().sum(-1, keepdim=True) <= (x - half).square().sum(-1, keepdim=True)
    return torch.where(closer, whole, half)


def nearest_in_lattice(x: Float[Tensor, "*b k"]) -> Float[Tensor, "*b k"]:
    """Nearest point of the lattice used in k dimensions: E8 at 8, D_k elsewhere."""
    return nearest_in_e8(x) if x.shape[-1] == 8 else nearest_in_d(x)


def e8_code() -> Float[Tensor, "256 8"]:
    """256 codewords for N(0, I₈): the 240 roots of E8 × 1.72 and ±1.2 e_i.

    The best code known at one bit per dimension: D = 2.5275, with no data at all
    (`theory.bounds.best_known`).
    """
    eye = torch.eye(8, dtype=torch.float32, device="cpu")
    pairs = [
        a * eye[i] + b * eye[j]
        for i, j in combinations(range(8), 2)
        for a, b in product((1.0, -1.0), repeat=2)
    ]
    halves = [eye.new_tensor(s) / 2 for s in product((1.0, -1.0), repeat=8) if s.count(-1.0) % 2 == 0]
    return torch.cat([torch.stack(pairs + halves) * 1.72, 1.2 * eye, -1.2 * eye])
