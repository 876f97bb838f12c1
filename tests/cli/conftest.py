"""A small untrained model on the disk, a photograph, and the command line on them."""

from pathlib import Path

import pytest
import torch
from calling import Call
from PIL import Image
from typer.testing import CliRunner, Result

from codebound import Residual, VectorQuantizer
from codebound.cli import app
from codebound.data.images import photographs
from codebound.tokenizers import ImageTokenizer


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    stages = Residual([VectorQuantizer(6, 16, seed=i) for i in range(2)])
    tokenizer = ImageTokenizer(stages, width=8, depth=0, stride=8).eval()
    tokenizer.quantizer.init_(tokenizer.latents(torch.rand(4, 3, 64, 64)).reshape(-1, 6))
    folder = tmp_path_factory.mktemp("model")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def call(model: Path) -> Call:
    """A command with the small model; what it doesn't answer for is raised."""

    def invoke(command: str, *arguments: str | Path, stdin: bytes | None = None) -> Result:
        given = ["--model", str(model)] if command in ("compress", "decompress", "verify") else []
        found = CliRunner().invoke(app, [command, *map(str, arguments), *given], input=stdin)
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return found

    return invoke


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(photographs("held_out")[0].pixels[:48, :64])


@pytest.fixture
def photo(picture: Image.Image, tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    picture.save(path)
    return path
