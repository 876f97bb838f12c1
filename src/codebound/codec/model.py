"""What turns pictures into indices and says which are likely: a tokenizer with its prior."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from codebound.codec.tradeoff import Tradeoff, codebooks, load_tradeoff
from codebound.coding.container import CODEBOOK, HASH, LEVELS
from codebound.coding.errors import CodecError
from codebound.priors.grid_prior import DESCRIPTION, GridPrior, load_prior
from codebound.quantize import Residual
from codebound.tokenizers import pretrained
from codebound.tokenizers.hierarchy import HierarchicalTokenizer
from codebound.tokenizers.image import ImageTokenizer

DEFAULT = pretrained.DEFAULT


@dataclass(frozen=True, eq=False)
class Model:
    """A tokenizer in eval on the CPU, its prior or None, and what an encoder weighs errors against bits with or None.

    Raises:
        CodecError: codebooks that a file can't hold, or a prior or a tradeoff of other codebooks.
    """

    tokenizer: ImageTokenizer
    prior: GridPrior | None = None
    tradeoff: Tradeoff | None = None

    def __post_init__(self) -> None:
        # What the file format can hold.
        sizes = self.codebook_sizes
        if len(sizes) > LEVELS or max(sizes) > CODEBOOK:
            raise CodecError(
                f"the tokenizer has codebook sizes {sizes}; up to {LEVELS} of up to {CODEBOOK} are accepted"
            )

        # Prior and tradeoff must have been made for this tokenizer.
        if self.prior is not None and self.prior.codebook_sizes != sizes:
            raise CodecError(
                f"the tokenizer has codebook sizes {sizes}; the prior is for {self.prior.codebook_sizes}"
            )
        if self.tradeoff is not None:
            if self.prior is None or codebooks(self.tokenizer.quantizer) is None:
                raise CodecError(
                    "a tradeoff needs a prior, and a quantizer whose levels take the nearest of up to 512 codewords, "
                    "one after the other"
                )
            if len(self.tradeoff.bits) != len(sizes):
                raise CodecError(
                    f"the tokenizer has {len(sizes)} levels; the tradeoff is for {len(self.tradeoff.bits)}"
                )

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """K of each level."""
        return tuple(self.tokenizer.quantizer.codebook_sizes)

    @property
    def qualities(self) -> range:
        """Levels that a file may have: of a residual quantizer any number from the first on, else all."""
        quantizer, levels = self.tokenizer.quantizer, len(self.codebook_sizes)
        nested = isinstance(quantizer, Residual) and len(quantizer.stages) == levels
        return range(1 if nested else levels, levels + 1)

    def digest(self) -> bytes:
        """What names the model in a file: 8 bytes of a SHA-256 over description, weights, codebooks and prior.

        All that a decoder needs; what an encoder chooses by is no part of it.
        """
        return model_digest(self.tokenizer, self.prior)

    def exact(self) -> Model:
        """A copy of the model whose decoder computes in float64."""
        tokenizer = copy.deepcopy(self.tokenizer)
        tokenizer.decoder.double()
        return Model(tokenizer, self.prior, self.tradeoff)


def model_digest(tokenizer: ImageTokenizer | HierarchicalTokenizer, prior: GridPrior | None) -> bytes:
    """8 bytes of a SHA-256 over a tokenizer's description and weights, codebooks among them, and its prior."""
    # Whatever a decoded index depends on goes in; names are sorted, so that the order of modules does not count.
    hashed = hashlib.sha256(json.dumps(tokenizer.config(), sort_keys=True).encode())
    for name, tensor in sorted(tokenizer.state_dict().items()):
        # Flags and hits count as what they were when the format was fixed, so that files of before still decode.
        if tensor.dtype == torch.uint8:
            tensor = tensor.bool()
        elif name.endswith("window_counts"):
            tensor = tensor.double()
        tensor = tensor.detach().cpu()
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.numpy().tobytes())
    hashed.update(b"" if prior is None else prior.digest())
    return hashed.digest()[:HASH]


def load_model(source: str | Path) -> Model:
    """A tokenizer that `save_pretrained` wrote, and what `codebound fit-prior` put beside it, if it did.

    Args:
        source: a folder; `"default"` is that of the model in the package.

    Raises:
        InputError: no such folder, or files that are damaged or don't fit together.
    """
    tokenizer = ImageTokenizer.from_pretrained(source)
    folder = pretrained.model_folder(source)
    if not (folder / DESCRIPTION).is_file():
        return Model(tokenizer)
    return Model(tokenizer, load_prior(folder), load_tradeoff(folder))


@cache
def default_model() -> Model:
    """The model in the package: small, trained on the embedded photographs (see its README.md)."""
    return load_model(DEFAULT)
