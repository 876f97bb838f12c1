"""How a gradient passes the quantizer. The value is always the codeword, exactly.

Each estimator declares the Jacobian ∂z_q/∂z that back-propagation sees; the contract checks it by autograd.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class StraightThrough:
    """The gradient passes unchanged: ∂z_q/∂z = I (Bengio, Léonard & Courville 2013; VQ-VAE, eq. 3)."""

    kind: Literal["straight_through"] = "straight_through"
    jacobian: Literal["identity"] = "identity"

    def __call__(self, z: Float[Tensor, "n D"], codewords: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        # z + (c − z).detach() would round; z − z.detach() is zero exactly.
        return codewords.detach() + (z - z.detach())


@dataclass(frozen=True)
class StopGradient:
    """No gradient reaches the encoder through the reproduction: ∂z_q/∂z = 0; only the commitment moves it."""

    kind: Literal["stop_gradient"] = "stop_gradient"
    jacobian: Literal["zero"] = "zero"

    def __call__(self, z: Float[Tensor, "n D"], codewords: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        return codewords.detach()


Estimator = StraightThrough | StopGradient
