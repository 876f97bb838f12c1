"""Pictures of few colours: what a PNG would take to keep them exactly is known, and said on the command line."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from codebound.cli import app
from codebound.codec import better_png, drawings, exact_png, read_picture
from codebound.codec.drawings import patch_share
from codebound.data.images import photographs

HELD_OUT = photographs("held_out")[0].pixels[:200, :200]


def drawing(colours: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    palette = rng.choice(1 << 24, colours, replace=False)
    places = np.arange(160 * 120).reshape(120, 160) // 70 % colours
    return np.stack([palette[places] >> shift & 255 for shift in (16, 8, 0)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("colours", [1, 2, 5, 256])
def test_the_png_is_the_picture(colours: int) -> None:
    data = exact_png(drawing(colours))
    assert data is not None
    with Image.open(io.BytesIO(data)) as opened:
        assert np.array_equal(np.array(opened.convert("RGB")), drawing(colours))


def test_more_colours_are_no_drawing() -> None:
    assert exact_png(drawing(257)) is None


def test_compress_says_so(tmp_path: Path) -> None:
    Image.fromarray(drawing(3)).save(tmp_path / "text.png")
    found = CliRunner().invoke(app, ["compress", str(tmp_path / "text.png")])
    assert found.exit_code == 0
    assert "better off as PNG: exactly in" in found.stderr
    found = CliRunner().invoke(app, ["compress", str(tmp_path / "text.png"), "--force", "--json"])
    assert json.loads(found.stdout)[0]["exact_png_bytes"] == len(exact_png(drawing(3)) or b"")


def test_it_is_said_of_drawings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of grey photographs, whose colours are few, nor where the PNG would not be the source."""
    grey = HELD_OUT[..., 1:2].repeat(3, axis=2)
    exact = exact_png(grey)
    assert exact is not None
    assert better_png(read_picture(grey), len(exact) - 1) is None
    text = read_picture(drawing(3))
    size = len(exact_png(text.pixels) or b"")
    assert better_png(text, size // 2 + 1) is not None
    for changed in ({"transparent": True}, {"deep": True}, {"profile": "Display P3"}):
        assert better_png(text._replace(**changed), size) is None

    # A file that is written is not refused for want of memory.
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(drawings, "exact_png", exhausted)
    assert better_png(text, size) is None


def test_drawings_of_many_colours_are_drawings_and_photographs_none() -> None:
    picture = read_picture(drawing(257).repeat(4, axis=0).repeat(4, axis=1))
    whole = io.BytesIO()
    Image.fromarray(picture.pixels).save(whole, "PNG", optimize=True)
    assert better_png(picture, len(whole.getvalue())) == whole.getvalue()
    assert better_png(picture, len(whole.getvalue()) // 2) is None
    assert better_png(read_picture(HELD_OUT), 1 << 30) is None


def test_a_picture_of_sixteen_bits_is_known(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 300, dtype=np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(drawing(3)).save(tmp_path / "text.png")
    assert read_picture(tmp_path / "deep.png").deep
    assert not read_picture(tmp_path / "text.png").deep


def test_patches_are_blocks_of_one_colour() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 50, 3)).astype(np.uint8)
    assert patch_share(pixels) == 0
    pixels[16:48, 32:48] = (3, 9, 200)
    pixels[0:16, 0:16, 0] = 7  # one channel alone is none
    assert patch_share(pixels) == 2 / 12
    assert patch_share(np.zeros((15, 400, 3), dtype=np.uint8)) == 0
