"""Checkpoints in two widespread layouts: small models that name and choose as those do, against what is imported."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codebound import VectorQuantizer
from codebound.errors import InputError
from codebound.migrate import from_encodec, from_taming
from codebound.quantize import EMA, Cosine, Gradient, Never, Projected, Quantizer, Unit, channel_first

K, D = 32, 6


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def nearest(rows: Tensor, codewords: Tensor) -> Tensor:
    """As both libraries choose: the squares multiplied out."""
    squares = rows.square().sum(1, keepdim=True) - 2 * rows @ codewords.T + codewords.square().sum(1)
    return squares.argmin(1)


# --- taming-transformers ----------------------------------------------------------------------------------------------


class Vqgan(nn.Module):
    """The names of a VQModel: maps around a quantizer that holds an `embedding`."""

    def __init__(self) -> None:
        super().__init__()
        self.quant_conv, self.post_quant_conv = nn.Conv2d(D, D, 1), nn.Conv2d(D, D, 1)
        self.quantize = nn.Module()
        self.quantize.embedding = nn.Embedding(K, D)


@pytest.mark.parametrize("prefix", ["quantize.", "first_stage_model.quantize."])
def test_a_vqgan_gives_the_same_indices_and_reproductions(prefix: str) -> None:
    torch.manual_seed(0)
    model = Vqgan()
    state = {prefix.replace("quantize.", "") + name: value for name, value in model.state_dict().items()}
    image = draw(2, D, 5, 7)
    book = model.quantize.embedding.weight.detach()
    rows = model.quant_conv(image).detach().movedim(1, -1).reshape(-1, D)

    ours = from_taming(state, prefix)
    found = channel_first(ours, model.quant_conv(image))
    expected = nearest(rows, book)
    assert len(expected.unique()) > 8
    assert torch.equal(found.indices.flatten(), expected)
    assert torch.equal(found.z_q.movedim(1, -1).reshape(-1, D), book[expected])
    assert not ours.training


def test_its_training_goes_on_with_its_losses() -> None:
    """β = 0.25 on the codebook, 1 on the commitment (legacy=True), means over D."""
    model = Vqgan()
    ours = from_taming(model.state_dict()).train()
    assert ours.update == Gradient()
    assert ours.revival == Never()
    z = draw(50, D).requires_grad_()
    book = model.quantize.embedding.weight
    z_q = book[nearest(z, book)]
    theirs = F.mse_loss(z_q.detach(), z) + 0.25 * F.mse_loss(z_q, z.detach())
    assert torch.allclose(ours(z).loss, theirs)
    ours.init_(z)  # nothing stops a new start


def test_codes_on_the_sphere() -> None:
    state = {"quantize.embedding.weight": draw(K, D), "quantize.codebook_used": torch.zeros(65536)}
    ours = from_taming(state, unit=True)
    assert (ours.assign, ours.form) == (Cosine(), Unit())
    rows, book = F.normalize(draw(99, D, seed=1)), F.normalize(draw(K, D))
    found = ours(draw(99, D, seed=1))
    assert torch.equal(found.indices[:, 0], nearest(rows, book))
    assert torch.allclose(found.z_q, book[nearest(rows, book)], atol=1e-6)


def test_an_average_brings_its_masses() -> None:
    """The next step of the average starts from their counts and sums."""
    counts = torch.arange(1.0, K + 1)
    total = counts.sum()
    smoothed = (counts + 1e-5) / (total + K * 1e-5) * total
    sums = draw(K, D) * smoothed.unsqueeze(1)
    state = {"embedding.weight": sums / smoothed.unsqueeze(1)}
    state |= {"embedding.cluster_size": counts, "embedding.embed_avg": sums}
    ours = from_taming(state, "")
    assert ours.update == EMA(decay=0.99)
    assert torch.equal(ours.codebook.counts, counts)
    assert torch.equal(ours.codebook.sums, sums)


REFUSED_TAMING = {
    r"pass checkpoint\['state_dict'\]": {"state_dict": {"quantize.embedding.weight": draw(K, D)}, "epoch": 3},
    "'epoch' holds none": {"quantize.embedding.weight": draw(K, D), "epoch": 3},
    "prefix='quantize.' begins no name of the state dict, whose names are decoder.weight": {
        "decoder.weight": draw(2)
    },
    "no quantize.embedding.weight; prefix='quantize.inner.' has one": {
        "quantize.inner.embedding.weight": draw(K, D)
    },
    "it holds no quantizer of this layout": {"quantize.table": draw(K, D)},
    "a GumbelQuantize": {"quantize.proj.weight": draw(K, D, 1, 1), "quantize.embed.weight": draw(K, D)},
    "leave that tensor out": {"quantize.embedding.weight": draw(K, D), "quantize.used": torch.arange(K)},
    "quant_resi.qresi_ls.0.weight, which have no counterpart here": {
        "quantize.embedding.weight": draw(K, D),
        "quantize.quant_resi.qresi_ls.0.weight": draw(D, D, 3, 3),
    },
}


@pytest.mark.parametrize("words", REFUSED_TAMING)
def test_what_is_no_vqgan_is_refused_with_the_next_step(words: str) -> None:
    with pytest.raises(InputError, match=words):
        from_taming(REFUSED_TAMING[words])


# --- EnCodec ----------------------------------------------------------------------------------------------------------

LAYOUTS = {
    "encodec": ("quantizer.vq.layers.{}.", "_codebook."),
    "transformers": ("quantizer.layers.{}.", "codebook."),
}


def codec(layout: str, depth: int = 3, maps: bool = False) -> dict[str, Tensor]:
    """A state dict of stages under the layout's names; their spread falls as residuals do."""
    state = {"encoder.weight": draw(3, 3)}
    stage, book = LAYOUTS[layout]
    for i in range(depth):
        name, embed = stage.format(i), draw(K, D, seed=i) * 0.5**i
        state |= {
            f"{name}{book}inited": torch.ones(1),
            f"{name}{book}cluster_size": torch.full((K,), 4.0),
            f"{name}{book}embed": embed,
            f"{name}{book}embed_avg": embed * 4.0,
        }
        if maps:
            state |= {
                f"{name}project_in.weight": draw(D, 2 * D, seed=10 + i),
                f"{name}project_in.bias": draw(D, seed=20 + i),
                f"{name}project_out.weight": draw(2 * D, D, seed=30 + i) / D,
                f"{name}project_out.bias": draw(2 * D, seed=40 + i) / D,
            }
    return state


def their_codes(state: dict[str, Tensor], layout: str, z: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """Indices `[n, depth]` and reproductions, stage by stage on the residual."""
    stage, book = LAYOUTS[layout]
    residual, indices = z, []
    for i in range(depth):
        name = stage.format(i)
        maps = f"{name}project_in.weight" in state
        inner = residual
        if maps:
            inner = F.linear(residual, state[f"{name}project_in.weight"], state[f"{name}project_in.bias"])
        embed = state[f"{name}{book}embed"]
        indices.append(nearest(inner, embed))
        out = embed[indices[-1]]
        if maps:
            out = F.linear(out, state[f"{name}project_out.weight"], state[f"{name}project_out.bias"])
        residual = residual - out
    return torch.stack(indices, 1), z - residual


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("maps", [False, True])
def test_an_encodec_gives_the_same_indices_and_reproductions(layout: str, maps: bool) -> None:
    state = codec(layout, maps=maps)
    z = draw(200, 2 * D if maps else D, seed=9)
    indices, z_q = their_codes(state, layout, z, 3)
    ours = from_encodec(state)
    found = ours(z)
    assert len(indices.unique()) > 16
    assert torch.equal(found.indices, indices)
    assert torch.allclose(found.z_q, z_q, atol=1e-5)
    assert isinstance(ours.stages[0], Projected if maps else VectorQuantizer)

    # A lower bandwidth is a prefix; its reproduction is that of fewer stages.
    assert torch.allclose(ours.decode(indices[:, :2]), their_codes(state, layout, z, 2)[1], atol=1e-5)


def test_its_masses_come_along() -> None:
    stage = from_encodec(codec("encodec")).stages[1]
    assert isinstance(stage, VectorQuantizer)
    assert torch.equal(stage.codebook.counts, torch.full((K,), 4.0))
    assert stage.update == EMA(decay=0.99)
    assert stage.loss_weights["commitment"] == pytest.approx(1 / (3 * D))


def changed(change: Callable[[dict[str, Tensor]], object]) -> dict[str, Tensor]:
    state = codec("encodec")
    change(state)
    return state


REFUSED_ENCODEC = {
    "stage 1 has seen no data": lambda s: s["quantizer.vq.layers.1._codebook.inited"].zero_(),
    r"the stages \[0, 2\]: some between": lambda s: [s.pop(n) for n in list(s) if ".layers.1." in n],
    "no codebook in stage 2": lambda s: s.pop("quantizer.vq.layers.2._codebook.embed"),
    "no quantizer.vq.layers.0._codebook.embed": lambda s: s.pop("quantizer.vq.layers.0._codebook.embed"),
    "layer_norm.weight, which have no counterpart": lambda s: s.update(
        {"quantizer.vq.layers.0.layer_norm.weight": draw(D)}
    ),
    "begins no name": lambda s: s.clear(),
}


@pytest.mark.parametrize("words", REFUSED_ENCODEC)
def test_what_is_no_encodec_is_refused_with_the_next_step(words: str) -> None:
    with pytest.raises(InputError, match=words):
        from_encodec(changed(REFUSED_ENCODEC[words]))


@pytest.mark.parametrize(
    "make", [lambda: from_taming(Vqgan().state_dict()), lambda: from_encodec(codec("encodec"))]
)
def test_what_is_imported_is_saved_like_any_other(make: Callable[[], Quantizer], tmp_path) -> None:
    from codebound.quantize import load, save

    ours = make()
    save(ours, tmp_path / "q.safetensors")
    z = draw(40, D)
    assert torch.equal(load(tmp_path / "q.safetensors").encode(z), ours.encode(z))
