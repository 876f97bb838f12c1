"""What is published, and what an import costs: sdist and wheel, in processes and folders of their own."""

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from codebound.extras import LAB, MissingExtra, require_lab

ROOT = Path(__file__).parents[1]
# What neither the layer nor a help text needs, and what a help text needs and the layer does not.
HEAVY = {
    "PIL", "cloudpickle", "constriction", "huggingface_hub", "jinja2", "joblib", "lightning_fabric", "matplotlib",
    "pandas", "pyarrow", "scipy.interpolate", "scipy.linalg", "scipy.optimize", "scipy.sparse", "scipy.spatial",
    "scipy.special", "scipy.stats", "sklearn", "torchmetrics",
}  # fmt: skip
FOR_HELP = {"pydantic", "rich", "typer", "yaml"}


class Published(NamedTuple):
    """The wheel of the checkout, the wheel made of the unpacked sdist, and the latter's content in a folder."""

    wheel: Path
    wheel_of_sdist: Path
    site: Path

    def python(self, *arguments: str, also: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Python outside the checkout, with the wheel's content before everything else, then `also`."""
        path = os.pathsep.join(str(folder) for folder in (self.site, also) if folder)
        environment = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(
            [sys.executable, "-P", *arguments],
            cwd=self.site.parent,
            env=environment,
            capture_output=True,
            text=True,
        )


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = tmp_path_factory.mktemp("published")

    # The sdist as a user unpacks it, and a wheel of either source; hatchling is here, so no network is needed.
    sdist = _built(ROOT, "sdist", folder / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    source = folder / sdist.name.removesuffix(".tar.gz")
    wheel = _built(ROOT, "wheel", folder / "of_checkout")
    wheel_of_sdist = _built(source, "wheel", folder / "of_sdist")

    # A wheel is a zip file; what pip does beyond unpacking is to write the command.
    with zipfile.ZipFile(wheel_of_sdist) as archive:
        archive.extractall(folder / "site")
    return Published(wheel, wheel_of_sdist, folder / "site")


def _built(source: Path, target: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (file,) = folder.iterdir()
    return file


def _metadata(published: Published, name: str) -> str:
    (folder,) = published.site.glob("*.dist-info")
    return (folder / name).read_text(encoding="utf-8")


def _required(published: Published) -> list[tuple[str, str]]:
    """Each requirement's name and the rest of its line."""
    return re.findall(r"^Requires-Dist: ([\w-]+)(.*)$", _metadata(published, "METADATA"), re.MULTILINE)


def _always(published: Published) -> set[str]:
    return {name for name, rest in _required(published) if "extra" not in rest}


def test_the_sdist_gives_the_wheel_of_the_checkout(published: Published) -> None:
    assert published.wheel.read_bytes() == published.wheel_of_sdist.read_bytes()


def test_the_wheel_is_typed_and_has_data_command_and_addresses(published: Published) -> None:
    package = published.site / "codebound"
    models = (
        "tokenizers/default_model",
        "generators/default_model/tokenizer",
        "generators/default_model/prior",
    )
    files = ("config.json", "manifest.json", "model.safetensors", "README.md")
    for name in (
        "py.typed", "data/photos/index.json", *(f"{model}/{file}" for model in models for file in files)
    ):  # fmt: skip
        assert (package / name).is_file(), name
    assert "codebound = codebound.__main__:main" in _metadata(published, "entry_points.txt")
    assert "Project-URL: " in _metadata(published, "METADATA")


def test_a_handful_of_packages_for_the_layer_the_others_in_an_extra(published: Published) -> None:
    assert _always(published) == {
        "torch", "numpy", "scipy", "jaxtyping", "pydantic", "safetensors", "torchmetrics", "cloudpickle"
    }  # fmt: skip

    # What the commands look for is what the extra installs; other packages may bring the same module, too.
    lab = {name for name, condition in _required(published) if "extra == 'lab'" in condition}
    owners = packages_distributions()
    found = {module: lab & {canonicalize_name(name) for name in owners[module]} for module in LAB}
    assert all(found.values()), found
    assert set().union(*found.values()) == lab


def _requirements(names: Iterable[str]) -> dict[str, Distribution]:
    """These distributions and all that they require, extras left out."""
    found: dict[str, Distribution] = {}
    queue = [canonicalize_name(name) for name in names]
    while queue:
        name = queue.pop()
        if name in found:
            continue
        found[name] = distribution(name)
        for requirement in map(Requirement, found[name].requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                queue.append(canonicalize_name(requirement.name))
    return found


def test_layer_theory_and_metrics_work_without_the_extra(published: Published) -> None:
    """Where nothing can be imported but what the wheel requires, the layer learns, is saved, checked and measured."""
    # A folder of links to exactly the packages that `pip install codebound` would bring.
    bare = published.site.parent / "bare"
    bare.mkdir()
    for package in _requirements(_always(published)).values():
        for top in {file.parts[0] for file in package.files or ()} - {".."}:
            if not (bare / top).exists():
                (bare / top).symlink_to(package.locate_file(top))

    script = f"""
import torch, codebound
from codebound import FSQ, Residual, VectorQuantizer, check_quantizer, quantize, recipes, theory
from codebound.metrics import CodeUsage, usage
from codebound.theory import bounds, converse, entropy, finite, gaussian, lloyd, population

assert codebound.__file__.startswith({str(published.site)!r}), codebound.__file__
z = torch.randn(512, 4, generator=torch.Generator().manual_seed(0))
rvq = Residual([VectorQuantizer(4, 16, seed=seed) for seed in range(2)])
rvq.init_(z)
rvq.update_(rvq(z))
quantize.save(rvq.eval(), "rvq.safetensors")
assert torch.equal(quantize.load("rvq.safetensors").encode(z), rvq.encode(z))
check_quantizer(FSQ([5, 5]), checks=["decode_inverts_encode", "forward_is_pure"])
counter = CodeUsage(16)
counter.update(rvq.encode(z)[..., 0])
assert 0 < float(counter.compute()["usage"]) <= 1
assert abs(converse.converse(8, 256).certified - 2.479) < 1e-3
recipes.encodec(1.5, dim=4)
"""
    done = published.python("-S", "-c", script, also=bare)
    assert done.returncode == 0, done.stderr


def test_the_command_without_the_extra_says_what_to_install(published: Published) -> None:
    script = (
        "import sys; sys.modules['typer'] = sys.modules['PIL'] = None; import runpy; "
        "sys.argv = ['codebound', '--help']; runpy.run_module('codebound', run_name='__main__')"
    )
    done = published.python("-c", script)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "Error: the command codebound needs an extra: pip install 'codebound[lab]' (not installed: PIL, typer)\n"
    )


def test_a_missing_extra_is_an_input_error_and_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    require_lab("this")
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(MissingExtra, match=r"this needs an extra: .*\(not installed: rich\)") as error:
        require_lab("this")
    assert isinstance(error.value, ValueError)
    assert isinstance(error.value, ImportError)


def test_the_command_works_from_the_wheel(published: Published) -> None:
    """A picture of the package, through the model of the package, to a file and back to its indices."""
    picture = published.site / "codebound" / "data" / "photos" / "coffee.jpg"
    for arguments in (["compress", str(picture), "--out", "coffee.cbd"], ["verify", "coffee.cbd"]):
        done = published.python("-m", "codebound", *arguments)
        assert done.returncode == 0, done.stderr


def test_an_import_loads_torch_and_little_else(published: Published) -> None:
    # The names of the package are imported when they are asked for, so ask for one.
    script = "from codebound import VectorQuantizer; import json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(published.python("-c", script).stdout))
    assert "torch" in loaded
    assert not loaded & (HEAVY | FOR_HELP)


def test_the_help_lists_all_commands_and_loads_what_it_shows(published: Published) -> None:
    script = (
        "import atexit, json, runpy, sys; sys.argv = ['codebound', '--help']; "
        "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr)); "
        "runpy.run_module('codebound', run_name='__main__')"
    )
    done = published.python("-c", script)
    for command in (
        "study", "limits", "train", "eval", "report", "runs", "compress", "decompress", "info", "verify", "fit-prior",
        "tokenize",
    ):  # fmt: skip
        assert re.search(rf"^│ {command} ", done.stdout, re.MULTILINE), command
    assert not set(json.loads(done.stderr)) & HEAVY
