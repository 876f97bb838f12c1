"""Pictures written once decode for ever, to the same pixels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codebound import codec
from codebound.wavelet.model import default_wavelet_model

FILES = sorted((Path(__file__).parent / "golden_pictures").glob("*.cbd"))


def test_the_wavelet_model_keeps_its_name() -> None:
    """If this fails, pictures written before can't be read."""
    assert default_wavelet_model().digest.hex() == "8d6f9b6daf82c34f"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_picture_decodes(path: Path) -> None:
    wanted = np.array(Image.open(path.with_suffix(".png")))
    assert np.array_equal(codec.decompress(path.read_bytes()), wanted)


def test_there_are_three() -> None:
    assert [path.stem for path in FILES] == ["colour", "grey", "sharp"]
