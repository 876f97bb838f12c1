"""The photograph pack (whole, licensed, split by photograph), patches, and a user's folder of images."""

import hashlib
import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from codebound.data import images, picture_reading
from codebound.data.images import (
    Photograph,
    cut_patches,
    folder_patches,
    load_image_folder,
    luminance,
    pack_index,
    photo_patches,
    photographs,
    read_image,
)
from codebound.errors import InputError

PACK = images.PACK
HELD_OUT = {"chelsea", "china", "picture_0b", "friends"}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_splits_share_no_photograph_and_held_out_ones_are_lossless():
    train, held_out = photographs("train"), photographs("held_out")
    assert {p.name for p in held_out} == HELD_OUT
    assert len(train) == 13
    assert not {p.name for p in train} & HELD_OUT
    assert len({p.pixels.tobytes() for p in train + held_out}) == 17
    for entry in pack_index(PACK):
        assert entry["file"].endswith(".png") == (entry["split"] == "held_out")
    for photograph in train + held_out:
        assert max(photograph.pixels.shape) <= (512 if photograph.name in HELD_OUT else 1024)
        assert photograph.pixels.std() > 5


def test_the_pack_is_small_complete_and_every_file_is_attributed_under_an_allowed_licence():
    index, text = pack_index(PACK), (PACK / "ATTRIBUTION.md").read_text(encoding="utf-8")
    on_disk = {path.name for path in PACK.iterdir()} - {"index.json", "ATTRIBUTION.md"}
    assert on_disk == {entry["file"] for entry in index}
    assert sum(path.stat().st_size for path in PACK.iterdir()) <= 8_000_000
    for entry in index:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{entry['file']}` |"))
        assert entry["author"] in row
        assert f"| {entry['licence']} |" in row
        assert entry["licence"] in {"CC0-1.0", "CC-BY-2.0", "CC-BY-4.0", "Public domain"}
        assert hashlib.sha256((PACK / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]


def test_a_damaged_or_missing_photograph_is_refused(tmp_path, monkeypatch):
    shutil.copytree(PACK, tmp_path / "photos")
    monkeypatch.setattr(images, "PACK", tmp_path / "photos")
    assert len(photographs("held_out")) == 4
    broken = tmp_path / "photos" / "china.png"
    data = bytearray(broken.read_bytes())
    data[-20] ^= 1
    broken.write_bytes(data)
    with pytest.raises(InputError, match=r"china\.png is damaged"):
        photographs("held_out")
    broken.unlink()
    with pytest.raises(InputError, match=r"china\.png is missing"):
        photographs("held_out")


def test_luminance_is_bt601_in_the_unit_interval():
    primaries = np.array(
        [[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]]], dtype=np.uint8
    )
    np.testing.assert_allclose(luminance(primaries)[0], [0.299, 0.587, 0.114, 1, 0], atol=1e-6)
    assert luminance(primaries).dtype == np.float32
    assert luminance(primaries).max() <= 1


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_photo_patches_are_finite_in_range_keep_their_mean_and_repeat_by_seed(split):
    first, again = (photo_patches(split, 2003, generator=generator(3)) for _ in range(2))
    assert first.shape == (2003, 64)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, photo_patches(split, 2003, generator=generator(4)))
    assert first.isfinite().all()
    assert first.min() >= 0
    assert first.max() <= 1
    assert first.mean(dim=1).std() > 0.1
    assert len(first.unique(dim=0)) > 1500


def test_photo_patches_take_row_i_from_photograph_i_modulo_their_number():
    pictures = photographs("held_out")
    means = photo_patches("held_out", 8000, generator=generator()).mean(dim=1)
    for i, picture in enumerate(pictures):
        middle = luminance(picture.pixels)[16:-16, 16:-16].mean()
        assert means[i::4].mean().item() == pytest.approx(middle, abs=0.05)


def test_cut_patches_are_box_means_at_random_phase():
    pixels = noise(300, 512)
    reduced = {}
    luma = luminance(pixels)
    for y in range(2):
        for x in range(2):
            rows, columns = (300 - y) // 2, (512 - x) // 2
            part = luma[y : y + 2 * rows, x : x + 2 * columns]
            reduced[y, x] = part.reshape(rows, 2, columns, 2).mean(axis=(1, 3))
    patches = (
        cut_patches(Photograph("p", pixels), 40, size=8, generator=generator()).numpy().reshape(-1, 8, 8)
    )
    phases = set()
    for patch in patches:
        found = []
        for phase, image in reduced.items():
            windows = np.lib.stride_tricks.sliding_window_view(image, (8, 8))
            corner = np.abs(windows[:, :, 0, 0] - patch[0, 0]) < 1e-5
            found += [phase for window in windows[corner] if np.abs(window - patch).max() < 1e-5]
        assert found
        phases.update(found)
    assert len(phases) == 4


def test_reduction_removes_the_jpeg_grid():
    """At quality 10 the 8x8 grid's steps stand out at full size; in the reduced patches they must not."""
    slope = np.add.outer(np.arange(1024), np.arange(1024)) / 8
    ramp = slope + np.random.default_rng(0).normal(0, 2, slope.shape)
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(np.clip(ramp, 0, 255))).save(buffer, "JPEG", quality=10)
    photograph = read_image(buffer, "ramp")
    luma = luminance(photograph.pixels)
    steps = np.abs(np.diff(luma, axis=1)).mean(axis=0)
    assert steps[7::8].mean() > 3 * np.delete(steps, slice(7, None, 8)).mean()
    patches = cut_patches(photograph, 4000, size=8, generator=generator()).reshape(-1, 8, 8)
    inside = (patches[:, :, 1:] - patches[:, :, :-1]).abs().mean(dim=(0, 1))
    assert inside.max() < 1.15 * inside.min()


def test_small_images_are_not_reduced_and_the_exact_fit_works():
    pixels = noise(8, 8)
    patch = cut_patches(Photograph("tiny", pixels), 1, size=8, generator=generator())
    np.testing.assert_allclose(patch.numpy()[0], luminance(pixels).ravel(), atol=1e-6)
    strip = Photograph("strip", noise(20, 5000))  # round(5000 / 256) = 20 would leave one row
    assert cut_patches(strip, 3, size=8, generator=generator()).shape == (3, 64)
    with pytest.raises(InputError, match="size is 9; tiny is 8x8"):
        cut_patches(Photograph("tiny", pixels), 1, size=9, generator=generator())


def test_every_position_of_a_picture_can_be_drawn():
    patches = cut_patches(Photograph("p", noise(10, 9)), 500, size=8, generator=generator())
    assert len(patches.unique(dim=0)) == 3 * 2


@pytest.mark.parametrize("count", [0, -1])
def test_count_must_be_positive(count):
    with pytest.raises(InputError, match=f"count is {count}"):
        photo_patches("train", count, generator=generator())


def test_a_folder_is_read_sorted_with_subfolders_and_other_files_passed_over(tmp_path):
    for name, seed in (("b.png", 1), ("a/c.webp", 2), ("a/.hidden.png", 3)):
        save(tmp_path / name, noise(16, 20, seed))
    save(tmp_path / "D.JPG", noise(9, 8, 4))
    (tmp_path / "readme.txt").write_text("not an image")
    pictures = load_image_folder(tmp_path)
    assert [p.name for p in pictures] == ["D.JPG", "a/c.webp", "b.png"]
    np.testing.assert_array_equal(pictures[2].pixels, noise(16, 20, 1))


def test_modes_become_eight_bit_rgb(tmp_path):
    save(tmp_path / "deep.png", np.array([[0, 65535], [32768, 257]], dtype=np.uint16))
    deep = read_image(tmp_path / "deep.png", "deep").pixels
    np.testing.assert_array_equal(deep[:, :, 0], [[0, 255], [128, 1]])
    save(tmp_path / "grey.png", np.array([[7, 9]], dtype=np.uint8))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png", "g").pixels, [[[7] * 3, [9] * 3]])
    save(tmp_path / "float.tiff", np.ones((4, 4), dtype=np.float32))
    with pytest.raises(InputError, match=r"float\.tiff: pixel mode 'F'"):
        load_image_folder(tmp_path)


def test_bad_folders_and_images_are_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="is not a folder"):
        load_image_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no image; accepted: \.png"):
        load_image_folder(tmp_path)
    save(tmp_path / "whole.png", noise(40, 40))
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"image cut\.png can't be read"):
        load_image_folder(tmp_path)
    (tmp_path / "cut.png").write_text("hello")
    with pytest.raises(InputError, match=r"image cut\.png can't be read"):
        load_image_folder(tmp_path)
    (tmp_path / "cut.png").unlink()
    monkeypatch.setattr(picture_reading, "MAX_PIXELS", 1000)
    with pytest.raises(InputError, match=r"image whole\.png is too large"):
        load_image_folder(tmp_path)


def test_folder_patches_say_which_image_each_row_comes_from(tmp_path):
    for level in (10, 100, 200):
        save(tmp_path / f"{level:03d}.png", np.full((30, 30, 3), level, dtype=np.uint8))
    patches, names = folder_patches(tmp_path, 10, size=4, generator=generator())
    assert names == ("010.png", "100.png", "200.png")
    assert patches.groups.bincount().tolist() == [4, 3, 3]
    for row, group in zip(patches.values, patches.groups, strict=True):
        np.testing.assert_allclose(row.numpy(), int(names[group][:3]) / 255, atol=1e-6)


def test_of_more_images_than_patches_a_random_part_is_used(tmp_path):
    for i in range(20):
        save(tmp_path / f"{i:02d}.png", noise(8, 8, i))
    chosen = {folder_patches(tmp_path, 5, generator=generator(seed))[1] for seed in range(4)}
    assert len(chosen) > 1
    assert all(len(names) == 5 and list(names) == sorted(names) for names in chosen)


def test_index_is_plain_json():
    entries = json.loads((PACK / "index.json").read_text(encoding="utf-8"))
    assert all({"name", "file", "split", "licence", "sha256"} <= set(entry) for entry in entries)
