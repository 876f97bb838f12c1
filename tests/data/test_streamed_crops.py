"""Sets that don't fit in memory: the same crops, whatever reads them, and pictures that can't be read."""

import io
import os
import pickle
import subprocess
import sys
import tarfile
import warnings
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codebound.data.crops import cut_crop, level_sizes, pyramid
from codebound.data.image_sets import Crops, FixedPictures
from codebound.data.image_sources import PictureRequest, open_images
from codebound.data.images import PACK, read_image
from codebound.data.picture_files import FolderFiles, Parts
from codebound.data.picture_reading import image_names, opened_image
from codebound.data.picture_sets import divided_set, survey
from codebound.data.shards import shard_paths
from codebound.data.streamed_crops import StreamedCrops
from codebound.errors import InputError

REQUEST = PictureRequest(crop=16, channels=3, held_out=24, memory=0, workers=0)


def smooth(height: int, width: int, seed: int) -> np.ndarray:
    """A picture with edges and gradients: what photographs have and resizing keeps."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / rng.uniform(5, 40) + c) + np.cos(y / rng.uniform(5, 40)) for c in range(3)]
    return np.uint8(np.clip(np.stack(waves, -1) * 50 + 127 + 40 * (x > width / 2)[..., None], 0, 255))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Twenty pictures of several sizes, larger and smaller than the largest scale."""
    path = tmp_path_factory.mktemp("pictures")
    for i in range(20):
        (path / "ab"[i % 2]).mkdir(exist_ok=True)
        pixels = smooth(40 + 37 * i, 50 + 31 * (i % 7), i)
        Image.fromarray(pixels).save(path / "ab"[i % 2] / f"{i}.png")
    return path


def opened(folder: Path, **changes: int) -> StreamedCrops:
    images = open_images(f"folder:{folder}", REQUEST._replace(**changes))
    assert isinstance(images, StreamedCrops)
    return images


def quiet(folder: Path, **changes: int) -> tuple[StreamedCrops, list[str]]:
    """The set, and the warnings that opening it gave."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        return opened(folder, **changes), [str(w.message) for w in said]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_crops_are_those_of_the_set_in_memory(folder: Path, channels: int) -> None:
    streamed = opened(folder, channels=channels)
    memory = open_images(f"folder:{folder}", REQUEST._replace(channels=channels, memory=2**30))
    assert isinstance(memory, Crops)
    for seed, step in ((0, 0), (0, 5), (2, 2**40)):
        one, other = streamed.batch(seed, step, 32), memory.batch(seed, step, 32)
        assert (one.int() - other.int()).abs().max() <= 1  # a crop that is resized alone may round otherwise
        assert (one == other).double().mean() > 0.999
    assert (streamed.held_out.int() - memory.held_out.int()).abs().max() <= 1
    assert [w.shape for w in streamed.whole] == [w.shape for w in memory.whole]
    assert all(torch.equal(a, b) for a, b in zip(streamed.whole, memory.whole, strict=True))
    assert [p.shape for p in streamed.pictures()] == [p.shape for p in memory.pictures()]
    for part in ("train", "test"):
        files = [getattr(s.parts, part) for s in (streamed, memory)]
        assert files[0].digest() == files[1].digest()
    assert len(streamed.parts.train) + len(streamed.parts.test) == 20


def test_where_the_memory_suffices_the_set_is_in_it(folder: Path) -> None:
    files = FolderFiles.below(folder)
    needed = sum(
        level.nbytes
        for number in range(20)
        for level in pyramid(read_image(folder / files.key(number), "p"), 16, 3).levels
    )
    assert survey(files, REQUEST._replace(memory=needed)).fits
    assert not survey(files, REQUEST._replace(memory=needed - 1)).fits
    assert len(survey(files, REQUEST._replace(memory=1)).sizes) == 1  # no header more than needed is read


def test_both_parts_of_a_divided_set_share_the_memory(folder: Path) -> None:
    files = FolderFiles.below(folder)
    parts = Parts(files.select(np.arange(12)), files.select(np.arange(12, 20)))
    needed = survey(files, REQUEST._replace(memory=2**30)).bytes
    kinds = [
        type(divided_set("x", "x", parts, REQUEST._replace(memory=memory))) for memory in (needed, needed - 1)
    ]
    assert kinds == [Crops, StreamedCrops]


def test_batches_do_not_depend_on_who_reads_them(folder: Path) -> None:
    expected = [opened(folder).batch(1, step, 8) for step in range(9)]
    for workers in (0, 1, 3):
        stream = opened(folder, workers=workers).batches(1, 0, 8)
        assert all(torch.equal(a, b) for a, b in zip(expected, stream, strict=False)), workers
        stream.close()
        later = opened(folder, workers=workers).batches(1, 4, 8)
        assert torch.equal(next(later), expected[4])
        assert torch.equal(next(later), expected[5])
        assert later.waited > 0
        later.close()
    assert not torch.equal(expected[0], expected[1])


def test_a_stream_begins_without_touching_the_training_s_random_numbers(folder: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    stream = opened(folder, workers=1).batches(0, 3, 4)
    next(stream)
    stream.close()
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(StopIteration):
        next(stream)


def test_sets_in_memory_have_streams_too(folder: Path) -> None:
    memory = open_images(f"folder:{folder}", REQUEST._replace(memory=2**30))
    stream = memory.batches(3, 10, 4)
    for step, batch in enumerate(islice(stream, 3), start=10):
        assert torch.equal(batch, memory.batch(3, step, 4))
    assert stream.waited > 0


def test_a_picture_that_cannot_be_read_is_named_once_and_replaced(folder: Path, tmp_path: Path) -> None:
    for name in image_names(folder).names:
        (tmp_path / Path(name).name).write_bytes((folder / name).read_bytes())
    (tmp_path / "3.png").write_bytes((folder / "b" / "3.png").read_bytes()[:300])  # its header is whole
    Image.fromarray(smooth(9, 90, 0)).save(tmp_path / "flat.png")
    results = []
    for workers in (0, 1, 3):
        images, said = quiet(tmp_path, workers=workers)
        with warnings.catch_warnings(record=True) as more:
            warnings.simplefilter("always")
            stream = images.batches(0, 0, 16)
            batches = list(islice(stream, 12))
            stream.close()
            images.batch(0, 0, 16)
        said += [str(w.message) for w in more]
        assert len(said) == 2
        assert sum("3.png can't be read" in message for message in said) == 1
        assert sum("flat.png is 9x90" in message for message in said) == 1
        results.append(torch.stack(batches))
        later, _ = quiet(tmp_path, workers=workers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stream = later.batches(0, 7, 16)
            assert torch.equal(next(stream), batches[7])  # a resume meets the same replacement
            stream.close()
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def held_out(folder: Path) -> torch.Tensor:
    return opened(folder).held_out


def test_a_set_without_a_usable_picture_is_refused(tmp_path: Path) -> None:
    for i in range(30):
        Image.fromarray(smooth(9, 60, i)).save(tmp_path / f"{i}.png")
    files = FolderFiles.below(tmp_path)
    images = pickle.loads(pickle.dumps(files))
    assert [images.key(i) for i in range(3)] == ["0.png", "1.png", "10.png"]
    for i in range(30):
        (tmp_path / f"{i}.png").write_bytes(f"nothing {i}".encode())
    Image.fromarray(smooth(90, 60, 0)).save(tmp_path / "0.png")  # memory=0: one readable picture is too large
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match="none of 3 pictures can be used"):
            held_out(tmp_path)


@pytest.mark.parametrize("changes", [{"memory": -1}, {"workers": -1}])
def test_what_cannot_be_read_by_is_refused(folder: Path, changes: dict[str, int]) -> None:
    with pytest.raises(InputError, match=rf"{next(iter(changes))}=-1"):
        open_images(f"folder:{folder}", REQUEST._replace(**changes))


def test_the_digest_says_which_pictures_they_are(folder: Path, tmp_path: Path) -> None:
    for name in image_names(folder).names:
        (tmp_path / Path(name).name).write_bytes((folder / name).read_bytes())
    before = opened(tmp_path).digest
    os.utime(tmp_path / "4.png", (0, 0))
    assert opened(tmp_path).digest == before  # when a file was written says nothing
    (tmp_path / "4.png").rename(tmp_path / "04.png")
    renamed = opened(tmp_path).digest
    assert renamed != before
    content = bytearray((tmp_path / "04.png").read_bytes())
    content[-20] ^= 1  # in the last chunk's checksum: Pillow does not mind
    (tmp_path / "04.png").write_bytes(bytes(content))
    assert opened(tmp_path).digest != renamed


def test_sixteen_bits_alpha_and_turned_pictures_are_cut_as_from_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(np.uint16(rng.integers(0, 65536, (60, 90)))).save(tmp_path / "sixteen.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth(300, 700, 1)).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(np.dstack([smooth(60, 90, 2), smooth(60, 90, 3)[..., :1]])).save(tmp_path / "alpha.png")
    for name in ("sixteen.png", "turned.png", "alpha.png"):
        levels = pyramid(read_image(tmp_path / name, name), 24, 3).levels
        for draws in rng.random((12, 5)):
            with opened_image(tmp_path / name, name) as image:
                crop = cut_crop(image, name, draws, 24, 3, flip=False).transpose(1, 2, 0)
            level = levels[int(draws[1] * len(levels))]
            y, x = (
                int(draw * (side - 24 + 1)) for draw, side in zip(draws[2:], level.shape[:2], strict=False)
            )
            assert np.abs(crop.astype(int) - level[y : y + 24, x : x + 24]).max() <= 1, name


def test_a_large_jpeg_is_decoded_at_a_fraction_and_looks_the_same(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.open(PACK / "retina.jpg").crop((0, 100, 1024, 900)).save(tmp_path / "p.jpg", quality=95, exif=exif)
    levels = pyramid(read_image(tmp_path / "p.jpg", "p"), 32, 3).levels
    for draws in np.random.default_rng(1).random((10, 5)):
        with opened_image(tmp_path / "p.jpg", "p") as image:
            crop = cut_crop(image, "p", draws, 32, 3, flip=False).transpose(1, 2, 0)
            decoded = image.size
        level = levels[int(draws[1] * len(levels))]
        assert 2 * max(level.shape) <= max(decoded) <= 1024
        assert max(level.shape) > 256 or max(decoded) <= 512
        y, x = (int(draw * (side - 32 + 1)) for draw, side in zip(draws[2:], level.shape[:2], strict=False))
        assert np.abs(crop.astype(float) - level[y : y + 32, x : x + 32]).mean() < 1


def test_scales_at_which_a_crop_fits() -> None:
    assert level_sizes(300, 400, 32) == [(96, 128), (144, 192), (192, 256), (288, 384), (300, 400)]
    assert level_sizes(20, 400, 32) == []
    assert level_sizes(33, 3000, 32) == [(32, 2909)]


def test_hidden_files_and_folders_are_passed_over_and_names_sorted_by_their_parts(tmp_path: Path) -> None:
    for name in ("b/1.png", "b-c/2.png", "a.png", ".d/3.png", "b/.4.png", "b/5.txt", "B/6.PNG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert image_names(tmp_path).names == ["B/6.PNG", "a.png", "b/1.png", "b-c/2.png"]


# Tar files.


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three tar files of eight pictures, with classes in .cls and .json."""
    for shard in range(3):
        with tarfile.open(tmp_path / f"train-{shard:03}.tar", "w") as archive:
            for i in range(8):
                key = f"set/{shard}{i}"
                add(archive, f"{key}.png", png(smooth(50, 60, 8 * shard + i)))
                if i % 2:
                    add(archive, f"{key}.cls", str(i).encode())
                else:
                    add(archive, f"{key}.json", f'{{"label": {i}, "text": "x"}}'.encode())
    return tmp_path


def test_shards_are_one_set_by_pattern_or_folder(shards: Path) -> None:
    request = REQUEST._replace(memory=2**30)
    names = ["train-{000..002}.tar", "train-*.tar", ""]
    images = [open_images(f"webdataset:{shards / name if name else shards}", request) for name in names]
    assert len({each.digest for each in images}) == 1
    assert isinstance(images[0], FixedPictures)  # of one size up to 64, with classes
    assert images[0].size == (50, 60)
    larger = open_images(f"webdataset:{shards}", REQUEST)
    assert isinstance(larger, StreamedCrops)
    files = larger.parts.train
    assert files.labelled
    assert all(files.label(i) == int(files.key(i)[-1]) for i in range(len(files)))
    with files.open(5) as image:
        key = files.key(5)
        assert np.array_equal(np.array(image), smooth(50, 60, 8 * int(key[-2]) + int(key[-1])))
    stream = larger.batches(0, 2, 6)
    assert torch.equal(next(stream), larger.batch(0, 2, 6))


def test_shards_without_classes_are_photographs(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for i in range(6):
            add(archive, f"./{i}.seg.png" if i == 5 else f"./{i}.jpg", png(smooth(50, 60, i)))
    images = open_images(f"webdataset:{tmp_path / 'a.tar'}", REQUEST._replace(memory=2**30))
    assert isinstance(images, Crops)
    assert len(images.pyramids) + len(images.whole) == 6
    assert images.parts.train.label(0) is None


def test_damaged_shards_are_refused_by_name(shards: Path) -> None:
    with pytest.raises(InputError, match=r"train-003\.tar"):
        shard_paths(str(shards / "train-{000..003}.tar"))
    with pytest.raises(InputError, match="no tar file"):
        shard_paths(str(shards / "nothing-*.tar"))
    content = (shards / "train-001.tar").read_bytes()
    for damaged in (b"x" * 4000, content[:20000], b""):
        (shards / "train-001.tar").write_bytes(damaged)
        with pytest.raises(InputError, match=r"train-001\.tar"):
            open_images(f"webdataset:{shards}", REQUEST)


# Interrupts.

READING = """
import signal, sys, os
from codebound.data.image_sources import PictureRequest, open_images
if __name__ == "__main__":
    images = open_images("folder:" + sys.argv[1], PictureRequest(16, 3, 8, memory=0, workers=2))
    stopped = []
    signal.signal(signal.SIGINT, lambda *_: stopped.append(1))
    stream = images.batches(0, 0, 8)
    next(stream)
    os.killpg(0, signal.SIGINT)  # as a terminal does
    for _ in range(6):
        next(stream)
    stream.close()
    print(len(stopped), flush=True)
"""


@pytest.mark.slow
def test_an_interrupt_does_not_end_the_processes_that_read(folder: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", READING, str(folder)],
        capture_output=True, text=True, timeout=120, start_new_session=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "1"
