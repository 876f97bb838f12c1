"""`Gap` where the limit is known in closed form; over batches and ranks it is one data set."""

import math
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from codebound import search
from codebound.errors import InputError
from codebound.metrics import CodeUsage, Gap
from codebound.quantize.ranks import end_group
from codebound.theory.lloyd import lloyd_max

KEYS = {
    "distortion",
    "rate_bits",
    "shannon",
    "gaussian_reference",
    "gap_db",
    "gap_db_low",
    "gap_db_high",
    "gaussian_reference_db",
    "tokens",
}


@cache
def scalar_code(levels: int) -> tuple[Tensor, Tensor, Tensor]:
    """N(0, 1) through the Lloyd–Max quantizer: latents `[n, 1]`, reproductions, indices `[n, 1]`."""
    codebook = torch.tensor(lloyd_max(levels).levels, dtype=torch.float32).unsqueeze(1)
    z = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(1))
    indices = search.nearest(z, codebook)
    return z, codebook[indices], indices.unsqueeze(1)


def test_gaussian_gap_is_lloyd_maxs() -> None:
    """Scalar quantizer of N(0, 1), 8 levels: 10 log₁₀(0.03454·64) = 3.44 dB over the Shannon limit."""
    z, z_q, _ = scalar_code(8)
    metric = Gap(1, (8,))
    metric.update(z, z_q)
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found.keys() == KEYS
    truth = 10 * math.log10(lloyd_max(8).distortion * 2**6)
    assert found["rate_bits"] == 3.0
    assert found["gap_db"] == pytest.approx(truth, abs=0.15)
    assert found["gap_db_low"] < truth < found["gap_db_high"]
    assert found["gaussian_reference_db"] == pytest.approx(truth, abs=0.1)


def test_entropy_rate_is_that_of_an_entropy_coder() -> None:
    z, z_q, indices = scalar_code(8)
    metric = Gap(1, (8,), rate="entropy")
    metric.update(z, z_q, indices)
    found = metric.compute()
    assert float(found["rate_bits"]) == pytest.approx(lloyd_max(8).entropy_bits, abs=0.01)
    nominal = Gap(1, (8,))
    nominal.update(z, z_q)
    difference = 20 * math.log10(2) * (3 - float(found["rate_bits"]))
    assert float(nominal.compute()["gap_db"] - found["gap_db"]) == pytest.approx(difference, abs=1e-9)


def test_entropy_of_few_tokens_does_not_flatter() -> None:
    """200 tokens of 8 equally likely codewords: the plug-in falls short of 3 bits, the rate less so."""
    generator = torch.Generator().manual_seed(0)
    short = []
    for _ in range(20):
        indices = torch.randint(8, (200, 1), generator=generator)
        z = torch.randn(200, 1, generator=generator)
        gap, plain = Gap(1, (8,), rate="entropy", samples=200), CodeUsage(8)
        gap.update(z, z + 0.1, indices)
        plain.update(indices)
        short.append((3 - float(gap.compute()["rate_bits"]), 3 - float(plain.compute()["entropy_bits"])))
    rate, plug_in = torch.tensor(short).mean(0).tolist()
    assert plug_in == pytest.approx(7 / (400 * math.log(2)), rel=0.3)
    assert rate < plug_in / 2


def test_real_data_may_beat_the_gaussian_but_not_the_bound() -> None:
    """Two narrow clusters, one bit: the covariance sees a wide Gaussian, Shannon's bound the clusters."""
    generator = torch.Generator().manual_seed(0)
    sign = torch.randint(2, (4000, 1), generator=generator) * 2.0 - 1
    z = sign * torch.tensor([[3.0, 3.0]]) + torch.randn(4000, 2, generator=generator)
    metric = Gap(2, (2,))
    metric.update(z, sign * torch.tensor([[3.0, 3.0]]))
    found = metric.compute()
    assert float(found["gaussian_reference_db"]) < -1
    assert float(found["gap_db"]) > 0


def test_residual_rates_add_up() -> None:
    z = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    metric = Gap(2, (16, 4))
    metric.update(z, z + 0.1)
    assert float(metric.compute()["rate_bits"]) == 6.0


def test_left_out_tokens_count_nowhere() -> None:
    z, z_q, indices = (t.clone() for t in scalar_code(8))
    whole, part = (Gap(1, (8,), rate="entropy") for _ in range(2))
    z[0], indices[1] = torch.nan, -1
    mask = torch.ones(len(z), dtype=torch.bool)
    mask[2] = False
    whole.update(z, torch.where(mask.unsqueeze(1), z_q, 1e6), indices, mask=mask)
    part.update(z[3:], z_q[3:], indices[3:])
    assert whole.compute() == part.compute()


def test_batches_in_any_order_are_one_set() -> None:
    z, z_q, _ = scalar_code(8)
    one, many = Gap(1, (8,), samples=1000), Gap(1, (8,), samples=1000)
    one.update(z, z_q)
    for rows in torch.randperm(len(z), generator=torch.Generator().manual_seed(0)).split(3000):
        many(z[rows], z_q[rows])  # forward: torchmetrics' way of merging states
    for name, value in one.compute().items():
        assert float(many.compute()[name]) == pytest.approx(float(value), rel=1e-12), name


def test_the_sample_is_fair() -> None:
    """Kept by a hash of the bits, not by size or sign: mean and spread are the source's."""
    z = torch.randn(50_000, 2, generator=torch.Generator().manual_seed(3))
    metric = Gap(2, (4,), samples=5000)
    metric.update(z, z * 0.5)
    kept = metric.sample[:, 1:]
    assert kept.isfinite().all()
    assert kept.mean(0).abs().max() < 4 / math.sqrt(5000)
    assert (kept.var(0) - 1).abs().max() < 4 * math.sqrt(2 / 5000)


def test_what_is_refused() -> None:
    z = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="dim is 0"):
        Gap(0, (4,))
    with pytest.raises(InputError, match="needs the indices"):
        Gap(2, (4,), rate="entropy").update(z, z)
    with pytest.raises(InputError, match=r"\[\*, 2\]"):
        Gap(2, (4,)).update(z[:, :1], z[:, :1])
    with pytest.raises(InputError, match="no finite"):
        Gap(2, (4,)).compute()
    lossless = Gap(2, (4,))
    lossless.update(z, z)
    with pytest.raises(InputError, match="distortion is 0"):
        lossless.compute()


def _rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    z, z_q, indices = torch.load(folder / "set.pt")
    rows = slice(0, 1200) if rank == 0 else slice(1200, None)  # ranks of different size
    gap, codes = Gap(1, (8,), rate="entropy", samples=1000), CodeUsage(8)
    gap.update(z[rows], z_q[rows], indices[rows])
    codes.update(indices[rows])
    torch.save((gap.compute(), codes.compute()), folder / f"{rank}.pt")
    end_group()


def test_two_ranks_are_one_process(tmp_path: Path) -> None:
    z, z_q, indices = (t[:4000] for t in scalar_code(8))
    torch.save((z, z_q, indices), tmp_path / "set.pt")
    mp.start_processes(_rank, args=(tmp_path,), nprocs=2, start_method="fork")
    gap, codes = Gap(1, (8,), rate="entropy", samples=1000), CodeUsage(8)
    gap.update(z, z_q, indices)
    codes.update(indices)
    for rank in range(2):
        for found, expected in zip(torch.load(tmp_path / f"{rank}.pt"), (gap, codes), strict=True):
            for name, value in expected.compute().items():
                assert float(found[name]) == pytest.approx(float(value), rel=1e-12), name
