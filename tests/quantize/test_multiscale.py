"""Multi-scale residual quantization against VAR's algorithm, written out here with PyTorch's own resizing."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from codebound import VectorQuantizer
from codebound.errors import InputError
from codebound.quantize import (
    EMA,
    FSQ,
    Gradient,
    MultiScale,
    Never,
    Normal,
    Quantizer,
    Residual,
    Rotation,
    from_spec,
    load,
    reminder,
    save,
    to_spec,
)

SIZES, D, K = (1, 2, 3, 4, 6), 5, 24


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(sizes=SIZES, update=Gradient(), **options) -> MultiScale:  # noqa: B008
    inner = VectorQuantizer(D, K, update=update, revival=Never(), init=Normal(0.7))
    quantizer = MultiScale(inner, sizes, **options)
    quantizer.init_(flat(features(seed=3)))
    return quantizer


def features(count: int = 6, side: int = 6, seed: int = 1) -> Tensor:
    """Maps with structure at every scale, `[b, d, H, W]`."""
    fine = draw(count, D, side, side, seed=seed)
    return fine * 0.3 + F.interpolate(draw(count, D, 2, 2, seed=seed + 1), side, mode="bilinear")


def flat(f: Tensor) -> Tensor:
    return f.movedim(1, -1).flatten(1)


def square(z: Tensor, side: int = 6) -> Tensor:
    return z.unflatten(1, (side, side, D)).movedim(-1, 1)


# Which of the four convolutions each of ten levels has, in the authors' code; of five levels here.
PLACES = {10: [0, 0, 1, 1, 1, 2, 2, 3, 3, 3], 5: [0, 1, 2, 2, 3]}


def reference(f: Tensor, quantizer: MultiScale) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """VAR, algorithm 1 with its training loss: indices `[b, h, w]` and sums `[b, d, H, W]` of each level, the loss."""
    book = quantizer.inner.codebook.table
    rest, total, indices, totals, losses = f.detach().clone(), torch.zeros_like(f), [], [], []
    for level, (h, w) in enumerate(quantizer.sizes):
        rows = F.interpolate(rest, (h, w), mode="area").permute(0, 2, 3, 1).reshape(-1, D)
        index = torch.cdist(rows.double(), book.double()).argmin(1).view(len(f), h, w)
        part = F.interpolate(book[index].permute(0, 3, 1, 2), f.shape[2:], mode="bicubic")
        weight = quantizer.weights[PLACES[5][level]].view(D, D, 3, 3)
        mixed = F.conv2d(part, weight, quantizer.biases[PLACES[5][level]], padding=1)
        part = 0.5 * part + 0.5 * mixed
        total, rest = total + part, rest - part.detach()
        losses.append(0.25 * F.mse_loss(total.detach(), f) + F.mse_loss(total, f.detach()))
        indices.append(index)
        totals.append(total)
    return indices, totals, torch.stack(losses).mean() * D  # theirs is a mean over d, ours a sum


def test_it_is_vars_algorithm() -> None:
    quantizer, f = made(), features()
    indices, totals, loss = reference(f, quantizer)
    result = quantizer.train()(flat(f))
    assert len(result.indices.unique()) > K // 2
    for ours, theirs in zip(quantizer.levels(result.indices), indices, strict=True):
        assert torch.equal(ours, theirs)
    assert torch.allclose(square(result.z_q), totals[-1], atol=1e-5)
    assert torch.allclose(result.loss, loss, rtol=1e-5)

    # A prefix of the indices decodes to the sum of its levels.
    for level, total in enumerate(totals):
        stop = sum(h * w for h, w in quantizer.sizes[: level + 1])
        assert torch.allclose(square(quantizer.decode(result.indices[:, :stop])), total, atol=1e-5)


def test_its_gradients_are_vars() -> None:
    """To the map: straight through, and of the commitment. To codewords and convolutions: of the codebook loss."""
    quantizer = made().train()
    trained = [quantizer.inner.codebook.table, quantizer.weights, quantizer.biases]
    grads = []
    for ours in (True, False):
        f = features().requires_grad_()
        if ours:
            result = quantizer(flat(f))
            out, loss = square(result.z_q), result.loss
        else:
            _, totals, loss = reference(f, quantizer)
            out = totals[-1].detach() + (f - f.detach())
        grads.append(torch.autograd.grad((out * draw(*f.shape, seed=7)).sum() + loss, [f, *trained]))
    for ours, theirs in zip(*grads, strict=True):
        assert ours.abs().max() > 1e-3
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(("depth", "places"), PLACES.items())
def test_neighbouring_levels_share_a_convolution(depth: int, places: list[int]) -> None:
    quantizer = MultiScale(VectorQuantizer(2, 4), list(range(1, depth + 1)))
    assert list(quantizer._places) == places
    own = MultiScale(VectorQuantizer(2, 4), list(range(1, depth + 1)), blends=depth)
    assert list(own._places) == list(range(depth))


def test_what_a_model_of_the_next_level_sees() -> None:
    quantizer, f = made(), features()
    _, totals, _ = reference(f, quantizer)
    contexts = quantizer.contexts(quantizer.encode(flat(f)))
    assert len(contexts) == len(SIZES) - 1
    for context, total, side in zip(contexts, totals[:-1], SIZES[1:], strict=True):
        assert torch.allclose(context.movedim(-1, 1), F.interpolate(total, side, mode="area"), atol=1e-5)
    # Of a prefix, the level after it is the last.
    assert len(quantizer.contexts(torch.zeros(2, 5, dtype=torch.int64))) == 2


def test_leading_axes_and_maps_that_are_not_square() -> None:
    quantizer = MultiScale(VectorQuantizer(D, K), [(1, 1), (2, 3), (4, 6)])
    z = draw(2, 3, 4 * 6 * D)
    result = quantizer(z)
    assert (result.z_q.shape, result.indices.shape) == (z.shape, (2, 3, 1 + 6 + 24))
    assert [level.shape for level in quantizer.levels(result.indices)] == [
        (2, 3, 1, 1),
        (2, 3, 2, 3),
        (2, 3, 4, 6),
    ]
    assert quantizer.codebook_sizes == (K,) * 31


@pytest.mark.slow
def test_each_level_adds_detail_and_training_lowers_the_error() -> None:
    """EMA for the codewords, Adam for the convolutions, as a training loop would."""
    quantizer = made(update=EMA(0.9)).train()
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=3e-3)
    errors = []
    for step in range(120):
        z = flat(features(16, seed=100 + step))
        result = quantizer(z)
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        report = quantizer.update_(result)
        errors.append(float((result.z_q - z).square().mean()))
    assert sum(errors[-10:]) < 0.5 * sum(errors[:10])
    assert (report.tokens, len(report.window_usage)) == (16, 1)  # maps, and one codebook

    quantizer.eval()
    z = flat(features(32, seed=999))
    codes = quantizer.encode(z)
    by_level = [(quantizer.decode(codes[:, :stop]) - z).square().mean().item() for stop in (1, 5, 14, 30, 66)]
    assert by_level == sorted(by_level, reverse=True)


def test_it_is_saved_with_its_convolutions(tmp_path) -> None:
    quantizer = made(blend=0.3, seed=4)
    assert to_spec(from_spec(to_spec(quantizer))) == to_spec(quantizer)
    save(quantizer, tmp_path / "q.safetensors")
    again = load(tmp_path / "q.safetensors")
    z = flat(features())
    assert torch.equal(again(z).z_q, quantizer.eval()(z).z_q)


def test_a_forward_counts_once_for_who_forgets_the_update(
    recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reminder, "PATIENCE", 20)
    quantizer = MultiScale(VectorQuantizer(2, 8), [1, 2, 3]).train()
    quantizer.init_(draw(64, 18))
    for _ in range(20 - 1):
        quantizer(draw(2, 18))
    assert not recwarn.list
    with pytest.warns(UserWarning, match="without update_"):
        quantizer(draw(2, 18))


def test_its_codebook_is_changed_from_outside_like_any_other() -> None:
    quantizer = made(update=EMA(0.9)).train()
    before = quantizer.codewords().clone()
    quantizer.resize_(K + 8)
    assert quantizer.codebook_sizes == (K + 8,) * 66
    assert torch.equal(quantizer.codewords()[:K], before)
    z = flat(features(16))
    assert quantizer.update_(quantizer(z)).tokens == 16
    quantizer.freeze_()
    held = quantizer.codewords().clone()
    quantizer.update_(quantizer(z))
    assert torch.equal(quantizer.codewords(), held)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MultiScale(VectorQuantizer(2, 4, estimator=Rotation()), [1, 2]), "StraightThrough"),
        (lambda: MultiScale(VectorQuantizer(2, 4), []), "at least one level"),
        (lambda: MultiScale(VectorQuantizer(2, 4), [3, 2]), r"none above the last, the map's; got \[3, 2\]"),
        (lambda: MultiScale(VectorQuantizer(2, 4), [0, 2]), "sizes must be positive"),
        (lambda: MultiScale(VectorQuantizer(2, 4), [1, 2], blend=1.5), r"blend in \[0, 1\]"),
        (lambda: MultiScale(VectorQuantizer(2, 4), [1, 2], blends=-1), "blends must not be negative"),
        (
            lambda: made().decode(torch.zeros(1, 3, dtype=torch.int64)),
            r"indices must have \[1, 5, 14, 30, 66\]",
        ),
        (lambda: made().levels(torch.zeros(1, 67, dtype=torch.int64)), "of whole levels; got 67"),
        (lambda: made()(torch.zeros(1, 7)), r"z must have shape \[\*, 180\]"),
        (
            lambda: from_spec({**to_spec(made()), "inner": to_spec(FSQ([4]))}),
            "inner must describe a VectorQuantizer; got a FSQ",
        ),
    ],
)
def test_what_does_not_fit_is_named(make, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


def test_it_stands_inside_other_quantizers() -> None:
    """As the first stage of a residual over whole maps: results find their codebooks."""
    whole = Residual([made(update=EMA(0.9)), VectorQuantizer(6 * 6 * D, 4, seed=1)])
    z = flat(features(16))
    whole.init_(z)
    result = whole.train()(z)
    report = whole.update_(result)
    assert result.indices.shape == (16, 66 + 1)
    assert len(report.window_usage) == 2
    assert isinstance(whole, Quantizer)
