"""PSNR and SSIM are those of scikit-image, on grey and colour pictures of several sizes."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from codebound.errors import InputError
from codebound.metrics.likeness import HIGHEST_PSNR, ms_ssim, psnr, ssim


def pair(channels: int, height: int, width: int, noise: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth picture and a noisy copy."""
    draw = torch.Generator().manual_seed(channels * height + width)
    coarse = torch.rand(1, channels, 4, 5, generator=draw)
    picture = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    copy = (picture + noise * torch.randn(picture.shape, generator=draw)).clamp(0, 1)
    return picture.double(), copy.double()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(11, 11), (48, 48), (37, 90)])
@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_psnr_and_ssim_are_scikit_image_s(channels: int, size: tuple[int, int], noise: float) -> None:
    picture, copy = pair(channels, *size, noise)
    one, other = (p[0].permute(1, 2, 0).numpy() for p in (picture, copy))
    expected = structural_similarity(
        one,
        other,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=2,
    )
    assert float(ssim(copy, picture)) == pytest.approx(expected, abs=1e-9)
    assert float(psnr(copy, picture)) == pytest.approx(
        peak_signal_noise_ratio(one, other, data_range=1.0), abs=1e-9
    )


def test_pictures_of_a_batch_are_judged_one_by_one() -> None:
    pairs = [pair(3, 176, 180, noise) for noise in (0.05, 0.2)]
    pictures, copies = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    for measure in (psnr, ssim, ms_ssim):
        alone = [float(measure(copy, picture)) for picture, copy in pairs]
        assert np.allclose(measure(copies, pictures).numpy(), alone, atol=1e-6)
        assert alone[0] > alone[1]


def test_equal_pictures() -> None:
    picture, _ = pair(3, 176, 176)
    assert float(psnr(picture, picture)) == pytest.approx(HIGHEST_PSNR)
    assert float(ssim(picture, picture)) == pytest.approx(1.0)
    assert float(ms_ssim(picture, picture)) == pytest.approx(1.0)


@pytest.mark.parametrize(("measure", "side"), [(ssim, 10), (ms_ssim, 175)])
def test_a_picture_that_is_too_small_is_refused(measure, side: int) -> None:
    picture, copy = pair(1, side, 200)
    with pytest.raises(InputError, match=f"x is {side}x200"):
        measure(picture, copy)
