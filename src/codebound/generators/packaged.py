"""The prior in the package, and the tokenizer whose indices it draws: `codebound sample default`."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from codebound.generators.autoregressive import AutoregressivePrior
from codebound.generators.prior import DEFAULT
from codebound.tokenizers import ImageTokenizer
from codebound.tokenizers.opening import digest


class PictureModel(NamedTuple):
    """A prior, and what makes pictures of its indices: `tokenizer.decode(prior.sample(4, labels="dress"))`."""

    prior: AutoregressivePrior
    tokenizer: ImageTokenizer


@cache
def default_model() -> PictureModel:
    """The model in the package: grey pictures of clothes, 28×28, in ten classes (see the README.md of each part).

    Raises:
        InputError: the prior is of another tokenizer: the installation is damaged.
    """
    prior = AutoregressivePrior.from_pretrained(DEFAULT / "prior")
    tokenizer = ImageTokenizer.from_pretrained(DEFAULT / "tokenizer")
    prior.check_tokenizer(digest(tokenizer))
    return PictureModel(prior, tokenizer)
