"""A patch discriminator: which patches of a picture are real, judged each by itself."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from codebound.errors import InputError


class PatchDiscriminator(nn.Sequential):
    """Halvings by 4×4 convolutions, then a score for each patch (Isola et al. 2017); no normalisation over pictures.

    ```
    x [b c h w] ──▶ [4×4 of step 2, leaky ReLU] × layers ──▶ 3×3, leaky ReLU ──▶ 3×3 ──▶ scores [b 1 h/2^layers …]
    ```

    Spectral norm (Miyato et al. 2018) holds each layer's Lipschitz constant near 1, so that scores can't run away.

    Raises:
        InputError: an argument out of its range.
    """

    def __init__(self, channels: int, *, width: int = 32, layers: int = 3, spectral: bool = True) -> None:
        if channels not in (1, 3) or width < 1 or not 1 <= layers <= 5:
            raise InputError(
                f"a discriminator takes channels 1 or 3, a width from 1 and 1 to 5 layers; got {channels}, {width} and "
                f"{layers}"
            )

        def normed(layer: nn.Conv2d) -> Any:
            return spectral_norm(layer) if spectral else layer

        # Widths double with each halving, up to eight times the first one.
        widths = [min(width << layer, 8 * width) for layer in range(layers)]
        parts: list[nn.Module] = []
        for into, out in zip([channels, *widths], widths, strict=False):
            parts += [normed(nn.Conv2d(into, out, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        parts += [normed(nn.Conv2d(widths[-1], widths[-1], 3, padding=1)), nn.LeakyReLU(0.2)]
        super().__init__(*parts, normed(nn.Conv2d(widths[-1], 1, 3, padding=1)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 _ _"]:
        """Scores: high for real patches."""
        return super().forward(x)
