"""Encoders that leave this process: traced, exported, as ONNX; they give the eager indices on inputs they never saw.

And what only stands for numbers: torch.func's transforms, the device `meta`, fake tensors.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import onnxruntime
import pytest
import torch
from quantize.zoo import EVERY, vq
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.func import functional_call, grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from codebound import BSQ, FSQ, LFQ, Product, Projected, Residual, VectorQuantizer
from codebound.errors import InputError
from codebound.quantize import Quantizer, assign, estimator
from codebound.quantize.wrap import Scaled
from codebound.search import nearest

pytestmark = pytest.mark.untyped

# What a tokenizer ships with. N·K of the example is beyond the small search, and that of new inputs, too.
SHIPPED: dict[str, Callable[[], Quantizer]] = {
    "vq": lambda: VectorQuantizer(8, 512),
    "cosine": lambda: VectorQuantizer(8, 512, assign=assign.Cosine()),
    "residual": lambda: Residual([VectorQuantizer(8, 64, seed=i) for i in range(2)]),
    "beam": lambda: Residual([VectorQuantizer(8, 32, seed=i) for i in range(2)], beam_width=3),
    "product": lambda: Product([VectorQuantizer(3, 64), VectorQuantizer(5, 64)]),
    "projected": lambda: Projected(VectorQuantizer(4, 64, assign=assign.Cosine()), 8, normalise=True),
    "fsq": lambda: FSQ([8, 5, 5, 3, 2, 2, 4, 7]),
    "lfq": lambda: LFQ(8),
    "bsq": lambda: BSQ(8),
    "residual fsq": lambda: Residual([Scaled(FSQ([8] * 8), 1.0), Scaled(FSQ([5] * 8), (0.25,) * 8)]),
}


class Codecs(nn.Module):
    """Indices and their reproductions of some quantizers: encode and decode in one graph."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names
        self.quantizers = nn.ModuleList(ready(name) for name in names)

    def forward(self, z: Tensor) -> tuple[Tensor, ...]:
        found = []
        for quantizer in self.quantizers:
            indices = quantizer.encode(z)
            found += [indices, quantizer.decode(indices)]
        return tuple(found)


def ready(name: str) -> Quantizer:
    torch.manual_seed(0)
    quantizer = SHIPPED[name]().eval()
    quantizer.init_(torch.randn(2000, 8))
    return quantizer


def example() -> Tensor:
    return torch.randn(256, 8, generator=torch.Generator().manual_seed(1))


def unseen() -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(rows, 8, generator=generator) for rows in (256, 5, 300)]


def expect_eager(model: Codecs, run: Callable[[Tensor], Sequence[Tensor]]) -> None:
    for z in unseen():
        for place, (found, wanted) in enumerate(zip(run(z), model(z), strict=True)):
            what = model.names[place // 2]
            assert found.is_floating_point() or torch.equal(found, wanted), what
            torch.testing.assert_close(found, wanted, msg=what)


@pytest.mark.parametrize("name", SHIPPED)
def test_traced(name: str) -> None:
    model = Codecs(name)
    expect_eager(model, torch.jit.trace(model, example()))


def exported(model: Codecs, strict: bool = False) -> torch.export.ExportedProgram:
    shapes = ({0: torch.export.Dim("tokens")},)
    return torch.export.export(model, (example(),), dynamic_shapes=shapes, strict=strict)


@pytest.mark.slow
def test_exported_strictly() -> None:
    model = Codecs("vq", "beam", "residual fsq")
    expect_eager(model, exported(model, strict=True).module())


@pytest.mark.parametrize(
    ("dynamo", "names"),
    [
        pytest.param(False, list(SHIPPED), id="traced"),
        pytest.param(True, ["vq", "residual", "bsq"], id="exported"),
        pytest.param(True, list(SHIPPED), id="exported, all", marks=pytest.mark.slow),
    ],
)
def test_onnx(dynamo: bool, names: list[str], tmp_path: Path) -> None:
    model, file = Codecs(*names).eval(), str(tmp_path / "model.onnx")
    shapes = (
        {"dynamic_shapes": ({0: torch.export.Dim("tokens")},)}
        if dynamo
        else {"dynamic_axes": {"z": {0: "tokens"}}}
    )
    torch.onnx.export(model, (example(),), file, dynamo=dynamo, input_names=["z"], verbose=False, **shapes)
    session = onnxruntime.InferenceSession(file)
    expect_eager(model, lambda z: [torch.from_numpy(x) for x in session.run(None, {"z": z.numpy()})])


LOAD = """
import sys, torch
program, z = torch.export.load(sys.argv[1]).module(), torch.load(sys.argv[2])
torch.save(program(z), sys.argv[3])
assert not [name for name in sys.modules if "codebound" in name]
"""


@pytest.mark.slow
def test_an_exported_program_runs_where_codebound_was_never_imported(tmp_path: Path) -> None:
    model = Codecs(*SHIPPED)
    program = exported(model)
    expect_eager(model, program.module())
    files = [str(tmp_path / name) for name in ("program.pt2", "z.pt", "found.pt")]
    torch.export.save(program, files[0])
    torch.save(unseen()[2], files[1])
    subprocess.run([sys.executable, "-c", LOAD, *files], check=True)
    expect_eager(model, lambda z: torch.load(files[2]) if len(z) == len(unseen()[2]) else model(z))


def test_in_a_graph_a_codeword_that_is_not_finite_is_never_chosen() -> None:
    z, book = torch.randn(50, 4), torch.randn(9, 4)
    book[[0, 5], 1] = torch.tensor([float("nan"), float("inf")])
    traced = torch.jit.trace(nearest, (z, book))
    assert torch.equal(traced(z + 1, book), nearest(z + 1, book))


def test_in_a_graph_latents_far_from_the_origin_are_centred() -> None:
    z, book = 1 + 1e-3 * torch.randn(500, 8), 1 + 1e-3 * torch.randn(300, 8)
    traced = torch.jit.trace(nearest, (z, book))
    other = 1 + 1e-3 * torch.randn(500, 8)
    assert (traced(other, book) == nearest(other, book)).double().mean() > 0.99


@pytest.mark.parametrize("name", ["default", "gumbel, hard", "lfq", "residual, dropout"])
def test_training_is_not_traced(name: str) -> None:
    quantizer = EVERY[name]().train()
    with pytest.raises(InputError, match=r"call \.eval\(\)"):
        torch.jit.trace(lambda z: quantizer(z).z_q, torch.randn(9, quantizer.dim), check_trace=False)


def test_an_estimator_over_all_codewords_is_traced_for_any_number_of_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(estimator, "CHUNK", 64)  # several parts of a batch
    quantizer = EVERY["softmax_all"]().eval()
    example, z = torch.randn(20, quantizer.dim), torch.randn(31, quantizer.dim)
    traced = torch.jit.trace(quantizer, example.requires_grad_(), strict=False, check_trace=False)
    gradients = []
    for run in (quantizer, traced):
        leaf = z.clone().requires_grad_()
        run(leaf)[0].square().sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", SHIPPED)
def test_functional_transforms(name: str) -> None:
    quantizer = ready(name)
    z = torch.randn(4, 20, 8)
    indices, result = quantizer.encode(z), quantizer(z)
    assert torch.equal(vmap(quantizer.encode)(z), indices)
    assert torch.equal(vmap(quantizer.encode, in_dims=1)(z), indices.transpose(0, 1))
    assert torch.equal(vmap(vmap(quantizer.encode))(z), indices)
    assert torch.equal(vmap(quantizer.decode)(indices), quantizer.decode(indices))
    assert torch.equal(vmap(lambda z: quantizer(z).z_q)(z), result.z_q)
    state = dict(quantizer.state_dict())
    assert torch.equal(functional_call(quantizer, state, (z,)).z_q, result.z_q)
    assert torch.equal(make_fx(lambda z: quantizer.encode(z))(z[:1])(z[1:2]), indices[1:2])


@pytest.mark.parametrize("name", [*SHIPPED, "softmax_all", "simvq", "rotation"])
def test_functional_gradients(name: str) -> None:
    quantizer = ready(name) if name in SHIPPED else EVERY[name]().eval()
    z = torch.randn(3, 20, quantizer.dim)

    def loss(z: Tensor) -> Tensor:
        result = quantizer(z)
        return (result.z_q * z.detach().sin()).sum() + result.loss

    leaf = z.clone().requires_grad_()
    loss(leaf).backward()
    torch.testing.assert_close(grad(loss)(z), leaf.grad)
    each = []
    for row in z:
        leaf = row.clone().requires_grad_()
        loss(leaf).backward()
        each.append(leaf.grad)
    torch.testing.assert_close(vmap(grad(loss))(z), torch.stack(each))


def test_many_codebooks_under_vmap() -> None:
    first, second = vq(8, 32), vq(8, 32)
    second.codebook.reset_(torch.randn(32, 8))
    z = torch.randn(50, 8)
    states = {k: torch.stack([v, second.state_dict()[k]]) for k, v in first.state_dict().items()}
    found = vmap(lambda state: functional_call(first.eval(), state, (z,)).indices)(states)
    assert torch.equal(found, torch.stack([first.eval()(z).indices, second.eval()(z).indices]))
    own = vmap(nearest)(z.view(2, 25, 8), torch.stack([first.codebook.table, second.codebook.table]))
    assert torch.equal(own[1], nearest(z[25:], second.codebook.table))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", SHIPPED)
def test_shapes_without_numbers(name: str, training: bool) -> None:
    quantizer = SHIPPED[name]().train(training)
    z = torch.randn(3, 7, 8)
    wanted = quantizer(z)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = quantizer(mode.from_tensor(z))
    meta = quantizer.to("meta")(z.to("meta"))
    for found in (fake, meta):
        assert found.z_q.shape == wanted.z_q.shape
        assert found.indices.shape == wanted.indices.shape
        assert found.losses.keys() == wanted.losses.keys()
    assert quantizer.decode(meta.indices).shape == z.shape
