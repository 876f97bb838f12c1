"""Updates by hook: how many, whose, and what they keep."""

import copy
import gc
import io
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from codebound import Product, Residual, VectorQuantizer
from codebound.errors import InputError
from codebound.quantize.auto import auto_update
from codebound.quantize.revival import Never, Resample
from codebound.quantize.update import Gradient


def normal(rows: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


class Model(nn.Module):
    def __init__(self, dim: int = 4, size: int = 8, **choices) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(4, dim)
        self.vq = VectorQuantizer(dim, size, **choices)

    def forward(self, x: Tensor) -> Tensor:
        result = self.vq(self.encoder(x))
        return result.z_q.square().mean() + result.loss


def begun(**choices) -> Model:
    model = Model(**choices)
    model.vq.init_(model.encoder(normal(200, 4)))
    return model


def step(model: Model, optimizer: torch.optim.Optimizer, *batches: Tensor) -> None:
    optimizer.zero_grad()
    torch.stack([model(batch) for batch in batches]).sum().backward()
    optimizer.step()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def test_a_copy_does_not_move_the_original() -> None:
    model = begun()
    optimizer = sgd(model)
    auto_update(optimizer, model)
    before = model.vq.codebook.table.clone()
    copy.deepcopy(model)(normal(60, 4) + 100)
    optimizer.step()
    assert torch.equal(model.vq.codebook.table, before)
    assert int(model.vq.codebook.step) == 0


def test_a_copy_can_have_an_optimizer_of_its_own() -> None:
    model = begun()
    optimizer = sgd(model)
    auto_update(optimizer, model)
    twin = copy.deepcopy(model)
    others = sgd(twin)
    auto_update(others, twin)
    step(twin, others, normal(60, 4))
    step(twin, others, normal(60, 4))
    step(model, optimizer, normal(60, 4))
    assert (int(twin.vq.codebook.step), int(model.vq.codebook.step)) == (2, 1)


@pytest.mark.slow
def test_memory_is_that_of_one_forward() -> None:
    model = Model(dim=32, size=512)
    auto_update(sgd(model), model)

    def held() -> int:
        gc.collect()
        tensors = [o for o in gc.get_objects() if type(o) is Tensor]
        return sum(t.untyped_storage().nbytes() for t in tensors)

    sizes = []
    for _ in range(12):
        with torch.no_grad():
            model(normal(64, 4))
        model(normal(64, 4))
        sizes.append(held())
    assert sizes[-1] == sizes[0]


def test_forwards_of_other_steps_count_as_batches_of_one() -> None:
    by_hook, by_hand = begun(), begun()
    batches = [normal(64, 4, seed) for seed in range(5)]
    optimizer = sgd(by_hook)
    hook = auto_update(optimizer, by_hook)
    other = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1)
    results = []
    for batch in batches[:-1]:
        results.append(by_hand.vq(by_hand.encoder(batch)))
        with torch.no_grad():
            by_hook(batch)
        other.step()
    results.append(by_hand.vq(by_hand.encoder(batches[-1])))
    step(by_hook, optimizer, batches[-1])
    assert by_hand.vq.update_(*results).tokens == hook.reports["vq"].tokens == 5 * 64
    assert torch.equal(by_hook.vq.codebook.table, by_hand.vq.codebook.table)


@pytest.mark.parametrize("same", [True, False])
def test_a_second_call_takes_the_place_of_the_first(same: bool) -> None:
    model = begun()
    first = sgd(model)
    second = first if same else sgd(model)
    auto_update(first, model)
    auto_update(second, model)
    step(model, second, normal(60, 4))
    first.step()
    assert int(model.vq.codebook.step) == 1
    assert len(model.vq._forward_hooks) == 1
    assert len(first._optimizer_step_post_hooks) == int(same)


def test_a_call_on_the_whole_takes_over_what_is_inside() -> None:
    stages = [VectorQuantizer(4, 8), VectorQuantizer(4, 8)]
    quantizer, z = Residual(stages), normal(60, 4)
    quantizer.init_(z)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1)
    auto_update(optimizer, stages[0])
    auto_update(optimizer, quantizer)
    quantizer(z)
    optimizer.step()
    assert [int(stage.codebook.step) for stage in stages] == [1, 1]


def test_model_and_file() -> None:
    model = begun()
    optimizer = sgd(model)
    auto_update(optimizer, model)
    model(normal(60, 4))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    loaded(normal(60, 4))
    pickle.loads(pickle.dumps(optimizer))
    optimizer.step()
    assert int(model.vq.codebook.step) == 1
    assert int(loaded.vq.codebook.step) == 0


def test_results_from_before_init_are_not_applied() -> None:
    model, alone = Model(), Model()
    for one in (model, alone):
        optimizer = sgd(one)
        hook = auto_update(optimizer, one)
        if one is model:
            with torch.no_grad():
                one(normal(60, 4) + 3)
        one.vq.init_(normal(200, 4))
        step(one, optimizer, normal(60, 4, seed=1))
        assert hook.reports["vq"].tokens == 60
    assert torch.equal(model.vq.codebook.table, alone.vq.codebook.table)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_revived_codewords_begin_without_moments(kind: type[torch.optim.Optimizer]) -> None:
    revival = Resample(threshold=0.5, window=4.0)
    model = begun(size=32, update=Gradient(), revival=revival)
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    optimizer = kind([{"params": model.parameters(), **options}], lr=1e-2)
    hook = auto_update(optimizer, model)
    table = model.vq.codebook.table
    revived = torch.empty(0)
    while len(revived) == 0:
        step(model, optimizer, 0.3 * normal(64, 4))
        revived = hook.reports["vq"].revived[0]
    moments = [m for m in optimizer.state[table].values() if m.shape == table.shape]
    rest = torch.ones(32, dtype=torch.bool).index_fill(0, revived, False)
    assert moments
    for moment in moments:
        assert (moment[revived] == 0).all()
        assert (moment[rest] != 0).any()


def test_moments_in_a_composition() -> None:
    """Rows of the right codebook: the second part has dead codewords, the first has none."""
    choices = [Never(), Resample(window=4.0)]
    parts = [VectorQuantizer(2, 4, update=Gradient(), revival=revival) for revival in choices]
    quantizer = Product(parts)
    quantizer.init_(normal(100, 4))
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=1e-6)
    hook = auto_update(optimizer, quantizer)
    far = parts[1].codebook.table
    with torch.no_grad():
        far[3] = 50.0
    for seed in range(2):
        optimizer.zero_grad()
        quantizer(normal(8, 4, seed)).loss.backward()
        optimizer.state[far].get("exp_avg", torch.empty(0)).fill_(1.0)
        optimizer.step()
    assert [rows.tolist() for rows in hook.reports[""].revived] == [[], [3]]
    moment = optimizer.state[far]["exp_avg"]
    assert float(moment[3].abs().max()) == 0
    assert float(moment[:3].abs().min()) > 0.5


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputation_does_not_count(reentrant: bool) -> None:
    model = begun()
    optimizer = sgd(model)
    hook = auto_update(optimizer, model)
    loss = checkpoint(model, normal(60, 4).requires_grad_(), use_reentrant=reentrant)
    assert isinstance(loss, Tensor)
    torch.autograd.backward(loss)
    optimizer.step()
    assert hook.reports["vq"].tokens == 60


@pytest.mark.untyped
def test_a_compiled_model_is_one_graph_with_its_hook() -> None:
    model, eager = begun(), begun()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for one, forward in ((model, compiled), (eager, eager)):
        optimizer = sgd(one)
        auto_update(optimizer, one)
        for seed in range(3):
            optimizer.zero_grad()
            forward(normal(60, 4, seed)).backward()
            optimizer.step()
    assert int(model.vq.codebook.step) == 3
    assert torch.allclose(model.vq.codebook.table, eager.vq.codebook.table)


@pytest.mark.untyped
def test_what_is_no_optimizer_or_holds_no_quantizer() -> None:
    model = begun()
    with pytest.raises(InputError, match="optimizer must be"):
        auto_update(None, model)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="model must be"):
        auto_update(sgd(model), None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="holds none"):
        auto_update(sgd(model), nn.Linear(2, 2))
