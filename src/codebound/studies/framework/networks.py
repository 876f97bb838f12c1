"""What can be set of the tokenizers that a study of pictures trains."""

from __future__ import annotations

from pydantic import Field

from codebound.runs.settings import NetworkShape
from codebound.tasks.tokenizer import TokenizerOptimization


class StudyNetworks(TokenizerOptimization, NetworkShape):
    """Shape and training of a tokenizer, equal for all arms: smaller and shorter than those of `codebound train`.

    A study gives other defaults where its question needs them.
    """

    width: int = Field(32, ge=1)
    depth: int = Field(1, ge=0)
    batch_size: int = Field(64, ge=1)
    seeds: int = Field(3, ge=1)
