"""Usage and geometry against values worked out by hand."""

import math

import pytest
import torch

from codebound.errors import InputError
from codebound.metrics.usage import entropy_rate, geometry, usage


def test_uniform_usage_has_full_perplexity() -> None:
    found = usage(torch.full((2, 8), 5.0))
    assert found.perplexity.tolist() == pytest.approx([8.0, 8.0])
    assert found.entropy_bits.tolist() == pytest.approx([3.0, 3.0])
    assert found.dead.tolist() == [0, 0]


def test_usage_by_hand() -> None:
    found = usage(torch.tensor([3, 1, 0, 0]))
    nats = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert float(found.perplexity) == pytest.approx(math.exp(nats))
    assert float(found.entropy_bits) == pytest.approx(nats / math.log(2))
    assert float(found.usage_min) == 0.0
    assert float(found.usage_max) == 0.75
    assert float(found.dead) == 2


def test_dead_is_relative_to_the_number_of_vectors() -> None:
    counts = torch.tensor([99_990, 9, 1])
    assert float(usage(counts).dead) == 2  # 9 of 100,000 is under 1e-4
    assert float(usage(counts, dead_below=5e-5).dead) == 1


def test_geometry_by_hand() -> None:
    found = geometry(torch.tensor([[3.0, 4.0], [0.0, 0.0], [3.0, 0.0]]))
    assert float(found.norm_mean) == pytest.approx(8 / 3)
    assert float(found.pairwise_distance) == pytest.approx((5 + 4 + 3) / 3)


def test_no_vector_at_all_uses_nothing() -> None:
    found = usage(torch.zeros(5))
    assert float(found.dead) == 5
    assert float(found.usage_max) == 0


@pytest.mark.parametrize("counts", [[], [-1, 2]])
def test_what_no_vectors_can_have_counted_is_refused(counts: list[int]) -> None:
    with pytest.raises(InputError, match="counts"):
        usage(torch.tensor(counts))


def test_the_entropy_rate_is_less_biased_than_the_plug_in_and_never_over_the_nominal_one() -> None:
    generator = torch.Generator().manual_seed(0)
    plug_in, corrected = [], []
    for _ in range(50):
        counts = torch.bincount(torch.randint(0, 64, (300,), generator=generator), minlength=64)
        plug_in.append(float(usage(counts).entropy_bits))
        corrected.append(entropy_rate(counts))
    assert abs(sum(corrected) / 50 - 6) < 0.3 * abs(sum(plug_in) / 50 - 6)
    assert max(corrected) <= 6
    assert entropy_rate(torch.zeros(4)) == 0
