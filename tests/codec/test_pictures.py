"""Pictures to bytes and back: any size and kind, exact indices, a model that is named and never changed."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from samples import random_prior

from codebound import Residual, VectorQuantizer, codec
from codebound.codec import CodecError, DamagedFile, Model, WrongModel, tiles
from codebound.data.images import photographs
from codebound.tokenizers import ImageTokenizer

STRIDE = 8


def build(seed: int = 0, channels: int = 3, linear: bool = False) -> Model:
    """An untrained tokenizer that still tells pictures apart, and a prior that predicts nothing."""
    torch.manual_seed(seed)
    stages = [VectorQuantizer(8, 64, seed=seed + i) for i in range(3)]
    sizes = {"channels": channels, "width": 16, "depth": 1, "stride": STRIDE, "linear": linear}
    tokenizer = ImageTokenizer(Residual(stages), **sizes).eval()
    noise = torch.rand(8, channels, 64, 64)
    tokenizer.quantizer.init_(tokenizer.latents(noise).reshape(-1, 8))
    return Model(tokenizer, random_prior((64, 64, 64)))


@pytest.fixture(scope="module")
def model() -> Model:
    return build()


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return photographs("held_out")[0].pixels[:44, :58]


def test_a_picture_survives_as_its_own_reconstruction(model: Model, photo: np.ndarray) -> None:
    data = codec.compress(photo, model=model)
    found = codec.decompress(data, model=model)
    assert found.shape == photo.shape
    x = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None]
    indices = model.tokenizer.encode(x)
    whole = tiles.to_uint8(model.tokenizer.decode(indices, size=(44, 58)))[0].permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - whole).max() <= 1
    assert codec.verify(data, model=model) == indices.numel()


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("side", [1, 3])
def test_tiles_give_what_the_whole_picture_gives(
    photo: np.ndarray, side: int, linear: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(linear=linear)
    whole = tiles.encode(model.tokenizer, photo)
    pixels = tiles.decode(model.tokenizer, whole, (44, 58))
    monkeypatch.setattr(tiles, "TILE", side)
    assert np.array_equal(tiles.encode(model.tokenizer, photo), whole)
    again = tiles.decode(model.tokenizer, whole, (44, 58))
    assert np.abs(again.astype(int) - pixels).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (33, 2), (8, 8), (64, 65)])
def test_pictures_of_any_size(model: Model, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    data = codec.compress(pixels, model=model)
    assert codec.decompress(data, model=model).shape == (*size, 3)
    assert codec.inspect(data).picture == (*size, False)
    assert codec.inspect(data).overhead <= 48


@pytest.mark.slow
def test_a_large_picture_in_bounded_memory(model: Model) -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(small).resize((4000, 3000)))
    data = codec.compress(pixels, model=model, quality=1)
    assert codec.decompress(data, model=model).shape == (3000, 4000, 3)


def test_each_quality_is_larger_than_the_one_below_and_decodes(model: Model, photo: np.ndarray) -> None:
    files = [codec.compress(photo, model=model, quality=q) for q in model.qualities]
    assert [len(codec.inspect(data).codebook_sizes) for data in files] == [1, 2, 3]
    assert sorted(map(len, files)) == [len(data) for data in files]
    for data in files:
        assert codec.decompress(data, model=model).shape == photo.shape
    for wrong in (0, 4, -1):
        with pytest.raises(CodecError, match="1 … 3"):
            codec.compress(photo, model=model, quality=wrong)


def test_exact_pixels_are_those_of_any_number_of_threads(model: Model, photo: np.ndarray) -> None:
    data = codec.compress(photo, model=model)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(codec.decompress(data, model=model, exact=True))
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(found[0], other) for other in found)
    fast = codec.decompress(data, model=model)
    assert np.abs(found[0].astype(int) - fast).max() <= 1


def saved(image: Image.Image, suffix: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, suffix, **options)
    return stream.getvalue()


def test_pictures_of_any_kind(model: Model, photo: np.ndarray) -> None:
    colour = Image.fromarray(photo)
    kinds = {
        "grey": saved(colour.convert("L"), "PNG"),
        "grey and alpha": saved(colour.convert("LA"), "PNG"),
        "alpha": saved(colour.convert("RGBA"), "PNG"),
        "palette": saved(colour.convert("P"), "GIF"),
        "bilevel": saved(colour.convert("1"), "PNG"),
        "CMYK": saved(colour.convert("CMYK"), "JPEG"),
        "16-bit": saved(Image.fromarray(photo[..., 0].astype(np.uint16) * 257), "PNG"),
        "webp": saved(colour, "WEBP"),
        "tiff": saved(colour, "TIFF"),
    }
    for name, data in kinds.items():
        found = codec.decompress(codec.compress(data, model=model, quality=1), model=model)
        grey = name in ("grey", "grey and alpha", "bilevel", "16-bit")
        assert found.shape == (photo.shape[:2] if grey else photo.shape), name


def test_a_turned_picture_is_put_upright(model: Model, photo: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(photo), "JPEG", exif=exif)
    assert codec.decompress(codec.compress(data, model=model), model=model).shape == (58, 44, 3)


def test_however_a_picture_comes_its_file_is_the_same(
    model: Model, photo: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    files = {
        codec.compress(source, model=model)
        for source in (
            path,
            str(path),
            path.read_bytes(),
            io.BytesIO(path.read_bytes()),
            photo,
            Image.fromarray(photo),
            photo[:, ::-1][:, ::-1],
        )
    }
    assert len(files) == 1
    (data,) = files
    whole = codec.decompress(data, model=model)
    assert np.array_equal(codec.decompress(io.BytesIO(data), model=model), whole)


def test_what_is_no_picture_is_refused(model: Model, photo: np.ndarray, tmp_path: Path) -> None:
    frames = [Image.fromarray(photo), Image.fromarray(photo[::-1].copy())]
    text = tmp_path / "text.png"
    text.write_text("no picture")
    png = saved(frames[0], "PNG")
    for wrong in (
        saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        b"",
        b"GIF89a",
        png[: len(png) // 2],
        text,
        tmp_path / "missing.png",
        tmp_path,
        np.zeros((0, 4, 3), dtype=np.uint8),
        np.zeros((4, 4, 4), dtype=np.uint8),
        Image.fromarray(np.zeros((4, 4), dtype=np.float32)),
    ):
        with pytest.raises(CodecError):
            codec.compress(wrong, model=model)


def test_another_model_is_named_and_a_wrong_grid_refused(model: Model, photo: np.ndarray) -> None:
    data = codec.compress(photo, model=model)
    other = build(1)
    with pytest.raises(WrongModel, match=f"{model.digest().hex()}; model {other.digest().hex()}"):
        codec.decompress(data, model=other)
    found = codec.token_pictures.container.unpack(data)
    wrong = found._replace(picture=found.picture._replace(height=200))
    with pytest.raises(DamagedFile, match="200x58"):
        codec.decompress(codec.token_pictures.container.pack(wrong), model=model)
    indices = codec.compress_indices(np.zeros((2, 2, 1), dtype=int), (4,))
    with pytest.raises(CodecError, match="not a picture"):
        codec.decompress(indices, model=model)
    assert codec.verify(indices, model=model) == 4


def test_the_model_s_name_depends_on_every_part_of_it(model: Model) -> None:
    names = {model.digest(), Model(model.tokenizer).digest(), build(1).digest()}
    names.add(Model(model.tokenizer, random_prior((64, 64, 64), seed=9)).digest())
    changed = build(0)
    with torch.no_grad():
        changed.tokenizer.quantizer.stages[2].codebook.codewords()[5, 3] += 1e-3
    names.add(changed.digest())
    assert len(names) == 5
    assert build(0).digest() == model.digest()


def test_nothing_changes_the_model(model: Model, photo: np.ndarray) -> None:
    before = model.digest()
    data = codec.compress(photo, model=model)
    codec.decompress(data, model=model, exact=True)
    assert model.digest() == before


def test_a_grey_model_takes_colour_and_gives_grey(photo: np.ndarray) -> None:
    grey = build(channels=1)
    assert codec.decompress(codec.compress(photo, model=grey), model=grey).shape == photo.shape[:2]


@pytest.mark.slow
def test_a_killed_compression_leaves_the_old_file_or_the_new_one(tmp_path: Path, photo: np.ndarray) -> None:
    source, goal = tmp_path / "photo.png", tmp_path / "photo.cbd"
    Image.fromarray(photo).save(source)
    command = [sys.executable, "-m", "codebound", "compress", str(source), "--force"]
    subprocess.run(command, check=True, capture_output=True)
    wanted = goal.read_bytes()
    goal.write_bytes(b"old")
    whole = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.perf_counter() - whole
    for number in range(100):
        goal.write_bytes(b"old")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole * (0.5 + number / 150))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert goal.read_bytes() in (b"old", wanted)


def test_the_default_model_is_small_and_beats_jpeg_near_a_tenth_of_a_bit() -> None:
    folder = codec.model.DEFAULT
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 4_000_000
    pixels = photographs("held_out")[0].pixels
    data = codec.compress(pixels, model=codec.default_model(), quality=1)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=2, optimize=True)
    assert len(data) < len(stream.getvalue())

    def psnr(again: np.ndarray) -> float:
        return -10 * float(np.log10(np.square(again / 255 - pixels / 255).mean()))

    assert psnr(codec.decompress(data)) > psnr(np.array(Image.open(stream))) + 2
