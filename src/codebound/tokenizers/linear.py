"""The linear-Gaussian VQ-VAE: the smallest whole tokenizer, with a known optimum."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float, Int64
from torch import Tensor, nn

from codebound.errors import InputError
from codebound.nets.linear import PCA, Stiefel
from codebound.quantize.base import Quantized, Quantizer


class Reconstruction(NamedTuple):
    """A forward pass of a tokenizer."""

    x_hat: Float[Tensor, "*b d"]
    loss: Float[Tensor, ""]  # reconstruction + the quantizer's weighted losses
    reconstruction: Float[Tensor, ""]  # squared error, summed over d, mean over vectors
    quantized: Quantized


class LinearVQVAE(nn.Module):
    """x → linear → quantizer → its transpose → x̂: the smallest model in which a codebook trains.

    ```
    x [d] ──Uᵀ(x − μ)──▶ z [k] ──quantizer──▶ z_q [k] ──μ + U z_q──▶ x̂ [d]
    ```

    loss = |x − x̂|² + w_codebook·|sg(z) − c|² + β·|z − sg(c)|². The first term carries no gradient to the codebook
    (the straight-through output has none): only the second moves it. `PCA` is fixed; `Stiefel`
    is trained through the estimator's gradient and through the decoder.

    Raises:
        InputError: the encoder's latent size is not the quantizer's.
    """

    def __init__(self, network: PCA | Stiefel, quantizer: Quantizer) -> None:
        super().__init__()
        if network.axes.shape[1] != quantizer.dim:
            raise InputError(
                f"the encoder has {network.axes.shape[1]} latent dimensions, the quantizer {quantizer.dim}"
            )
        self.network, self.quantizer = network, quantizer

    def forward(self, x: Float[Tensor, "*b d"]) -> Reconstruction:
        z = self.network.encode(x)
        quantized = self.quantizer(z)
        x_hat = self.network.decode(quantized.z_q)
        reconstruction = (x - x_hat).square().sum(-1).mean()
        return Reconstruction(x_hat, reconstruction + quantized.loss, reconstruction, quantized)

    def encode(self, x: Float[Tensor, "*b d"]) -> Int64[Tensor, "*b Q"]:
        """Indices."""
        return self.quantizer.encode(self.network.encode(x))

    def decode(self, indices: Int64[Tensor, "*b Q"]) -> Float[Tensor, "*b d"]:
        """Vectors."""
        return self.network.decode(self.quantizer.decode(indices))
