import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import write_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory) -> Path:
    """A finished run of three sources and three seeds."""
    out = tmp_path_factory.mktemp("study") / "run"
    return write_run(out, seeds=3, sources=("isotropic", "anisotropic", "photos"), evaluate_every=500)
