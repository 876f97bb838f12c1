"""What a test process does before it collects: libraries from their own bytecode, and only the files it needs."""

import importlib
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

import pytest

# What codebound imports while jaxtyping's hook is loading it, Python looks for under the hook's bytecode tag
# and compiles anew in every process. Imported here first, these libraries come from the bytecode they have.
LIBRARIES = [
    "beartype.door", "pydantic.main", "torch", "torch._dynamo", "torch.distributed.fsdp",
    "torch.utils.data", "torchmetrics", "lightning_fabric", "scipy.stats", "scipy.optimize",
    "scipy.integrate", "scipy.fft", "sklearn", "pandas", "pyarrow.parquet", "matplotlib.figure",
    "matplotlib.backends.backend_agg", "jinja2", "yaml", "rich.progress", "rich.table", "typer", "joblib",
    "safetensors.torch", "huggingface_hub", "constriction", "PIL.Image", "soundfile",
]  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collectstart(collector: pytest.Collector) -> None:
    """Import the libraries where tests are collected: not in the process that only hands them out."""
    if collector.config.getoption("--jaxtyping-packages", default=None):
        for name in LIBRARIES:
            importlib.import_module(name)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of the untyped tests alone, import only the files in which that mark is written."""
    if not config.getoption("-m").startswith("untyped") or collection_path.suffix != ".py":
        return None
    return True if "mark.untyped" not in collection_path.read_text(encoding="utf-8") else None


@pytest.fixture(scope="session", autouse=True)
def _photographs_are_read_once() -> Iterator[None]:
    """The embedded photographs and their reductions are kept for the process: most runs here train on them."""
    from codebound.data import image_sources

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_sources, "photographs", cache(image_sources.photographs))
        patch.setattr(image_sources, "pyramid", lru_cache(maxsize=200)(image_sources.pyramid))
        yield
