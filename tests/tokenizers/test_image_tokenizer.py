"""The image tokenizer: shapes, ranges, padding, every quantizer, folders and their damage."""

import json
from pathlib import Path

import pytest
import torch

from codebound import BSQ, FSQ, LFQ, Product, Projected, Residual, VectorQuantizer
from codebound.errors import InputError
from codebound.nets.conv import ConvDecoder, ConvEncoder, pad_to_multiple
from codebound.tokenizers import DamagedModel, ImageTokenizer
from codebound.tokenizers.image import to_uint8

QUANTIZERS = {
    "vq": lambda: VectorQuantizer(4, 16),
    "fsq": lambda: FSQ((8, 5, 5)),
    "lfq": lambda: LFQ(5),
    "bsq": lambda: BSQ(5),
    "rvq": lambda: Residual([VectorQuantizer(4, 8, seed=i) for i in range(3)]),
    "pq": lambda: Product([VectorQuantizer(2, 8, seed=i) for i in range(2)]),
    "projected": lambda: Projected(FSQ((8, 5)), 6),
}


def build(kind: str = "vq", **more) -> ImageTokenizer:
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(QUANTIZERS[kind](), **{"width": 8, "depth": 1, **more})
    with torch.no_grad():  # blocks that begin as the identity would hide a lost one
        for parameter in tokenizer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return tokenizer


def pictures(height: int, width: int, channels: int = 3, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_encode_and_decode_are_the_forward_pass(kind: str) -> None:
    tokenizer = build(kind).eval()
    x = pictures(16, 24)
    indices = tokenizer.encode(x)
    assert indices.shape == (2, 4, 6, len(tokenizer.quantizer.codebook_sizes))
    with torch.no_grad():
        through = tokenizer(tokenizer.to_network(x)).x_hat
    assert torch.allclose(tokenizer.decode(indices), ((through + 1) / 2).clamp(0, 1), atol=1e-6)


@pytest.mark.parametrize(("kind", "linear"), [*((kind, False) for kind in QUANTIZERS), ("rvq", True)])
def test_saved_and_loaded_it_gives_the_same_bits(kind: str, linear: bool, tmp_path: Path) -> None:
    tokenizer = build(kind, linear=linear).eval()
    tokenizer.save_pretrained(tmp_path / "model", card="Made for a test.")
    again = ImageTokenizer.from_pretrained(tmp_path / "model")
    x = pictures(13, 9)
    indices = tokenizer.encode(x)
    assert torch.equal(again.encode(x), indices)
    assert torch.equal(again.decode(indices, size=(13, 9)), tokenizer.decode(indices, size=(13, 9)))
    assert "Made for a test." in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("size", [(16, 16), (17, 31), (1, 1)])
def test_sizes_that_the_stride_does_not_divide_are_padded_and_cut_back(
    stride: int, size: tuple[int, int]
) -> None:
    tokenizer = build(stride=stride)
    x = pictures(*size)
    indices = tokenizer.encode(x)
    grid = tuple(-(-side // stride) for side in size)
    assert indices.shape[1:3] == grid
    assert tokenizer.decode(indices, size=size).shape == x.shape
    assert tokenizer.decode(indices).shape[2:] == tuple(side * stride for side in grid)
    assert torch.equal(
        tokenizer.decode(indices)[..., : size[0], : size[1]], tokenizer.decode(indices, size=size)
    )


def test_a_description_names_what_came_later_only_where_it_is_used() -> None:
    """Files name their model by a hash over the description: a new field would make old files another model's."""
    assert "linear" not in build().config()
    assert build(linear=True).config()["linear"] is True
    assert ImageTokenizer.from_config(build(linear=True).config()).linear


def test_padding_repeats_the_border_and_leaves_the_picture() -> None:
    x = torch.arange(6.0).view(1, 1, 2, 3)
    padded = pad_to_multiple(x, 4)
    assert padded.shape == (1, 1, 4, 4)
    assert torch.equal(padded[..., :2, :3], x)
    assert torch.equal(padded[0, 0, :, 3], torch.tensor([2.0, 5.0, 5.0, 5.0]))


@pytest.mark.parametrize("channels", [1, 3])
def test_uint8_and_floats_give_the_same_codes(channels: int) -> None:
    tokenizer = build(channels=channels)
    x = pictures(16, 16, channels)
    assert torch.equal(tokenizer.encode(x), tokenizer.encode(x.double() / 255))


def test_fewer_stages_of_a_residual_decode() -> None:
    tokenizer = build("rvq")
    indices = tokenizer.encode(pictures(16, 16))
    one, all_of_them = tokenizer.decode(indices[..., :1]), tokenizer.decode(indices)
    assert one.shape == all_of_them.shape
    assert not torch.equal(one, all_of_them)


def test_a_picture_decodes_alike_alone_and_in_a_batch_and_away_from_the_border() -> None:
    """No normalisation over space: what a token decodes to depends on its neighbourhood."""
    tokenizer = build()
    indices = tokenizer.encode(pictures(64, 64))
    whole = tokenizer.decode(indices)
    assert torch.allclose(tokenizer.decode(indices[:1]), whole[:1], atol=1e-6)
    part = tokenizer.decode(indices[:, 2:14, 2:14])
    assert torch.allclose(part[..., 16:-16, 16:-16], whole[..., 24:-24, 24:-24], atol=1e-6)


def test_the_loss_counts_squared_errors_per_token() -> None:
    tokenizer = build()
    x = tokenizer.to_network(pictures(16, 16))
    found = tokenizer(x)
    by_hand = (x - found.x_hat).square().sum() / (2 * 16)
    assert found.reconstruction.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert found.loss.item() == pytest.approx((by_hand + found.quantized.loss).item(), rel=1e-5)


def test_to_uint8_is_the_inverse_of_the_range() -> None:
    x = pictures(4, 4)
    assert torch.equal(to_uint8(x / 255), x)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8, 8, dtype=torch.int64), "uint8"),
        (torch.full((1, 3, 8, 8), 1.5), r"in \[0, 1\]; got 1.5"),
        (torch.full((1, 3, 8, 8), -0.1), r"in \[0, 1\]"),
        (torch.full((1, 3, 8, 8), float("nan")), r"in \[0, 1\]"),
        (torch.zeros(1, 1, 8, 8), r"\[b, 3, h, w\]; got \[1, 1, 8, 8\]"),
        (torch.zeros(1, 3, 0, 8), "must have shape"),
    ],
)
def test_pictures_that_are_none_are_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build().encode(images)


@pytest.mark.parametrize("size", [(17, 16), (12, 16), (0, 16), (16, -1)])
def test_a_size_of_another_grid_is_refused(size: tuple[int, int]) -> None:
    tokenizer = build()
    with pytest.raises(InputError, match="size="):
        tokenizer.decode(tokenizer.encode(pictures(16, 16)), size=size)


def test_indices_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="0 … 15"):
        build().decode(torch.full((1, 2, 2, 1), 16))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"stride": 3}, "stride must be one of"),
        ({"channels": 2}, "channels"),
        ({"width": 0}, "width"),
        ({"depth": -1}, "depth"),
    ],
)
def test_sizes_out_of_range_are_refused(more: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(**more)


def test_the_decoder_mirrors_the_encoder() -> None:
    for stride in (1, 2, 8):
        x = torch.zeros(1, 3, 32, 16)
        z = ConvEncoder(3, 5, width=16, depth=2, stride=stride)(x)
        assert z.shape == (1, 5, 32 // stride, 16 // stride)
        assert ConvDecoder(3, 5, width=16, depth=2, stride=stride)(z).shape == x.shape


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_one_flipped_bit_is_named(name: str, tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DamagedModel, match=name):
        ImageTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "manifest.json"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=name):
        ImageTokenizer.from_pretrained(tmp_path)


def test_a_manifest_that_reaches_outside_the_folder_is_refused(tmp_path: Path) -> None:
    build().save_pretrained(tmp_path / "model")
    manifest = tmp_path / "model" / "manifest.json"
    sums = json.loads(manifest.read_text())
    sums["sha256"]["../secret"] = "0" * 64
    (tmp_path / "secret").write_text("x")
    manifest.write_text(json.dumps(sums))
    with pytest.raises(InputError, match="secret"):
        ImageTokenizer.from_pretrained(tmp_path / "model")


def test_the_card_may_be_edited(tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("My own words.")
    ImageTokenizer.from_pretrained(tmp_path)


def test_what_is_neither_a_folder_nor_on_the_hub_is_refused_in_one_line(monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="no folder") as refusal:
        ImageTokenizer.from_pretrained("no/such-model")
    assert "\n" not in str(refusal.value)


def test_the_hub_s_copy_is_checked_like_a_folder(tmp_path: Path, monkeypatch) -> None:
    import huggingface_hub

    build().save_pretrained(tmp_path)
    asked = {}

    def snapshot(name, revision, allow_patterns):
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    ImageTokenizer.from_pretrained("owner/model", revision="v1")
    assert asked["name"] == "owner/model"
    assert asked["revision"] == "v1"
    assert "model.safetensors" in asked["patterns"]


def test_fields_that_a_description_must_not_have_are_refused() -> None:
    config = build().config()
    with pytest.raises(InputError, match="widths"):
        ImageTokenizer.from_config({**config, "widths": 3})
    with pytest.raises(InputError, match="stride"):
        ImageTokenizer.from_config({k: v for k, v in config.items() if k != "stride"})
