"""The code of the documentation's pages runs, and prints what is shown under it."""

import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codebound.cli import app
from codebound.reporting.claims import load_claims

DOCS = Path(__file__).parent.parent / "docs"
# A block of Python, and the block of text right after it, if there is one: what it prints.
BLOCKS = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", flags=re.DOTALL | re.MULTILINE)
# Of extras, or with processes of their own.
SLOW = {"lightning", "trainer", "transformers", "clusters"}
# Pages whose code is a script, as it starts processes; with the packages that its arguments need.
SCRIPTS = {"ddp": {"": "torch"}, "clusters": {"dask": "distributed", "ray": "ray"}}
NUMBER = re.compile(r"-?\d+\.?\d*")


def pages() -> list[Path]:
    return [page for page in sorted(DOCS.rglob("*.md")) if BLOCKS.search(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page.stem in SLOW else [])
        for page in pages()
        if page.stem not in SCRIPTS
    ],
    ids=lambda page: page.name,
)
def test_python_blocks_run_and_print_what_is_shown(page: Path) -> None:
    """In one namespace per page; words as shown, numbers to 2 % or a unit of the last digit."""
    namespace: dict[str, object] = {}
    for code, shown in BLOCKS.findall(page.read_text(encoding="utf-8")):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, page.name, "exec"), namespace)
        if shown:
            assert_alike(printed.getvalue(), shown)


@pytest.mark.parametrize(
    ("page", "argument", "package"),
    [
        pytest.param(page, argument, package, marks=[pytest.mark.slow] if page.stem in SLOW else [])
        for page in pages()
        for argument, package in SCRIPTS.get(page.stem, {}).items()
    ],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_scripts_run_and_print_what_is_shown(page: Path, argument: str, package: str, tmp_path: Path) -> None:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    ((code, shown),) = BLOCKS.findall(page.read_text(encoding="utf-8"))
    (script := tmp_path / "script.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script, *argument.split()], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert_alike(done.stdout, shown)


def assert_alike(printed: str, shown: str) -> None:
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", shown), printed
    for found, expected in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
        unit = 10.0 ** -len(expected.partition(".")[2])
        assert float(found) == pytest.approx(float(expected), rel=0.02, abs=1.001 * unit), printed


def sessions() -> list[tuple[str, str]]:
    """(page, command and what it prints), of the README and of all pages."""
    pages = [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]
    return [
        (page.name, session)
        for page in pages
        for session in re.findall(
            r"^```console\n(.*?)^```", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE
        )
    ]


@pytest.mark.parametrize(("page", "session"), sessions())
def test_commands_print_what_is_shown(page: str, session: str) -> None:
    """A command with --json; "2.479…" stands for every number that begins so."""
    command, shown = session.removeprefix("$ codebound ").split("\n", 1)
    result = CliRunner().invoke(app, shlex.split(command))
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    expected = json.loads(re.sub(r"([\d.]+)…", r'"\1…"', shown))
    assert printed.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, str):
            assert str(printed[key]).startswith(value.removesuffix("…")), key
        else:
            assert printed[key] == (value if value is None else pytest.approx(value, rel=1e-9)), key


def test_there_is_something_to_test() -> None:
    assert len(pages()) > 10
    assert len(sessions()) >= 2


@pytest.mark.parametrize("printed", ["usage 0.95, 900\n", "usage 0.99, 880\n", "use 0.99, 900\n"])
def test_a_difference_is_noticed(printed: str) -> None:
    assert_alike("usage 0.98, 909\n", "usage 0.99, 900\n")
    with pytest.raises(AssertionError):
        assert_alike(printed, "usage 0.99, 900\n")


def test_the_claims_page_is_that_of_the_kept_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written by python tools/write_results.py [RUN …], never by hand."""
    monkeypatch.chdir(DOCS.parent)
    page = (DOCS / "claims.md").read_text(encoding="utf-8")
    command = re.search(r"`codebound (study claims docs/results/runs) --out docs/claims.md`", page)
    assert command
    written = CliRunner().invoke(app, shlex.split(command[1])).stdout
    assert written.replace(command[1], command[1] + " --out docs/claims.md").rstrip() == page.rstrip()


def test_the_claims_page_lists_every_claim() -> None:
    page = (DOCS / "claims.md").read_text(encoding="utf-8")
    ledgers = sorted((DOCS.parent / "src/codebound/studies").glob("*/claims.yaml"))
    assert ledgers
    for claim in (claim for file in ledgers for claim in load_claims(file)):
        assert f"| {claim.statement} |" in page, claim.id
        assert f"Source: {claim.source}." in page, claim.id
