"""`CodeUsage` against scikit-learn's entropy and by hand; over batches and ranks it is one data set."""

import math

import pytest
import torch
from sklearn.metrics import mutual_info_score

from codebound.errors import InputError
from codebound.metrics import CodeUsage


def zipf(n: int, k: int, seed: int = 0) -> torch.Tensor:
    weights = 1.0 / torch.arange(1, k + 1)
    return torch.multinomial(weights, n, replacement=True, generator=torch.Generator().manual_seed(seed))


def test_equals_scikit_learn_over_batches() -> None:
    indices = zipf(5000, 64)
    metric = CodeUsage(64)
    for batch in indices.split(700):
        metric.update(batch)
    found = metric.compute()
    nats = mutual_info_score(indices.numpy(), indices.numpy())  # of a variable with itself: its entropy
    assert float(found["entropy_bits"]) == pytest.approx(nats / math.log(2), rel=1e-12)
    assert float(found["perplexity"]) == pytest.approx(math.exp(nats), rel=1e-12)
    assert float(found["tokens"]) == 5000


def test_by_hand_with_masked_tokens() -> None:
    metric = CodeUsage(4, dead_below=0.3)
    metric.update(torch.tensor([[0, 0, -1], [1, 0, -1]]))
    found = metric.compute()
    assert float(found["usage"]) == 0.5
    assert float(found["dead"]) == 3
    assert float(found["tokens"]) == 4
    assert float(found["entropy_bits"]) == pytest.approx(2 - 0.75 * math.log2(3))


def test_several_codebooks_have_their_own_figures() -> None:
    indices = torch.stack([zipf(300, 8, 1), torch.zeros(300, dtype=torch.int64)], dim=-1)
    metric = CodeUsage((8, 3))
    metric.update(indices.view(3, 100, 2))
    found = metric.compute()
    assert found["usage"].tolist() == pytest.approx([1.0, 1 / 3])
    assert found["perplexity"][1] == 1.0
    alone = CodeUsage(8)
    alone.update(indices[:, 0])
    assert float(found["entropy_bits"][0]) == float(alone.compute()["entropy_bits"])


def test_per_batch_perplexity_is_lower_than_the_sets() -> None:
    """What a paper that averages over batches reports, and what docs/metrics.md says of it."""
    indices = torch.arange(64).repeat_interleave(4)
    metric = CodeUsage(64)
    per_batch = [float(metric(batch)["perplexity"]) for batch in indices.split(32)]
    assert sum(per_batch) / len(per_batch) == pytest.approx(8.0)
    assert float(metric.compute()["perplexity"]) == pytest.approx(64.0)


def test_nothing_seen_is_nan_and_reset_forgets() -> None:
    metric = CodeUsage(4)
    metric.update(torch.tensor([-1, -1]))
    found = metric.compute()
    assert all(math.isnan(float(found[name])) for name in ("usage", "perplexity", "entropy_bits", "dead"))
    metric.update(torch.tensor([3]))
    assert float(metric.compute()["usage"]) == 0.25
    metric.reset()
    assert int(metric.counts.sum()) == 0


@pytest.mark.parametrize(
    ("sizes", "indices", "words"),
    [
        (4, torch.tensor([4]), "−1 … 3"),
        (4, torch.tensor([-2]), "−1 … 3"),
        ((4, 4), torch.tensor([1, 2, 3]), r"\[\*, 2\]"),
    ],
)
def test_wrong_indices_are_named(sizes: int | tuple[int, ...], indices: torch.Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        CodeUsage(sizes).update(indices)


@pytest.mark.parametrize("sizes", [0, (), 2**29])
def test_sizes_out_of_range(sizes: int | tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="codebook_sizes"):
        CodeUsage(sizes)
