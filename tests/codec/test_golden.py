"""Files written once decode for ever, and the same indices are still written as the same bytes."""

import json
from pathlib import Path

import numpy as np
import pytest
import stranger

from codebound.codec import compress_indices, decompress_indices, default_model, inspect
from codebound.coding.container import Mode
from codebound.priors.grid_prior import load_prior

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*/*.cbd"))


def indices(folder: Path) -> np.ndarray:
    return np.array(json.loads((folder / "indices.json").read_text()))


def test_the_default_model_keeps_its_name() -> None:
    """If this fails, pictures written before can't be read."""
    assert default_model().digest().hex() == "114cf71c67f63a50"


def test_there_is_one_of_every_mode_and_they_are_small() -> None:
    assert {path.stem for path in FILES} == {mode.name.lower() for mode in Mode}
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 200_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_golden_file_decodes_and_is_written_again(path: Path) -> None:
    data, prior, wanted = path.read_bytes(), load_prior(path.parent), indices(path.parent)
    assert np.array_equal(decompress_indices(data, prior=prior), wanted)
    mode = Mode[path.stem.upper()]
    assert set(inspect(data).grids[0].modes) == {path.stem}
    assert compress_indices(wanted, prior.codebook_sizes, prior=prior, modes=[mode]) == data


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_stranger_decodes_it_from_the_page_alone(path: Path) -> None:
    (found,) = stranger.read(path.read_bytes(), path.parent)
    assert np.array_equal(np.array(found).transpose(1, 2, 0), indices(path.parent))


def test_the_stranger_is_one() -> None:
    text = (Path(__file__).parent / "stranger.py").read_text()
    imported = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert imported == [
        "from __future__ import annotations",
        "import json",
        "import math",
        "import zlib",
        "from pathlib import Path",
    ]
