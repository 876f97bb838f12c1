"""Pictures written once decode for ever, to the same pixels."""

from pathlib import Path

import numpy as np
import picture_stranger
import pytest
from PIL import Image

import codebound.wavelet
from codebound import codec
from codebound.wavelet.model import default_wavelet_model

FILES = sorted((Path(__file__).parent / "golden_pictures").glob("*.cbd"))


def test_the_wavelet_model_keeps_its_name() -> None:
    """If this fails, pictures written before can't be read."""
    assert default_wavelet_model().digest.hex() == "54b216a10a7d1b1e"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_picture_decodes(path: Path) -> None:
    wanted = np.array(Image.open(path.with_suffix(".png")))
    assert np.array_equal(codec.decompress(path.read_bytes()), wanted)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_stranger_decodes_it_from_the_page_alone(path: Path) -> None:
    model = Path(codebound.wavelet.__file__).with_name("model.safetensors")
    found = np.array(picture_stranger.read(path.read_bytes(), model))
    assert np.array_equal(
        found.squeeze(-1) if found.shape[-1] == 1 else found, np.array(Image.open(path.with_suffix(".png")))
    )


def test_the_stranger_is_one() -> None:
    text = Path(picture_stranger.__file__).read_text()
    imported = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert imported == [
        "from __future__ import annotations",
        "import zlib",
        "from pathlib import Path",
        "from stranger import Bytes, RangeDecoder, exp2, frequencies, safetensors",
    ]


def test_there_are_four() -> None:
    assert [path.stem for path in FILES] == ["colour", "grey", "patches", "sharp"]
