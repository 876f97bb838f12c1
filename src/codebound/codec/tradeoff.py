"""Which indices to write: an error weighed against the bits that avoid it.

The nearest codeword may cost many bits and the next one few. Entropy-constrained quantization (Chou, Lookabaugh & Gray
1989) takes the least |r − c|² + λ·bits. Here the bits are those that the prior's network asks for after the indices
chosen before, in the order in which they are coded. A decoder knows nothing of it: any choice makes a right file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
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
from codebound.priors.fitting import cross_entropy
from codebound.priors.grid_prior import GridPrior
from codebound.quantize import Residual, VectorQuantizer
from codebound.quantize.assign import Nearest
from codebound.quantize.base import Quantizer

FILE = "tradeoff.json"
_LEAST = 1e-9  # an error or a number of bits that stands for none
Codebooks = Sequence[Float[np.ndarray, "_ D"]]


@dataclass(frozen=True)
class Tradeoff:
    """What each level bought on the training pictures.

    Args:
        distortions: squared error of the latents after each level, summed over their dimensions, mean over tokens.
        bits: of each level's index.

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
        """λ of every level, for files that end with level number `levels`, counted from 1.

        −dD/dR there, as D falls exponentially over the last level: D · ln(D before / D) / bits. An error made at an
        earlier level is made smaller by those after it, by D there over D here on the mean; so λ grows in proportion.
        """
        last = min(max(levels, 2), len(self.bits)) - 1
        fall = math.log(self.distortions[last - 1] / self.distortions[last]) if last else 1.0
        return [distortion * max(fall, 0.0) / self.bits[last] for distortion in self.distortions]

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
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        return Tradeoff(tuple(found["distortions"]), tuple(found["bits"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} can't be read as a tradeoff: {error}") from None


def codebooks(quantizer: Quantizer) -> list[Float[np.ndarray, "_ D"]] | None:
    """The codewords of each level where a token is a sum of nearest codewords, one of each level; else None."""
    found = []
    for stage in quantizer.stages if isinstance(quantizer, Residual) else [quantizer]:
        if not (isinstance(stage, VectorQuantizer) and isinstance(stage.assign, Nearest)):
            return None
        if len(alphabets(stage.codebook_sizes[0])) > 1:
            return None
        found.append(stage.codebook.codewords().detach().cpu().float().numpy())
    return found


@threadpool_limits.wrap(limits=1, user_api="blas")
def choose(
    latents: Float[np.ndarray, "h w D"], books: Codebooks, prior: GridPrior, weights: Sequence[float]
) -> Int64[np.ndarray, "h w q"]:
    """Indices of the first `len(weights)` levels, level by level the least |r − c|² + λ·bits at each position."""
    height, width, dim = latents.shape
    field = Field(
        np.zeros((height, width, len(weights)), dtype=np.int64), prior.codebook_sizes[: len(weights)]
    )
    rows = field.rows()
    residual = np.zeros((int(rows[-1]) + 1, dim), dtype=np.float32)
    residual[rows] = latents.reshape(-1, dim)
    for level, (book, weight) in enumerate(zip(books, weights, strict=False)):
        network, squares = prior.networks[level][0], np.square(book).sum(-1)
        for at in field.diagonals():
            cost = squares - 2 * (residual[at] @ book.T)
            if weight > 0:
                none_before = np.zeros(len(at), dtype=np.int64)
                cost -= weight * np.log2(network.frequencies(field.seen(level, at), none_before))
            field.write(level, at, cost.argmin(-1))
        residual[rows] -= book[field.read(level, rows)]
    return field.indices()


def measure(latents: Iterable[Float[np.ndarray, "_ _ D"]], books: Codebooks, prior: GridPrior) -> Tradeoff:
    """What each level's nearest codewords bring and cost."""
    errors, grids = np.zeros(len(books)), []
    for found in latents:
        grids.append(choose(found, books, prior, [0.0] * len(books)))
        residual = found.astype(np.float64)
        for level, book in enumerate(books):
            residual -= book[grids[-1][..., level]]
            errors[level] += np.square(residual).sum()
    tokens = sum(grid.shape[0] * grid.shape[1] for grid in grids)
    distortions, bits = np.maximum(errors / tokens, _LEAST), np.maximum(cross_entropy(prior, grids), _LEAST)
    return Tradeoff(tuple(distortions.tolist()), tuple(bits.tolist()))
