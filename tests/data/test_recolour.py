"""Pictures in other colours."""

import numpy as np
import pytest
import torch

from codebound.data.recolour import recolour, recoloured
from codebound.errors import InputError
from codebound.tasks.tokenizer import TokenizerOptimization


def pictures(channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (64, channels, 8, 8), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_stands_where_stays(channels: int) -> None:
    ramp = np.tile(np.arange(60, 180, 5, dtype=np.uint8)[:, None, None], (1, 3, channels))
    for seed in range(10):
        found = recolour(ramp, np.random.default_rng(seed))
        assert found.shape == ramp.shape
        assert (np.diff(found.astype(int), axis=0) >= 0).all()
        assert len(np.unique(found[..., 0])) > 10


def test_so_many_of_a_batch_and_the_same_ones_again() -> None:
    x = pictures()
    assert torch.equal(recoloured(x, 0.0, 1, 2), x)
    half = recoloured(x, 0.5, 1, 2)
    changed = (half != x).flatten(1).any(1).sum()
    assert 16 < changed < 48
    assert torch.equal(half, recoloured(x, 0.5, 1, 2))
    assert not torch.equal(half, recoloured(x, 0.5, 1, 3))
    assert (recoloured(x, 1.0, 1, 2) != x).flatten(1).any(1).all()


def test_a_probability_out_of_range_is_refused() -> None:
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="recolour"):
            TokenizerOptimization(recolour=wrong)
