"""A picture under two names stands on one side of a division."""

import shutil
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codebound.data.image_sources import open_images
from codebound.data.picture_files import ArrayFiles, FolderFiles, Parts
from codebound.data.picture_request import PictureRequest
from codebound.data.picture_sets import divided_set
from codebound.data.twins import copies, divided_order
from codebound.errors import InputError

REQUEST = PictureRequest(crop=16, held_out=4, workers=0)


@pytest.fixture
def doubled(tmp_path: Path) -> Path:
    """Six pictures, each under four names, in two folders; and one whose file is as long as another's."""
    rng = np.random.default_rng(0)
    for number in range(6):
        path = tmp_path / "pictures" / f"{number}.bmp"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
        (tmp_path / "pictures" / "again").mkdir(exist_ok=True)
        for copy in range(3):
            shutil.copy(path, tmp_path / "pictures" / "again" / f"{number}-{copy}.bmp")
    return tmp_path / "pictures"


def contents(files: object) -> set[bytes]:
    return {files.content(number) for number in range(len(files))}


@pytest.mark.parametrize("memory", [2**30, 0])
@pytest.mark.parametrize("kind", ["folder", "webdataset"])
def test_no_picture_is_on_both_sides(doubled: Path, kind: str, memory: int, tmp_path: Path) -> None:
    source = doubled
    if kind == "webdataset":
        source = tmp_path / "shard.tar"
        with tarfile.open(source, "w") as archive:
            for number, path in enumerate(sorted(doubled.rglob("*.bmp"))):
                archive.add(path, f"{number:02}.bmp")
    images = open_images(f"{kind}:{source}", REQUEST._replace(memory=memory))
    train, test = images.parts
    assert len(train) + len(test) == 24
    assert not contents(train) & contents(test)
    assert len(test) % 4 == 0


def test_without_copies_the_division_is_what_it_was(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    files = ArrayFiles([rng.integers(0, 256, (4, 4, 3), dtype=np.uint8) for _ in range(30)])
    order = rng.permutation(30)
    seen, out = divided_order(files, order, 3)
    assert np.array_equal(seen, order[3:])
    assert np.array_equal(out, order[:3])


def test_files_of_other_lengths_are_not_read(doubled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = FolderFiles.below(doubled)
    (doubled / "0.bmp").write_bytes(b"longer" * 500)
    read: list[str] = []

    def content(self: FolderFiles, number: int) -> bytes:
        read.append(self.key(number))
        return (self.root / self.key(number)).read_bytes()

    monkeypatch.setattr(FolderFiles, "content", content)
    found = copies(files, FolderFiles.named(doubled, ["0.bmp", "gone.bmp"]))
    assert found.tolist() == [key == "0.bmp" for key in files._names.to_pylist()]
    assert set(read) == {"0.bmp"}


def test_copies_of_one_picture_are_no_set(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (20, 20), "red").save(tmp_path / f"{number}.png")
    for memory in (2**30, 0):
        with pytest.raises(InputError, match="copies"):
            open_images(f"folder:{tmp_path}", REQUEST._replace(memory=memory))


def test_a_divided_set_trains_on_no_test_picture() -> None:
    rng = np.random.default_rng(2)
    pictures = [rng.integers(0, 256, (20, 20, 3), dtype=np.uint8) for _ in range(6)]
    parts = Parts(ArrayFiles(pictures), ArrayFiles(pictures[4:]))
    with pytest.warns(UserWarning, match="2 training pictures are held out"):
        images = divided_set("set", "a set", parts, REQUEST)
    assert len(images.parts.train) == 4
    assert not contents(images.parts.train) & contents(images.parts.test)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        divided_set("set", "a set", images.parts, REQUEST)
