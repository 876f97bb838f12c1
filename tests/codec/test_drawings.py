"""Pictures of few colours: what a PNG would take to keep them exactly is known, and said on the command line."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from codebound.cli import app
from codebound.codec import exact_png


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
    assert "few colours: a PNG keeps it exactly in" in found.stderr
