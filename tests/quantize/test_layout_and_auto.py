"""Channel-first maps, padded sequences, and updates by hook."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from codebound import VectorQuantizer
from codebound.errors import InputError
from codebound.quantize.auto import auto_update
from codebound.quantize.layout import channel_first, channel_first_decode, length_mask


@pytest.fixture
def quantizer() -> VectorQuantizer:
    made = VectorQuantizer(3, 16)
    made.init_(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)))
    return made


@pytest.mark.parametrize("space", [(), (5,), (4, 6), (2, 3, 4)])
def test_channel_first_is_the_same_quantizer_on_moved_axes(quantizer, space: tuple[int, ...]) -> None:
    z = torch.randn(2, 3, *space, generator=torch.Generator().manual_seed(1))
    result = channel_first(quantizer.eval(), z)
    assert result.z_q.shape == z.shape
    assert result.indices.shape == (2, *space, 1)
    assert torch.equal(result.z_q, quantizer(z.movedim(1, -1)).z_q.movedim(-1, 1))
    assert torch.equal(channel_first_decode(quantizer, result.indices), result.z_q)


@pytest.mark.untyped
def test_channel_first_names_the_shape_it_wants(quantizer) -> None:
    with pytest.raises(InputError, match=r"\[b, 3, \*space\]"):
        channel_first(quantizer, torch.randn(3))


def test_padding_does_not_change_what_is_not_padding(quantizer) -> None:
    lengths = torch.tensor([4, 0, 2])
    mask = length_mask(lengths, 5)
    assert mask.sum(-1).tolist() == [4, 0, 2]
    z = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(1))
    result = quantizer(z, mask=mask)
    alone = quantizer(z[mask])
    assert torch.equal(result.z_q[mask], alone.z_q)
    assert torch.equal(result.loss, alone.loss)
    assert (result.indices[~mask] == -1).all()
    with pytest.raises(InputError, match="0 … 3"):
        length_mask(lengths, 3)


class Model(nn.Module):
    def __init__(self, recompute: bool) -> None:
        super().__init__()
        self.encoder, self.recompute = nn.Linear(4, 3), recompute
        self.vq = VectorQuantizer(3, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def inner(x: torch.Tensor) -> torch.Tensor:
            q = self.vq(self.encoder(x))
            return q.z_q.square().mean() + q.loss

        return checkpoint(inner, x, use_reentrant=False) if self.recompute else inner(x)


def train(recompute: bool, by_hook: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = Model(recompute)
    x = torch.randn(3, 64, 4)
    model.vq.init_(model.encoder(x[0]))
    optimizer = torch.optim.SGD(model.encoder.parameters(), lr=0.1)
    hook = auto_update(optimizer, model) if by_hook else None
    for part in x:
        if by_hook:
            loss, results = model(part), []
        else:
            results = [model.vq(model.encoder(part))]
            loss = results[0].z_q.square().mean() + results[0].loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not by_hook:
            model.vq.update_(*results)
    if hook is not None:
        assert hook.reports["vq"].tokens == 64
        hook.remove()
        model(x[0])
        optimizer.zero_grad()
        optimizer.step()  # no update any more
    assert int(model.vq.codebook.step) == 3
    return model.state_dict()


@pytest.mark.parametrize("recompute", [False, True])
def test_updates_by_hook_are_updates_by_hand(recompute: bool) -> None:
    by_hook, by_hand = train(recompute, by_hook=True), train(False, by_hook=False)
    for name, value in by_hand.items():
        assert torch.equal(by_hook[name], value), name
