"""What a transformer is made of is checked by name."""

import pytest

from codebound.errors import InputError
from codebound.nets.transformer import Transformer


@pytest.mark.untyped
def test_an_unknown_network_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="network is 'relu'; it must be one of 'gelu', 'swiglu'"):
        Transformer(16, 1, 2, network="relu")  # pyright: ignore[reportArgumentType]
