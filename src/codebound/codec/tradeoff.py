"""Which indices to write: an error weighed against the bits that avoid it.

The nearest codeword may cost many bits and the next one few. Entropy-constrained quantization (Chou, Lookabaugh & Gray
1989) takes the least |r − c|² + λ·bits. Here the bits are those that the prior's network asks for after the indices
chosen before, in the order in which they are coded. A decoder knows nothing of it: any choice makes a right file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from threadpoolctl import threadpool_limits

from codebound import files
from codebound.errors import InputError
from codebound.priors.digits import alphabets
from codebound.priors.field import Field
from codebound.priors.grid_prior import GridPrior
from codebound.quantize import Residual, VectorQuantizer
from codebound.quantize.assign import Gumbel, Nearest, Soft, Stochastic
from codebound.quantize.base import Quantizer

FILE = "tradeoff.json"
TRADE = 0.5  # the default: half the mean slope, as a choice is greedy and the next ones are made after it
_NEAREST = (Nearest, Stochastic, Gumbel, Soft)  # what they do outside of training
Codebooks = Sequence[Float[np.ndarray, "_ D"]]


@dataclass(frozen=True)
class Tradeoff:
    """What each level's nearest codewords brought and cost on training pictures.

    Only an encoder's, so no checksum binds it to a model: another one makes other files, but right ones.

    Args:
        distortions: squared error of the latents after each level, summed over their dimensions, mean over tokens.
        bits: of each level's index, under a prior fitted to the nearest codewords.

    Raises:
        InputError: not one positive number per level in each.
    """

    distortions: tuple[float, ...]
    bits: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, values in asdict(self).items():
            whole = all(isinstance(v, int | float) and math.isfinite(v) and v > 0 for v in values)
            if not (whole and len(values) == len(self.bits) > 0):
                raise InputError(f"{name} must be one positive number per level; got {values}")

    def weights(self, levels: int) -> list[float]:
        """λ of each level in a file of so many.

        −dD/dR at its end, as D falls exponentially over the last level: D · ln(D before / D) / bits. An error made
        at an earlier level is made smaller by those after it, by D there over D here on the mean; so λ grows in
        proportion. How D falls over the first level is not known, as nothing is before it: the second level's fall
        stands for it, or a factor of e where there is no second.

        Raises:
            InputError: a number of levels that there is not.
        """
        if not 1 <= levels <= len(self.bits):
            raise InputError(f"levels must be in 1 … {len(self.bits)}; got {levels}")
        last = min(max(levels, 2), len(self.bits)) - 1
        fall = math.log(self.distortions[last - 1] / self.distortions[last]) if last else 1.0
        return [distortion * max(fall, 0.0) / self.bits[last] for distortion in self.distortions[:levels]]

    def save(self, folder: str | Path) -> None:
        """Write `tradeoff.json` to a folder."""
        files.write_text(Path(folder) / FILE, json.dumps(asdict(self), indent=2) + "\n")


def load_tradeoff(folder: str | Path) -> Tradeoff | None:
    """What `Tradeoff.save` wrote to a folder; None if it holds none.

    Raises:
        InputError: it can't be read as one.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        description: Any = json.loads(path.read_text(encoding="utf-8"))
        return Tradeoff(tuple(description["distortions"]), tuple(description["bits"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} can't be read as a tradeoff: {error}") from None


def codebooks(quantizer: Quantizer) -> list[Float[np.ndarray, "_ D"]] | None:
    """The codewords of each level where levels take the nearest of up to 512, one after the other; else None."""
    # A beam chooses all levels together: there is no codebook of one level to weigh.
    if isinstance(quantizer, Residual) and quantizer.beam_width > 1:
        return None

    # Every level must take the nearest of few enough codewords that all can be priced.
    books = []
    for stage in quantizer.stages if isinstance(quantizer, Residual) else [quantizer]:
        if not (isinstance(stage, VectorQuantizer) and isinstance(stage.assign, _NEAREST)):
            return None
        if len(alphabets(stage.codebook_sizes[0])) > 1:
            return None
        books.append(stage.codebook.codewords().detach().cpu().float().numpy())
    return books


# As in `streams`: a diagonal's products are too small for threads.
@threadpool_limits.wrap(limits=1, user_api="blas")
def choose(
    latents: Float[np.ndarray, "h w D"], books: Codebooks, prior: GridPrior, weights: Sequence[float]
) -> Int64[np.ndarray, "h w q"]:
    """Indices of the first `len(weights)` levels, level by level the least |r − c|² + λ·bits at each position.

    After the first level no choice makes the error larger, unless the nearest codeword does: where nothing is left to
    say, the cheapest codeword would be the likeliest one and not the smallest.
    """
    # All levels begin undecided; the residual lies in the field's own order of positions, margin included.
    height, width, dim = latents.shape
    field = Field(
        np.zeros((height, width, len(weights)), dtype=np.int64), prior.codebook_sizes[: len(weights)]
    )
    rows = field.rows()
    residual = np.zeros((int(rows[-1]) + 1, dim), dtype=np.float32)
    residual[rows] = latents.reshape(-1, dim)

    # Level by level, each on what the levels before it left.
    for level, (book, weight) in enumerate(zip(books, weights, strict=False)):
        # Centred: far from the origin |c|² − 2 r·c would lose the digits that tell codewords apart.
        mean = book.mean(0)
        centred, network = book - mean, prior.networks[level][0]
        squares = np.square(centred).sum(-1)

        # Diagonal by diagonal, as the coder will see them: bits depend on the neighbours already chosen.
        for at in field.diagonals():
            left = residual[at] - mean
            error = squares - 2 * (left @ centred.T)  # beyond |left|²

            # The price of each codeword: its error, and the bits of its index.
            cost = error
            if weight > 0:
                bits = -np.log2(network.frequencies(field.seen(level, at), np.zeros(len(at), dtype=np.int64)))
                cost = error + weight * bits

            # A codeword that makes things worse than leaving the residual alone is no choice.
            if weight > 0 and level:
                before = 2 * (left @ mean) + mean @ mean  # |residual|², beyond |left|²
                most = np.maximum(before, error.min(-1))
                cost = np.where(error <= most[:, None], cost, np.inf)

            # The cheapest is taken, and the next level sees what it left.
            chosen = cost.argmin(-1)
            field.write(level, at, chosen)
            residual[at] -= book[chosen]
    return field.indices()
