"""VGG's feature distance: torchvision's layers from a user's weights, and nothing else in their place."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from codebound.errors import InputError
from codebound.metrics import VggDistance
from codebound.metrics.feature_distance import check_pictures

# torchvision's configurations "D" and "E": widths of convolutions, and poolings.
PLANS = {
    "vgg16": [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"],
    "vgg19": [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"],
}
LAYERS = {"vgg16": (3, 8, 15, 22, 29), "vgg19": (3, 8, 17, 26, 35)}  # the ReLU before each pooling


def as_torchvision_builds_it(variant: str, narrower: int = 16) -> nn.Sequential:
    """Its `make_layers`, with random weights and fewer channels."""
    torch.manual_seed(0)
    layers, channels = [], 3
    for step in PLANS[variant]:
        if step == "M":
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        else:
            width = int(step) // narrower
            convolution = nn.Conv2d(channels, width, kernel_size=3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            nn.init.normal_(convolution.bias, std=0.1)
            layers += [convolution, nn.ReLU(inplace=False)]
            channels = width
    return nn.Sequential(*layers)


def state_of(network: nn.Module) -> dict[str, Tensor]:
    head = {"classifier.0.weight": torch.zeros(2, 2)}  # torchvision's files have it; it is passed over
    return {f"features.{name}": value for name, value in network.state_dict().items()} | head


def by_hand(network: nn.Sequential, variant: str, x: Tensor, y: Tensor) -> Tensor:
    """The distance by torchvision's own layers and the definition."""
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    total = torch.zeros(len(x))
    a, b = ((v - mean[:, None, None]) / deviation[:, None, None] for v in (x, y))
    for number, layer in enumerate(network[:-1]):  # without the pooling after the last block
        a, b = layer(a), layer(b)
        if number in LAYERS[variant]:
            unit = [v / v.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12) for v in (a, b)]
            total += (unit[0] - unit[1]).square().sum(1).mean((1, 2))
    return total


@pytest.mark.parametrize("variant", ["vgg16", "vgg19"])
def test_it_is_the_distance_in_torchvisions_layers(variant: str, tmp_path: Path) -> None:
    network = as_torchvision_builds_it(variant)
    x, y = torch.rand(2, 2, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    torch.save(state_of(network), tmp_path / "weights.pth")
    save_file(state_of(network), tmp_path / "weights.safetensors")
    for weights in (state_of(network), tmp_path / "weights.pth", tmp_path / "weights.safetensors"):
        distance = VggDistance(weights)
        assert distance.variant == variant
        assert torch.allclose(distance(x, y), by_hand(network, variant, x, y), rtol=1e-5)
        assert float(distance(x, x).abs().max()) == 0


def test_the_real_widths_grey_pictures_and_half_precision() -> None:
    network = as_torchvision_builds_it("vgg16", narrower=1)
    state = {name: value.half() for name, value in state_of(network).items()}
    distance = VggDistance(state)
    assert (
        sum(p.numel() for p in distance.parameters()) == 14_714_688
    )  # as torchvision's vgg16().features has
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(
        distance(x, x.flip(3)), distance(*(v.expand(-1, 3, -1, -1) for v in (x, x.flip(3))))
    )


def test_it_has_a_gradient_for_pictures_and_none_for_its_weights() -> None:
    distance = VggDistance(state_of(as_torchvision_builds_it("vgg16")))
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    distance.between(x, torch.rand(2, 3, 16, 16)).sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0
    assert not any(p.requires_grad for p in distance.parameters())


def test_what_is_no_vgg_is_refused(tmp_path: Path) -> None:
    state = state_of(as_torchvision_builds_it("vgg16"))
    normalised = state | {"features.1.running_mean": torch.zeros(4)}
    shorter = {name: value for name, value in state.items() if not name.startswith("features.28")}
    wider = state | {"features.2.weight": torch.zeros(4, 5, 3, 3)}
    for wrong, message in (
        (normalised, "27 arrays named features"),
        (shorter, "24 arrays"),
        ({}, "weights holds 0 arrays"),
        (wider, r"features.2.weight has shape \(4, 5, 3, 3\); \(4, 4, 3, 3\) is accepted"),
    ):
        with pytest.raises(InputError, match=message):
            VggDistance(wrong)
    with pytest.raises(InputError, match=r"none\.pth can't be read"):
        VggDistance(tmp_path / "none.pth")
    for name in ("damaged.pth", "damaged.safetensors"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 nothing")
        with pytest.raises(InputError, match=f"{name} can't be read"):
            VggDistance(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="holds a list"):
        VggDistance(tmp_path / "list.pth")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (7, "features.0.bias is a int; a tensor"),
        (torch.tensor(1.0), r"features.0.bias has shape \(\) and type torch.float32"),
        (torch.zeros(0), r"features.0.bias has shape \(0,\)"),
        (torch.zeros(4, dtype=torch.int64), "features.0.bias has shape .* type torch.int64"),
        (torch.zeros(4, dtype=torch.complex64), "features.0.bias .* type torch.complex64"),
    ],
)
def test_what_is_no_tensor_of_numbers_is_refused(wrong: object, message: str, tmp_path: Path) -> None:
    torch.save(state_of(as_torchvision_builds_it("vgg16")) | {"features.0.bias": wrong}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=message):
        VggDistance(tmp_path / "a.pth")
    torch.save({0: wrong}, tmp_path / "b.pth")
    with pytest.raises(InputError, match="0 arrays"):
        VggDistance(tmp_path / "b.pth")


@pytest.mark.parametrize(
    "content", [b"some text\n", b"", b"\x80\x02}q\x00.", b"e\n", b"\x80\x02\x95\xff\xff"], ids=repr
)
def test_a_file_of_something_else_is_refused_in_our_words(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "vgg.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"vgg.pth (can't be read as VGG's weights|holds)") as refused:
        VggDistance(tmp_path / "vgg.pth")
    assert "weights_only" not in str(refused.value)


def test_a_file_that_was_cut_short_is_refused_in_our_words(tmp_path: Path) -> None:
    torch.save(state_of(as_torchvision_builds_it("vgg16")), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    for length in (10, 1000, len(whole) // 2, len(whole) - 10):
        (tmp_path / "cut.pth").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut.pth can't be read.*it is cut short") as refused:
            VggDistance(tmp_path / "cut.pth")
        assert "weights_only" not in str(refused.value)


def test_pictures_that_it_can_not_look_at_are_refused() -> None:
    distance = VggDistance(state_of(as_torchvision_builds_it("vgg16")))
    with pytest.raises(InputError, match="at least 16"):
        distance(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match=r"\[b, 1, h, w\] or \[b, 3, h, w\]; got \[1, 2, 16, 16\]"):
        distance(torch.zeros(1, 2, 16, 16), torch.zeros(1, 2, 16, 16))
    with pytest.raises(InputError, match=r"got \[3, 16, 16\]"):
        check_pictures(torch.zeros(3, 16, 16), distance.least_side)


def test_no_code_is_unpickled(tmp_path: Path) -> None:
    torch.save({"features.0.weight": Path.cwd}, tmp_path / "code.pth")
    with pytest.raises(InputError, match=r"code.pth can't be read") as refused:
        VggDistance(tmp_path / "code.pth")
    assert "weights_only" not in str(refused.value)


def test_places_are_pairs_of_layers_apart() -> None:
    # Two convolutions of a block are two places apart, those around a pooling three.
    places = [
        int(name.split(".")[1]) for name in state_of(as_torchvision_builds_it("vgg19")) if "features" in name
    ]
    gaps = [after - before for before, after in pairwise(sorted(set(places)))]
    assert gaps.count(3) == 4
    assert gaps.count(2) == 11
