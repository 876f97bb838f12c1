"""A whole set as indices: rows, shards, resumption, and what `datasets` opens."""

import json
import signal
import subprocess
import sys
import tarfile
import time
import warnings
from functools import partial
from io import BytesIO
from pathlib import Path

import commands
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import torch
import yaml
from PIL import Image

from codebound import Residual, VectorQuantizer
from codebound.codec import tiles
from codebound.codec.model import load_model
from codebound.data.image_sources import PictureRequest, open_images
from codebound.data.images import read_image
from codebound.errors import InputError
from codebound.runs import tokenise
from codebound.runs.settings import Settings
from codebound.runs.tokenise import TokeniseSettings
from codebound.tokenizers import ImageTokenizer

call = partial(commands.call, "tokenize")


def save_model(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    stages = Residual([VectorQuantizer(4, size, seed=seed + size) for size in (16, 9)])
    ImageTokenizer(stages, width=8, depth=1).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """23 pictures, one of them damaged, one large and turned by its EXIF tag, one smaller than a crop."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(21):
        pixels = rng.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)
        (folder / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "ab"[i % 2] / f"{i:02}.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    ramp = np.mgrid[:300, :800].sum(0)[..., None] / 5 + np.array([0, 10, 30])
    Image.fromarray(ramp.astype(np.uint8)).save(folder / "large.png", exif=exif)
    Image.fromarray(pixels[:9, :11]).save(folder / "tiny.png")
    (folder / "a" / "04.png").write_bytes((folder / "a" / "04.png").read_bytes()[:500])
    return folder


def settings(pictures: Path, **more: int) -> TokeniseSettings:
    return TokeniseSettings(data=f"folder:{pictures}", **{"shard_size": 4, "long_side": 200, **more})


@pytest.fixture(scope="module")
def tokens(model: Path, pictures: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tokens") / "out"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        splits = tokenise.tokenise(str(model), settings(pictures), out)
    assert ["no row: a/04.png" in str(warning.message) for warning in said] == [True]
    assert {name: (part.pictures, part.shards, part.unreadable) for name, part in splits.items()} == {
        "train": (20, 6, ("a/04.png",)),
        "test": (2, 1, ()),
    }
    return out


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "data").iterdir())}


def test_one_row_a_picture_whole(tokens: Path, model: Path, pictures: Path) -> None:
    table = pd.concat([pd.read_parquet(path) for path in sorted((tokens / "data").iterdir())])
    assert sorted(table.key) == sorted(
        path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png") if path.name != "04.png"
    )
    tokenizer = load_model(model).tokenizer
    for row in table.itertuples():
        pixels = read_image(pictures / row.key, row.key).pixels
        if row.key == "large.png":
            assert (row.height, row.width) == (200, 75)
            small = Image.fromarray(pixels).resize((75, 200), Image.Resampling.LANCZOS)
            pixels = np.array(small)
        assert (row.height, row.width) == pixels.shape[:2]
        expected = tiles.encode(tokenizer, pixels)
        assert list(row.grid) == list(expected.shape) == [-(-row.height // 4), -(-row.width // 4), 2]
        assert np.array_equal(row.indices.reshape(row.grid), expected)
    schema = pyarrow.parquet.read_schema(next((tokens / "data").iterdir()))
    assert str(schema.field("indices").type) in ("list<element: int32>", "list<item: int32>")
    assert schema.names == ["key", "height", "width", "indices", "grid"]


def test_the_split_test_is_what_a_training_holds_out(tokens: Path, pictures: Path) -> None:
    with pytest.warns(UserWarning, match="left out"):
        images = open_images(f"folder:{pictures}", PictureRequest())
    rows = pd.concat([pd.read_parquet(path) for path in (tokens / "data").glob("test-*")])
    keys = [images.parts.test.key(i) for i in range(len(images.parts.test))]
    assert rows.key.tolist() == keys == sorted(keys)
    assert not set(keys) & {pyramid.name for pyramid in images.pyramids}


def test_processes_change_no_byte_and_a_second_run_writes_nothing(
    tokens: Path, model: Path, pictures: Path, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="no row"):
        tokenise.tokenise(str(model), settings(pictures), tmp_path / "out", jobs=2)
    assert content(tmp_path / "out") == content(tokens)
    assert (tmp_path / "out" / "README.md").read_bytes() == (tokens / "README.md").read_bytes()
    (tmp_path / "out" / "data" / "train-00002-of-00006.parquet").unlink()
    (tmp_path / "out" / "README.md").write_text("my own words")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    seen: list[tuple[int, int]] = []
    with pytest.warns(UserWarning, match="no row"):
        tokenise.tokenise(
            str(model), settings(pictures), tmp_path / "out", progress=lambda *now: seen.append(now)
        )
    assert seen == [(6, 7), (7, 7)]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert content(tmp_path / "out") == content(tokens)


def test_other_settings_models_and_pictures_are_refused_by_name(
    tokens: Path, model: Path, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="long_side: 200 → 100"):
        tokenise.tokenise(str(model), settings(pictures, long_side=100), tokens)
    other = save_model(tmp_path / "other", seed=1)
    hashes = [load_model(path).digest().hex() for path in (model, other)]
    with pytest.raises(InputError, match=f"model: '{hashes[0]}' → '{hashes[1]}'"):
        tokenise.tokenise(str(other), settings(pictures), tokens)
    added = pictures / "added.png"
    Image.new("RGB", (60, 60)).save(added)
    try:
        with pytest.raises(InputError, match="train pictures: "):
            tokenise.tokenise(str(model), settings(pictures), tokens)
    finally:
        added.unlink()
    with pytest.raises(InputError, match="neither the folder of a finished run nor of a model"):
        tokenise.tokenise(str(tmp_path), settings(pictures), tmp_path / "out")
    with pytest.raises(InputError, match="jobs must be"):
        tokenise.tokenise(str(model), settings(pictures), tmp_path / "out", jobs=0)
    assert not (tmp_path / "out").exists()


def test_a_damaged_shard_is_named(model: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no row"):
        tokenise.tokenise(str(model), settings(pictures, shard_size=100), tmp_path / "out")
    path = tmp_path / "out" / "data" / "train-00000-of-00001.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(InputError, match=r"train-00000-of-00001\.parquet is damaged"):
        tokenise.tokenise(str(model), settings(pictures, shard_size=100), tmp_path / "out")

    # A whole file of somebody else's says nothing of indices.
    pd.DataFrame({"indices": [[1, 2]]}).to_parquet(path)
    with pytest.raises(InputError, match=r"train-00000-of-00001\.parquet is damaged"):
        tokenise.tokenise(str(model), settings(pictures, shard_size=100), tmp_path / "out")


KILLED = """
import sys
from pathlib import Path
from codebound.runs import tokenise
if __name__ == "__main__":
    settings = tokenise.TokeniseSettings(data="folder:" + sys.argv[2], shard_size=1, long_side=200)
    tokenise.tokenise(sys.argv[1], settings, Path(sys.argv[3]))
"""


@pytest.mark.slow
def test_killed_it_goes_on_to_the_same_files(model: Path, pictures: Path, tmp_path: Path) -> None:
    arguments = [str(model), str(pictures), str(tmp_path / "killed")]
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", KILLED, *arguments])
    deadline = time.time() + 60
    while len(list((tmp_path / "killed" / "data").glob("train-*"))) < 3 and time.time() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = content(tmp_path / "killed")
    assert 3 <= len([name for name in begun if name.startswith("train-")]) <= 21
    for name in ("killed", "whole"):
        with pytest.warns(UserWarning, match="no row"):
            tokenise.tokenise(str(model), settings(pictures, shard_size=1), tmp_path / name)
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_classes_and_keys_of_shards(model: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for i in range(12):
            stream = BytesIO()
            Image.new("RGB", (70, 80), (i, 2 * i, 90)).save(stream, "PNG")
            for name, data in ((f"{i:02}.png", stream.getvalue()), (f"{i:02}.cls", str(i % 3).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, BytesIO(data))
    data = f"webdataset:{tmp_path / 'a.tar'}"
    tokenise.tokenise(str(model), TokeniseSettings(data=data), tmp_path / "out")
    rows = pd.concat([pd.read_parquet(path) for path in (tmp_path / "out" / "data").iterdir()])
    assert len(rows) == 12
    assert all(int(row.key) % 3 == row.label for row in rows.itertuples())


def test_the_command_on_a_run_and_what_the_card_says(model: Path, pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    for path in model.iterdir():
        (run / "model" / path.name).write_bytes(path.read_bytes())
    (run / "config.yaml").write_text(yaml.safe_dump(Settings(crop=8).model_dump(mode="json")))
    with pytest.warns(UserWarning, match="no row"):
        code, out, err = call(
            str(run), "--data", f"folder:{pictures}", "--out", str(tmp_path / "out"), "--json"
        )
    assert code == 0, err
    assert json.loads(out)["train"]["pictures"] == 20
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(text.split("---\n")[1])
    splits = {split["name"]: split["num_examples"] for split in header["dataset_info"]["splits"]}
    assert splits == {"train": 20, "test": 2}
    for words in (load_model(model).digest().hex(), "16, 9", "| 25 |", "0, 16", "4×4", "a/04.png"):
        assert words in text
    code, _, err = call(str(run), "--data", "folder:/none", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "/none" in err


@pytest.mark.slow
def test_datasets_opens_it(tokens: Path, model: Path, tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    opened = datasets.load_dataset(str(tokens))
    assert {name: len(split) for name, split in opened.items()} == {"train": 20, "test": 2}
    again = datasets.load_dataset("parquet", data_files=str(tokens / "data" / "train-*.parquet"))["train"]
    assert again.features == opened["train"].features
    tokenizer = ImageTokenizer.from_pretrained(model)
    row = again[7]
    indices = torch.tensor(row["indices"]).view(1, *row["grid"])
    assert torch.equal(tokenizer.unflatten(tokenizer.flatten(indices), tuple(row["grid"][:2])), indices)
    assert tokenizer.decode(indices, size=(row["height"], row["width"])).shape[-2:] == (
        row["height"],
        row["width"],
    )
    # A set of the hub's form: its classes keep their names, and processes read its table by themselves.
    rng = np.random.default_rng(1)
    for label in ("cat", "dog"):
        (tmp_path / "set" / "train" / label).mkdir(parents=True)
        for i in range(11):
            pixels = rng.integers(0, 256, (70, 80 + i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / "train" / label / f"{i:02}.png")
    named = TokeniseSettings(data=f"hf:{tmp_path / 'set'}", shard_size=5)
    for jobs in (1, 2):
        tokenise.tokenise(str(model), named, tmp_path / f"out{jobs}", jobs=jobs)
    assert content(tmp_path / "out1") == content(tmp_path / "out2")
    for rows in (
        datasets.load_dataset(str(tmp_path / "out1"))["train"],
        datasets.load_dataset("parquet", data_files=str(tmp_path / "out1" / "data" / "train-*"))["train"],
    ):
        assert rows.features["label"].names == ["cat", "dog"]
        assert len(rows) == 19
        assert all((int(row["key"]) >= 11) == row["label"] for row in rows)
