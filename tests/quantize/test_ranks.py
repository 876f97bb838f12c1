"""Several ranks: whose tokens count, and codewords that `fully_shard` has divided. Two gloo processes."""

import copy
import pickle

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from codebound import VectorQuantizer
from codebound.errors import InputError
from codebound.quantize import FSQ, Product, Projected, Quantizer, Residual, from_spec, to_spec
from codebound.quantize.auto import auto_update
from codebound.quantize.contract.two_ranks import in_two_ranks
from codebound.quantize.form import Linear, Unit
from codebound.quantize.revival import Never, Resample, Split
from codebound.quantize.update import Gradient

RESAMPLE, SPLIT = Resample(window=4.0), Split(window=4.0)


def trained(dim: int = 8, **choices) -> VectorQuantizer:
    return VectorQuantizer(dim, 13, update=Gradient(), **{"revival": SPLIT, **choices})


# 13 codewords on two ranks: parts of different sizes.
QUANTIZERS = {
    "gradient": trained,
    "resample": lambda: trained(revival=RESAMPLE),
    "unit": lambda: trained(form=Unit()),
    "linear": lambda: trained(form=Linear(), revival=Never()),
    "ema": lambda: VectorQuantizer(8, 13, revival=SPLIT),
    "projected": lambda: Projected(trained(4), 8),
    "residual of projected": lambda: Residual(
        [Projected(trained(4), 8, seed=i) for i in range(2)], estimator=None
    ),
}


class Autoencoder(nn.Module):
    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.quantizer, self.decoder = nn.Linear(6, 8), quantizer, nn.Linear(8, 6)

    def forward(self, x: Tensor):
        result = self.quantizer(self.encoder(x))
        return self.decoder(result.z_q), result


def random(rows: int, dim: int, seed: int) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def sharded(model: nn.Module, **options) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    return fully_shard(model, **options)


def run(make, rank: int | None, hook: bool = False) -> dict[str, object]:
    """Train an autoencoder, alone on whole batches or sharded on this rank's half of each; its codewords and codes."""

    def part(batch: Tensor) -> Tensor:
        return batch if rank is None else batch.chunk(2)[rank]  # in this order, as `init_` joins them

    model = Autoencoder(make())
    if rank is not None:
        sharded(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    updates = auto_update(optimizer, model) if hook else None
    model.quantizer.init_(part(random(200, 8, seed=99)))
    revived = []
    for step in range(8):
        x = part(random(40, 6, seed=step) / (1 + step))
        y, result = model(x)
        optimizer.zero_grad()
        ((y - x).square().mean() + result.loss).backward()
        optimizer.step()
        report = updates.reports["quantizer"] if updates else model.quantizer.update_(result)
        revived.append([rows.tolist() for rows in report.revived])
    z = random(50, 8, seed=100)
    indices = model.quantizer.encode(z)
    books = [book.codewords().detach() for book in model.quantizer.codebooks() if book is not None]
    return {
        "codewords": books, "indices": indices, "z_q": model.quantizer.decode(indices).detach(), "revived": revived,
    }  # fmt: skip


def sharded_training(rank: int) -> dict[str, dict[str, object]]:
    found = {name: run(make, rank) for name, make in QUANTIZERS.items()}
    return {**found, "auto_update": run(trained, rank, hook=True)}


def gathered(rank: int) -> tuple[bool, bool]:
    model = sharded(Autoencoder(trained()))
    with torch.no_grad():
        model(random(40, 6, seed=0))  # the parameters stay gathered, as no backward comes
    for write in (lambda: model.quantizer.init_(random(200, 8, seed=1)), model.quantizer.freeze_):
        with pytest.raises(InputError, match=r"call reshard\(\)"):
            write()
    model.reshard()
    model.quantizer.init_(random(200, 8, seed=1))
    before = model.quantizer.codewords().detach().clone()
    model(random(40, 6, seed=0))
    kept = torch.equal(model.quantizer.codewords(), before)
    model.reshard()

    # Set and held as anywhere else; another size needs another parameter.
    mine = random(13, 8, seed=2)
    model.quantizer.set_codewords_(mine)
    model.quantizer.freeze_([3])
    with pytest.raises(InputError, match="resize it before fully_shard"):
        model.quantizer.resize_(20)
    return kept, torch.equal(model.quantizer.codewords(), mine)


def rounded(rank: int) -> None:
    from torch.distributed.fsdp import MixedPrecisionPolicy

    model = sharded(Autoencoder(trained()), mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    with pytest.raises(InputError, match="codewords must stay float32"):
        model(random(40, 6, seed=0))


def drifting(rank: int) -> int:
    quantizer = trained()
    model = sharded(Autoencoder(quantizer), ignored_params=set(quantizer.parameters()))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    quantizer.init_(random(200, 8, seed=1))
    x = random(40, 6, seed=2).chunk(2)[rank]
    y, result = model(x)
    ((y - x).square().mean() + result.loss).backward()
    optimizer.step()
    with pytest.raises(InputError, match="codewords differ between the ranks"):
        quantizer.update_(result)
    quantizer.distribute_(sync=False)
    return quantizer.update_(result).tokens


def alone(wrap, rank: int, **options) -> tuple[int, dict[str, Tensor]]:
    """A rank's own training; ranks need not even take as many steps."""
    quantizer = wrap(VectorQuantizer(8, 13, revival=RESAMPLE, **options))
    quantizer.distribute_(sync=False)
    quantizer.init_(random(100, quantizer.dim, seed=rank))
    tokens = 0
    for step in range(3 + rank):
        z = random(40, quantizer.dim, seed=10 * rank + step)
        tokens = quantizer.update_(quantizer(z)).tokens
    return tokens, quantizer.state_dict()


WRAP = {
    "itself": lambda one: one,
    "residual": lambda one: Residual([one, VectorQuantizer(8, 5)]),
    "product": lambda one: Product([FSQ([5, 5]), one]),
    "projected": lambda one: Projected(one, 6, frozen=True),
}


def without_sync(rank: int) -> dict[str, tuple[int, dict[str, Tensor]]]:
    return {name: alone(wrap, rank) for name, wrap in WRAP.items()}


def groups(rank: int) -> list[tuple[int, float]]:
    """Tokens of one update, and what the codewords came to, for a group of one's own, one of both, and the default."""
    each = [dist.new_group([0]), dist.new_group([1]), dist.new_group([1, 0])]
    counted = []
    for group in (each[rank], each[2], None):
        quantizer = VectorQuantizer(8, 13, process_group=group)
        twin = copy.deepcopy(quantizer)  # the same group, which can't be copied
        twin.init_(random(100, 8, seed=rank))
        tokens = twin.update_(twin(random(10 + rank, 8, seed=rank))).tokens
        counted.append((tokens, float(twin.codewords().sum())))
        assert pickle.loads(pickle.dumps(quantizer)).ranks.group is None  # a group is of this process
        assert "process_group" not in to_spec(quantizer)
        assert from_spec(to_spec(quantizer)).ranks.group is None
    return counted


WORK = (sharded_training, gathered, rounded, drifting, without_sync, groups)


def everything(rank: int, join) -> dict[str, object]:
    join()
    return {work.__name__: work(rank) for work in WORK}


@pytest.fixture(scope="module")
def ranks() -> list[dict]:
    """What comes of all work in both ranks, in one pair of processes."""
    return in_two_ranks(everything, limit=900.0)


@pytest.mark.slow
def test_sharded_training_is_that_of_one_process(ranks: list[dict]) -> None:
    both = [rank["sharded_training"] for rank in ranks]
    whole = {name: run(make, None) for name, make in QUANTIZERS.items()}
    whole["auto_update"] = run(trained, None, hook=True)
    for name, one in whole.items():
        for first, second in zip(both[0][name]["codewords"], both[1][name]["codewords"], strict=True):
            assert torch.equal(first, second), name
        assert torch.equal(both[0][name]["z_q"], both[1][name]["z_q"]), name
        if name not in ("linear", "residual of projected"):  # the one can't revive, the other is not that far
            assert any(rows for step in both[0][name]["revived"] for rows in step), name
        if name == "resample":
            continue  # which token is drawn hangs on its last bits, and these on the encoder's batch
        for rank in both:
            for ours, theirs in zip(rank[name]["codewords"], one["codewords"], strict=True):
                assert torch.allclose(ours, theirs, atol=1e-5), name
            assert torch.equal(rank[name]["indices"], one["indices"]), name
            assert rank[name]["revived"] == one["revived"], name


def test_what_fully_shard_gathered_is_not_written_into(ranks: list[dict]) -> None:
    assert [rank["gathered"] for rank in ranks] == [(True, True)] * 2


def test_ranks_whose_trained_codewords_drift_apart_are_stopped(ranks: list[dict]) -> None:
    assert [rank["drifting"] for rank in ranks] == [20, 20]


def test_without_sync_each_rank_is_alone(ranks: list[dict]) -> None:
    for rank, found in enumerate(ranks):
        for name, wrap in WRAP.items():
            (tokens, state), (expected, own) = found["without_sync"][name], alone(wrap, rank, sync=False)
            assert tokens == expected == 40
            assert all(torch.equal(a, b) for a, b in zip(state.values(), own.values(), strict=True))


def test_a_process_group_is_whose_tokens_count(ranks: list[dict]) -> None:
    first, second = (rank["groups"] for rank in ranks)
    assert [tokens for tokens, _ in first] == [10, 21, 21]
    assert [tokens for tokens, _ in second] == [11, 21, 21]
    assert first[0][1] != second[0][1]
    assert first[1][1] == second[1][1]


def test_members_keep_to_what_they_were_made_with() -> None:
    assert Residual([VectorQuantizer(8, 4, sync=False), VectorQuantizer(8, 4)]).ranks.sync is False
    assert Projected(VectorQuantizer(8, 4, sync=False), 6).ranks.sync is False
    assert "sync" not in to_spec(VectorQuantizer(8, 4, sync=False))
