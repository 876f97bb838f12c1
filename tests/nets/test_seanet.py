"""The network from samples to latents and back."""

import pytest
import torch

from codebound.errors import InputError
from codebound.nets.seanet import Seanet

CASES = [(True, (2, 4, 5, 8)), (False, (2, 4, 5, 8)), (True, (3, 5)), (False, (3, 5)), (False, (3, 6, 7, 7))]


@pytest.mark.parametrize(("causal", "strides"), CASES)
def test_what_a_frame_depends_on(causal: bool, strides: tuple[int, ...]) -> None:
    """A hop of other samples changes the latents that see it and no more; so does a latent, of samples."""
    torch.manual_seed(0)
    network = Seanet(8, channels=4, strides=strides, causal=causal).double()
    hop, at = network.hop, 20
    x = 0.3 * torch.randn(1, 2 * at * hop, dtype=torch.float64)
    z = network.encode(x)
    y = network.decode(z)
    assert z.shape == (1, 2 * at, 8)
    assert y.shape == x.shape

    other = x.clone()
    other[0, at * hop : (at + 1) * hop] += 1
    changed = (network.encode(other) != z)[0].any(1).nonzero().flatten()
    assert (at - changed.min(), changed.max() - at) == network.encoded[::-1]

    other = z.clone()
    other[0, at] += 1
    changed = (network.decode(other) != y)[0].view(-1, hop).any(1).nonzero().flatten()
    assert (at - changed.min(), changed.max() - at) == network.decoded[::-1]
    if causal:
        assert network.encoded.after == network.decoded.after == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dim": 0}, "dim is 0"),
        ({"channels": 0}, "channels is 0"),
        ({"strides": (1, 2)}, "strides is 1"),
        ({"strides": ()}, "strides are"),
        ({"units": -1}, "units is -1"),
    ],
)
def test_sizes_that_are_refused(wrong: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Seanet(**{"dim": 4, **wrong})


@pytest.mark.untyped
def test_what_is_no_sequence_is_refused() -> None:
    with pytest.raises(InputError, match="strides are 4; a sequence of ints"):
        Seanet(4, strides=4)
