"""The kinds of priors over grids of indices that sample, by the names that commands and settings take."""

from __future__ import annotations

from typing import Literal

from codebound.generators.autoregressive import AutoregressivePrior
from codebound.generators.llama import LlamaPrior
from codebound.generators.masked import MaskedPrior
from codebound.generators.prior import TokenPrior

Kind = Literal["autoregressive", "llama", "masked"]
PRIORS: dict[Kind, type[TokenPrior]] = {
    "autoregressive": AutoregressivePrior,
    "llama": LlamaPrior,
    "masked": MaskedPrior,
}
