"""Files of wavelet coefficients: right or refused, better than WebP, flat stays flat, and without PyTorch."""

import io
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codebound import codec
from codebound.codec import other_codecs, wavelet_pictures
from codebound.codec.picture_input import read_picture
from codebound.coding import picture_container
from codebound.coding.errors import CodecError, DamagedFile, UnsupportedFile, WrongModel
from codebound.data.images import photographs

HELD_OUT = photographs("held_out")


def psnr(pixels: np.ndarray, other: np.ndarray) -> float:
    return float(-10 * np.log10(((pixels.astype(float) - other) ** 2).mean() / 255**2))


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return HELD_OUT[0].pixels[:40, :56]


@pytest.fixture(scope="module")
def data(photo: np.ndarray) -> bytes:
    return codec.compress(photo, quality=40)


def rebuilt(data: bytes, **changed: object) -> bytes:
    """The file with other contents and right checksums of bytes."""
    return picture_container.pack(picture_container.unpack(data)._replace(**changed))


def test_a_picture_is_read_back_and_looked_into(photo: np.ndarray, data: bytes) -> None:
    found = codec.decompress(data)
    assert found.shape == photo.shape
    assert np.array_equal(codec.decompress(io.BytesIO(data)), found)
    assert codec.verify(data) == 40 * 56
    report = codec.inspect(data)
    assert (report.quality, report.picture, report.bytes) == (40, (40, 56, False), len(data))
    assert report.overhead < 40


def test_better_than_webp_at_the_same_bytes() -> None:
    """On a held-out photograph, where WebP's curve is known on both sides of ours."""
    for picture in HELD_OUT[:1]:
        files = [other_codecs.save(picture.pixels, "webp", quality) for quality in (0, 30, 80, 92)]
        sizes = np.log([len(file) for file in files])
        theirs = [psnr(other_codecs.load(file), picture.pixels) for file in files]
        for quality in (25, 50):
            ours = codec.compress(picture.pixels, quality=quality, verify=False)
            assert sizes[0] < np.log(len(ours)) < sizes[-1]
            least = np.interp(np.log(len(ours)), sizes, theirs)
            assert psnr(codec.decompress(ours), picture.pixels) > least + 0.5


def test_flat_colours_and_greys_stay_what_they_are_at_every_quality() -> None:
    squares = np.random.default_rng(0).integers(0, 256, (3, 3, 3)).astype(np.uint8)
    squares[0, 0] = 140  # a grey one
    pixels = squares.repeat(48, axis=0).repeat(48, axis=1)
    for quality in (1, 5, 10, 20, 40, 90):
        found = codec.decompress(codec.compress(pixels, quality=quality, verify=False)).astype(int)
        middles = found[24::48, 24::48]
        assert np.abs(middles - squares).max() <= 2
        assert np.ptp(found[20:28, 20:28], axis=-1).max() <= 2
    one = np.full((40, 56, 3), (201, 30, 77), dtype=np.uint8)
    for quality in (1, 60):
        found = codec.decompress(codec.compress(one, quality=quality)).astype(int)
        assert np.abs(found - one).max() <= 2


def test_patches_of_one_colour_are_what_a_finer_step_is_for(photo: np.ndarray, data: bytes) -> None:
    assert picture_container.unpack(data).flat == picture_container.STEP
    pixels = photo.copy()
    pixels[:16, :32] = (90, 80, 200)
    assert picture_container.unpack(codec.compress(pixels, verify=False)).flat == wavelet_pictures.FLAT


def test_a_flat_picture_of_many_pixels_is_small_and_decodes() -> None:
    """The least length of a stream bounds the work for each byte, and is next to nothing beside a picture."""
    data = codec.compress(np.full((700, 900, 3), 255, dtype=np.uint8), quality=30)
    assert 700 * 900 / picture_container.PIXELS_PER_BYTE <= len(data) < 400
    assert (codec.decompress(data) == 255).all()


def test_qualities_are_step_numbers_that_fall() -> None:
    steps = [picture_container.step_of(quality) for quality in picture_container.QUALITIES]
    assert (np.diff(steps) < 0).all()
    assert (steps[0], steps[9], steps[49], steps[99]) == (picture_container.STEP, 114, 63, 0)
    assert [picture_container.quality_of(step) for step in steps] == list(picture_container.QUALITIES)


def test_a_grey_picture_is_grey_again_and_shorter(photo: np.ndarray) -> None:
    grey = np.repeat(photo[..., 1:2], 3, axis=2)
    data = codec.compress(grey, quality=50)
    found = codec.decompress(data)
    assert found.shape == photo.shape[:2]
    assert psnr(found, grey[..., 0]) > 30
    assert codec.inspect(data).picture.grey


def test_the_best_quality_is_nearly_the_picture_itself() -> None:
    """Text, which has no small details to leave out: at 100 no pixel is off by more than a few levels."""
    rng = np.random.default_rng(0)
    page = np.where(rng.random((64, 96, 1)) < 0.2, 0, 255).astype(np.uint8).repeat(3, axis=2)
    page[:20, :30] = (10, 200, 90)
    found = codec.decompress(codec.compress(page, quality=100))
    assert np.abs(found.astype(int) - page).max() <= 3


@pytest.mark.parametrize("quality", [0, 101, -1])
def test_another_quality_is_refused(photo: np.ndarray, quality: int) -> None:
    with pytest.raises(CodecError, match=f"quality is {quality}; 1 … 100"):
        codec.compress(photo, quality=quality)


def test_a_trade_is_a_tokenizer_s(photo: np.ndarray) -> None:
    with pytest.raises(CodecError, match=r"trade is 0\.5"):
        codec.compress(photo, trade=0.5)


def test_every_changed_byte_is_noticed(data: bytes) -> None:
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        with pytest.raises(CodecError):
            codec.decompress(bytes(changed))
    for length in (*range(60), len(data) - 1):
        with pytest.raises(DamagedFile):
            codec.decompress(data[:length])
    with pytest.raises(DamagedFile, match="after its end"):
        codec.decompress(data + b"\0")


def test_wrong_contents_with_right_checksums_are_noticed(data: bytes) -> None:
    """Every pixel is checked, so that a stream of another picture, step or size never passes."""
    rng, contents = np.random.default_rng(0), picture_container.unpack(data)
    for _ in range(5):
        stream = bytearray(contents.stream)
        stream[rng.integers(len(stream))] ^= 1 << rng.integers(8)
        with pytest.raises(DamagedFile):
            codec.decompress(rebuilt(data, stream=bytes(stream)))
    for changed in ({"step": 3}, {"grey": True}, {"height": 41}, {"stream": b""}, {"checksum": 1}):
        with pytest.raises(DamagedFile):
            codec.decompress(rebuilt(data, **changed))
    with pytest.raises(WrongModel, match="wavelet model"):
        codec.decompress(rebuilt(data, model=bytes(8)))
    later = bytearray(data)
    later[9] = 0x80
    with pytest.raises(UnsupportedFile, match="flags"):
        codec.decompress(bytes(later))


def test_nothing_is_hidden_behind_a_stream(data: bytes) -> None:
    """One byte, many, zeros beyond the least length: no two files of the same levels."""
    stream = picture_container.unpack(data).stream
    for more in (b"\1", b"SECRET", b"SECRET" * 1000, b"\0", bytes(1000)):
        with pytest.raises(DamagedFile, match="goes on after its last"):
            codec.verify(rebuilt(data, stream=stream + more))


def test_a_bomb_is_refused_before_it_is_decoded(data: bytes) -> None:
    huge = rebuilt(data, height=2**24, width=2**10, stream=b"")
    assert len(huge) >= 2**34 // picture_container.PIXELS_PER_BYTE
    with pytest.raises(CodecError, match="max_pixels=268,435,456"):
        codec.decompress(huge)
    with pytest.raises(CodecError, match="2,240 pixels; max_pixels=2,239"):
        codec.verify(data, max_pixels=2_239)
    contents = picture_container.unpack(data)._replace(stream=b"\1")
    short = picture_container.pack(contents)
    assert len(short) < len(data)
    head = bytearray(short[:-10])
    assert picture_container.least_bytes(2**16, 2**16) == 2**20
    with pytest.raises(DamagedFile):
        codec.decompress(bytes(head))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(4096, 3900), (1, 2**24)])
def test_four_kilobytes_take_seconds_and_bounded_memory(data: bytes, size: tuple[int, int]) -> None:
    """All that such a file can hold; the bounds are well above what was seen."""
    for stream in (b"\1", np.random.default_rng(0).bytes(3000)):
        largest = rebuilt(data, height=size[0], width=size[1], stream=stream)
        assert len(largest) < 4200
        tracemalloc.start()
        started = time.process_time()
        with pytest.raises(DamagedFile):
            codec.decompress(largest)
        assert time.process_time() - started < 40
        assert tracemalloc.get_traced_memory()[1] < 1.5e9
        tracemalloc.stop()


def test_what_holds_a_picture_holds_no_indices(data: bytes) -> None:
    with pytest.raises(UnsupportedFile, match="holds a picture of wavelet coefficients"):
        codec.decompress_grids(data)


def test_a_profile_s_name_is_kept(photo: np.ndarray) -> None:
    picture = read_picture(photo)._replace(profile="Display P3")
    assert codec.inspect(codec.compress(picture)).profile == "Display P3"


def test_a_decoder_that_differs_is_noticed_before_anything_is_written(
    photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object) -> np.ndarray:
        return np.zeros((40, 56, 3), dtype=np.uint8)

    monkeypatch.setattr(wavelet_pictures.pictures, "decode", wrong)
    with pytest.raises(CodecError):
        codec.compress(photo)
    assert zlib.crc32(codec.compress(photo, verify=False)) > 0


def test_pictures_are_compressed_and_decompressed_without_pytorch(photo: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    code = (
        "import sys; from codebound.cli import app\n"
        "for command in (['compress', 'a.png'], ['verify', 'a.cbd'], ['info', 'a.cbd'], ['decompress', 'a.cbd']):\n"
        "    app(command, standalone_mode=False)\n"
        "assert not {'torch', 'scipy', 'pandas', 'matplotlib'} & set(sys.modules), 'slow to start'"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert np.array(Image.open(tmp_path / "a.cbd.png")).shape == photo.shape
