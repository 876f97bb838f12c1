"""Where the cells of a study run: processes, and clusters that joblib reaches."""

import os
import subprocess
import sys
from collections.abc import Generator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from codebound.errors import InputError
from codebound.runs import parallel


def touch(path: Path) -> None:
    path.write_text(path.name)


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_item_is_worked_on_once(tmp_path: Path, jobs: int) -> None:
    paths = [tmp_path / str(i) for i in range(5)]
    assert len(list(parallel.each(touch, paths, jobs=jobs))) == 5
    assert all(path.read_text() == path.name for path in paths)


@pytest.mark.parametrize(
    ("jobs", "backend", "message"),
    [
        (0, "loky", "jobs must be"),
        (-2, "loky", "got -2"),
        (1, "threads", "'threads'; accepted: loky, dask, ray"),
    ],
)
def test_what_cannot_be_run_is_refused(jobs: int, backend: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parallel.check(jobs, backend)


@pytest.mark.parametrize(("backend", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_a_backend_that_is_not_installed_says_how_to_install_it(backend, package, monkeypatch) -> None:
    monkeypatch.setattr(parallel, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=rf"needs the package {package}.*pip install '{backend}"):
        parallel.check(1, backend)


SCRIPT = """
from pathlib import Path
from test_parallel import touch
from codebound.runs import parallel
if __name__ == "__main__":
    parallel.check(2, {backend!r})
    paths = [Path({out!r}) / str(i) for i in range(5)]
    assert len(list(parallel.each(touch, paths, jobs=2, backend={backend!r}))) == 5
"""


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_a_local_cluster(backend: str, package: str, tmp_path: Path) -> None:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    script = tmp_path / "main.py"
    script.write_text(SCRIPT.format(backend=backend, out=str(tmp_path)))
    # Workers find this module as the script does.
    known = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": known}
    subprocess.run([sys.executable, str(script)], check=True, timeout=300, env=environment)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit()) == list("01234")


class RayInThisProcess:
    """What `parallel` asks of ray, for a cluster that is connected already: tasks are done when they are waited for."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.cancelled: list[object] = []

    def is_initialized(self) -> bool:
        return True

    def remote(self, work):
        return SimpleNamespace(remote=lambda *given: partial(work, *given))

    def wait(self, tasks):
        return tasks[:1], tasks[1:]

    def get(self, tasks) -> None:
        for task in tasks:
            task()
            self.done.append(task.args[-1])

    def cancel(self, task) -> None:
        self.cancelled.append(task.args[-1])


@pytest.mark.parametrize("how", ["error", "closed", "whole"])
def test_after_an_error_nothing_goes_on_in_a_cluster_that_stays(how, monkeypatch, tmp_path: Path) -> None:
    ray = RayInThisProcess()
    monkeypatch.setitem(sys.modules, "ray", ray)
    paths = [tmp_path / name for name in ("0", "1", "none/2" if how == "error" else "2", "3", "4")]
    steps = parallel.each(touch, paths, jobs=2, backend="ray")
    if how == "error":
        with pytest.raises(FileNotFoundError):
            list(steps)
    elif how == "closed":
        assert isinstance(steps, Generator)
        next(steps), next(steps)
        steps.close()
    else:
        list(steps)
    assert ray.done == (paths if how == "whole" else paths[:2])
    # A task that failed needs none; one that was not waited for yet does.
    assert ray.cancelled == {"error": paths[3:], "closed": paths[2:], "whole": []}[how]
