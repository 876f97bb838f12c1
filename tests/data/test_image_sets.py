"""Picture sets for training: pure batches, splits, readers, and folders with what folders hold."""

import gzip
import io
import pickle
import struct
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from codebound.data.crops import LONG_SIDES, cut_crops, pyramid
from codebound.data.image_sets import FixedPictures, LabelledPictures
from codebound.data.image_sources import PictureRequest, open_images
from codebound.data.images import Photograph, photographs
from codebound.data.picture_reading import upright_pixels
from codebound.errors import InputError

SMALL = PictureRequest(crop=16, channels=3, held_out=32)


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return random(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture(scope="module")
def photos():
    return open_images("photos", SMALL)


def test_a_batch_is_a_function_of_seed_and_step(photos) -> None:
    other = open_images("photos", SMALL)
    photos.batch(3, 7, 8)
    assert torch.equal(photos.batch(0, 5, 8), other.batch(0, 5, 8))
    assert not torch.equal(photos.batch(0, 5, 8), photos.batch(0, 6, 8))
    assert not torch.equal(photos.batch(0, 5, 8), photos.batch(1, 5, 8))
    assert photos.batch(0, 5, 8).shape == (8, 3, 16, 16)
    assert photos.batch(0, 5, 8).dtype == torch.uint8
    assert photos.digest == other.digest


def test_held_out_crops_are_fixed_and_of_other_photographs(photos) -> None:
    assert torch.equal(photos.held_out, open_images("photos", SMALL).held_out)
    assert photos.held_out.shape == (32, 3, 16, 16)
    assert len(photos.whole) == 4
    seen = {p.name for p in photos.pyramids}
    assert not seen & {p.name for p in photographs("held_out")}


def test_crops_are_pieces_of_the_pyramid_and_some_are_mirrored() -> None:
    picture = Photograph("p", noise(40, 60))
    levels = pyramid(picture, 32, 3)
    assert [level.shape[:2] for level in levels.levels] == [(40, 60)]
    crops = cut_crops([levels], 64, 32, random())
    views = [np.lib.stride_tricks.sliding_window_view(p, (32, 32, 3)).reshape(-1, 32 * 32 * 3) for p in (
        picture.pixels, picture.pixels[:, ::-1])]  # fmt: skip
    plain, mirrored = ({row.tobytes() for row in view} for view in views)
    flat = [crop.permute(1, 2, 0).contiguous().numpy().tobytes() for crop in crops]
    assert all(crop in plain or crop in mirrored for crop in flat)
    assert any(crop in plain for crop in flat)
    assert any(crop in mirrored for crop in flat)
    assert len(set(flat)) > 50
    unflipped = cut_crops([levels], 64, 32, random(), flip=False)
    assert all(c.permute(1, 2, 0).contiguous().numpy().tobytes() in plain for c in unflipped)


def test_a_pyramid_never_enlarges_and_is_grey_where_asked() -> None:
    levels = pyramid(Photograph("p", noise(300, 400)), 32, 1).levels
    assert [max(level.shape) for level in levels] == [*(s for s in LONG_SIDES if s < 400), 400]
    assert all(level.shape[2] == 1 for level in levels)
    (thin,) = pyramid(Photograph("p", noise(33, 3000)), 32, 3).levels
    assert min(thin.shape[:2]) >= 32
    with pytest.raises(InputError, match="20x50, smaller than the crops of 32x32"):
        pyramid(Photograph("p", noise(20, 50)), 32, 3)


def test_a_large_flat_photograph_keeps_its_colour_at_every_scale() -> None:
    flat = np.full((700, 900, 3), (10, 200, 90), dtype=np.uint8)
    for level in pyramid(Photograph("flat", flat), 32, 3).levels:
        assert (level == (10, 200, 90)).all()


def test_an_epoch_of_a_fixed_set_sees_each_picture_once() -> None:
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 1, 4, 4).contiguous()
    part = LabelledPictures(images, torch.zeros(10, dtype=torch.int64))
    found = FixedPictures("t", "t", part, part, 4)
    batches = [found.batch(0, step, 4)[:, 0, 0, 0] for step in range(5)]  # two epochs, one batch across both
    rows = torch.cat(batches).tolist()
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert rows[:10] != rows[10:]
    assert torch.equal(found.batch(0, 2, 4)[:, 0, 0, 0], batches[2])
    assert len(found.held_out) == 4
    assert found.latents(2) == 40


def test_a_folder_with_what_folders_hold(tmp_path: Path) -> None:
    """CMYK, 16 bits, EXIF rotation, grey, alpha and a palette are read; what can't be is named and left out."""
    for i in range(4):
        save(tmp_path / f"good{i}.png", noise(40, 50, i))
    Image.fromarray(noise(40, 50)).convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray((random().integers(0, 65536, (40, 50))).astype(np.uint16)).save(tmp_path / "sixteen.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(40, 50)).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(noise(40, 50)[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([noise(40, 50), noise(40, 50)[..., :1]])).save(tmp_path / "alpha.png")
    Image.fromarray(noise(40, 50)).convert("P").save(tmp_path / "palette.gif")
    save(tmp_path / "tiny.png", noise(8, 50))
    content = (tmp_path / "cmyk.jpg").read_bytes()
    (tmp_path / "corrupt.jpg").write_bytes(content[: len(content) // 3])
    (tmp_path / "notes.txt").write_text("not a picture")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = open_images(f"folder:{tmp_path}", SMALL)
    messages = [str(w.message) for w in said]
    assert len(messages) == 3
    assert messages[0].endswith("passed over: notes.txt")
    assert any("corrupt.jpg" in m and "left out" in m for m in messages)
    assert any("tiny.png" in m and "smaller than the crops" in m for m in messages)
    assert len(found.pyramids) + len(found.whole) == 10
    turned = [p for p in found.pyramids if p.name == "turned.jpg"]
    assert all(p.levels[-1].shape[:2] == (50, 40) for p in turned)
    assert found.batch(0, 0, 4).shape == (4, 3, 16, 16)


def test_three_pictures_are_enough_and_one_is_not(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / f"{i}.png", noise(40, 50, i))
    found = open_images(f"folder:{tmp_path}", SMALL)
    assert (len(found.pyramids), len(found.whole)) == (2, 1)
    for i in range(2):
        (tmp_path / f"{i}.png").unlink()
    with pytest.raises(InputError, match="1 usable of 1 pictures; at least 2"):
        open_images(f"folder:{tmp_path}", SMALL)


def idx(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def fashion(folder: Path, zipped: bool = True) -> tuple[np.ndarray, np.ndarray]:
    folder.mkdir(exist_ok=True)
    images = random().integers(0, 256, (30, 28, 28), dtype=np.uint8)
    labels = random(1).integers(0, 10, 30, dtype=np.uint8)
    for stem, part in (("train", slice(0, 20)), ("t10k", slice(20, 30))):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx(array[part])
            name = f"{stem}-{kind}-ubyte"
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return images, labels


@pytest.mark.parametrize("zipped", [True, False])
def test_fashion_mnist_from_its_idx_files(tmp_path: Path, zipped: bool) -> None:
    images, labels = fashion(tmp_path, zipped)
    found = open_images(f"fashion-mnist:{tmp_path}", PictureRequest(held_out=6))
    assert found.images.shape == (20, 1, 28, 28)
    assert torch.equal(found.held_out[:, 0], torch.from_numpy(images[20:26]))
    assert found.test_labelled.labels.tolist() == labels[20:].tolist()


@pytest.mark.parametrize("damage", ["cut", "magic", "missing", "not gzip"])
def test_damaged_idx_files_are_refused(tmp_path: Path, damage: str) -> None:
    fashion(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    content = gzip.decompress(file.read_bytes())
    if damage == "missing":
        file.unlink()
    else:
        changed = {
            "cut": gzip.compress(content[:-5]),
            "magic": gzip.compress(b"x" + content[1:]),
            "not gzip": content,
        }
        file.write_bytes(changed[damage])
    with pytest.raises(InputError, match="train-images"):
        open_images(f"fashion-mnist:{tmp_path}")


def test_cifar10_from_its_binary_files(tmp_path: Path) -> None:
    rows = random().integers(0, 256, (12, 3073), dtype=np.uint8)
    rows[:, 0] %= 10
    rows[:5].tofile(tmp_path / "data_batch_1.bin")
    rows[5:9].tofile(tmp_path / "data_batch_2.bin")
    rows[9:].tofile(tmp_path / "test_batch.bin")
    found = open_images(f"cifar10:{tmp_path}")
    assert found.images.shape == (9, 3, 32, 32)
    assert found.images[2, 1, 4, 5] == rows[2, 1 + 1024 + 4 * 32 + 5]
    assert found.test_labelled.labels.tolist() == rows[9:, 0].tolist()
    rows[9:, :3000].tofile(tmp_path / "test_batch.bin")
    with pytest.raises(InputError, match=r"test_batch.bin is no CIFAR-10"):
        open_images(f"cifar10:{tmp_path}")


def test_cifar10_from_parquet_files(tmp_path: Path) -> None:
    def cell(i: int) -> dict:
        stream = io.BytesIO()
        Image.fromarray(noise(32, 32, i)).save(stream, format="PNG")
        return {"bytes": stream.getvalue(), "path": f"{i}.png"}

    for name, rows in (("train", range(4)), ("test", range(4, 6))):
        table = pd.DataFrame({"img": [cell(i) for i in rows], "label": [i % 10 for i in rows]})
        table.to_parquet(tmp_path / f"{name}-00000-of-00001.parquet")
    found = open_images(f"cifar10:{tmp_path}")
    assert torch.equal(found.images[3].permute(1, 2, 0), torch.from_numpy(noise(32, 32, 3)))
    assert found.test_labelled.labels.tolist() == [4, 5]


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    for name in ("data_batch_1", "test_batch"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match="never unpickled"):
        open_images(f"cifar10:{tmp_path}")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["", "photo", "photos:x", "folder:", "cifar10", "hf:", "imagenet:/x"])
def test_unknown_data_are_refused_with_what_is_accepted(name: str) -> None:
    with pytest.raises(InputError, match=r"is unknown; accepted: photos, fashion-mnist"):
        open_images(name)


@pytest.mark.parametrize("name", ["folder:/no/such", "cifar10:/no/such", "fashion-mnist:/no/such"])
def test_folders_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="/no/such"):
        open_images(name)


@pytest.mark.slow
def test_hugging_face_sets(tmp_path: Path) -> None:
    import datasets  # an extra that `make test-slow` installs

    for split in ("train", "test"):
        for label in ("cat", "dog"):
            for i in range(3):
                save(tmp_path / "small" / split / label / f"{i}.png", noise(32, 32, i))
                save(tmp_path / "large" / split / label / f"{i}.png", noise(70, 80 + i, i))
    datasets.disable_progress_bars()
    small = open_images(f"hf:{tmp_path / 'small'}", SMALL)
    assert small.images.shape == (6, 3, 32, 32)
    assert small.train_labelled.labels.tolist() == [0, 0, 0, 1, 1, 1]
    large = open_images(f"hf:{tmp_path / 'large'}", SMALL)
    assert (len(large.pyramids), len(large.whole)) == (6, 6)
    assert [large.parts.train.label(i) for i in range(6)] == [0, 0, 0, 1, 1, 1]
    assert large.parts.test.label_names == ("cat", "dog")
    with pytest.raises(InputError, match="no split 'nope'"):
        open_images(f"hf:{tmp_path / 'small'}:nope", SMALL)


@pytest.mark.slow
def test_hugging_face_sets_that_are_read_as_they_go(tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    for i in range(30):
        save(tmp_path / "set" / "train" / f"{i:02}.png", noise(70, 80 + i, i))
    sixteen = random().integers(0, 65536, (70, 80)).astype(np.uint16)
    Image.fromarray(sixteen).save(tmp_path / "set" / "train" / "00.png")
    (tmp_path / "set" / "train" / "07.png").write_bytes(b"nothing")
    table = datasets.load_dataset(str(tmp_path / "set"))["train"]
    files = sorted((tmp_path / "set" / "train").iterdir())
    cells = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    rows = datasets.Dataset.from_dict({"image": cells}, features=table.features)
    rows.to_parquet(tmp_path / "rows" / "train.parquet")
    for source in ("set", "rows"):
        with pytest.warns(UserWarning, match="row 7 can't be read"):
            memory = open_images(f"hf:{tmp_path / source}", SMALL)
        assert len(memory.pyramids) + len(memory.whole) == 29
        found = [
            open_images(f"hf:{tmp_path / source}", SMALL._replace(memory=0, workers=workers))
            for workers in (0, 2)
        ]
        assert found[0].note == f"{tmp_path / source} of the Hugging Face hub, 27 pictures"
        streams = [images.batches(0, 3, 40) for images in found]
        for _ in range(3):
            with warnings.catch_warnings(record=True):
                batches = [next(stream) for stream in streams]
            assert torch.equal(batches[0], batches[1])
        for stream in streams:
            stream.close()
    few = open_images(f"hf:{tmp_path / 'rows'}", SMALL._replace(memory=0, held_out=2))
    assert (len(few.parts.train), len(few.parts.test)) == (28, 2)
    # The rows are divided as `datasets` does it, which decided the numbers of earlier runs.
    parts = table.cast_column("image", datasets.Image(decode=False)).train_test_split(test_size=0.1, seed=0)
    names = [Path(row["image"]["path"]).stem for row in parts["test"]]
    assert [int(memory.parts.test.key(i)) for i in range(3)] == [int(name) for name in names]
    with memory.parts.train.open([memory.parts.train.key(i) for i in range(27)].index("0")) as image:
        grey = upright_pixels(image, "sixteen")
    assert np.array_equal(grey[..., 0], np.round(sixteen / 257).astype(np.uint8))


def test_without_the_extra_the_way_to_get_it_is_said(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'codebound\[hf\]'"):
        open_images("hf:some/set")
