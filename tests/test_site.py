"""The site's reference: every public name has a docstring and a place where it is in use; the site builds."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def tool(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "site"))
    return importlib.import_module(name)


def test_every_public_name_has_a_docstring(monkeypatch):
    names = tool("names", monkeypatch)
    for module, found in names.every().items():
        for name in found:
            assert getattr(importlib.import_module(module), name).__doc__, f"{module}.{name}"


def test_every_public_name_is_in_use_on_a_page(monkeypatch):
    names = tool("names", monkeypatch)
    used = names.uses()
    missing = [
        f"{module}.{name}" for module, found in names.every().items() for name in found if name not in used
    ]
    assert not missing, "no page's code uses these; docs/reference/examples.md is the place"


def test_names_are_found_in_code_not_in_words(monkeypatch):
    names = tool("names", monkeypatch)
    assert names._identifiers("# Lattice\nx = init.KMeans()") >= {"KMeans", "init"}
    assert "Lattice" not in names._identifiers("# Lattice\nx = 1")


def test_the_command_page_has_every_command(monkeypatch):
    command_page = tool("command_page", monkeypatch)
    page = command_page.page()
    for name in ("train", "limits gaussian", "study init", "eval samples", "compress"):
        assert f"## codebound {name}\n" in page
    assert "| `--codebook-size" in page


def test_what_chapters_printed_is_of_their_code(monkeypatch):
    """Code that was changed after `make course` is refused, and every figure has a caption."""
    chapters = tool("chapters", monkeypatch)
    assert len(chapters.sources()) == 17
    for path in chapters.sources():
        captions = [cell.caption for cell in chapters.cells(path) if cell.is_code]
        for output, caption in zip(chapters.stored(path), captions, strict=True):
            assert (output["figure"] is None) == (caption is None)
            assert output["figure"] is None or (chapters.OUTPUTS / output["figure"]).exists()
    # One cell that prints something else, and one that isn't there any more.
    first, *others = [cell for cell in chapters.cells(path) if cell.is_code]
    other = chapters.Cell(first.text + "\nprint(1)", is_code=True)
    for changed in ([other, *others], others):
        monkeypatch.setattr(chapters, "cells", lambda _, changed=changed: changed)
        with pytest.raises(SystemExit, match="run `make course`"):
            chapters.stored(path)


@pytest.mark.slow  # needs the extra `docs`, as `make test-slow` has it
def test_the_font_of_formulas_has_every_sign(monkeypatch):
    from fontTools import ttLib
    from latex2mathml import converter

    math_font, chapters = (tool(name, monkeypatch) for name in ("math_font", "chapters"))
    font = ttLib.TTFont(math_font.FONT)
    assert "MATH" in font
    words = (cell.text for path in chapters.sources() for cell in chapters.cells(path) if not cell.is_code)
    formulas = [
        a or b for text in words for a, b in re.findall(r"\$\$(.+?)\$\$|\$([^$]+)\$", text, flags=re.DOTALL)
    ]
    assert len(formulas) > 200
    for formula in formulas:
        missing = math_font.drawn(converter.convert(formula)) - font.getBestCmap().keys()
        assert not missing, (formula, [chr(code) for code in missing])


def test_a_kept_run_is_a_page(monkeypatch):
    kept_runs = tool("kept_runs", monkeypatch)
    pages = dict(kept_runs.files())
    assert len(pages) == len(list(kept_runs.RUNS.glob("*.json")))
    assert "../../claims.md#is-a-codebook-initialisation-good" in pages["results/runs/init.md"]
    (run, *_) = kept_runs.kept.read(kept_runs.RUNS)
    rows = (
        kept_runs.KeptRow(levels={"arm": "one"}, seeds=3, figures={"psnr": (20.5, 20.1, 20.9)}),
        kept_runs.KeptRow(levels={"arm": "two", "size": 8}, seeds=1, figures={"usage": (0.5, None, None)}),
    )
    page = kept_runs.page(
        run.model_copy(update={"rows": rows, "metrics": {"psnr": "PSNR, dB"}, "settings": {"a": 1}})
    )
    assert "| arm | size | seeds | PSNR, dB | usage |" in page
    assert "| one | – | 3 | 20.50 [20.10, 20.90] | – |" in page
    assert "| two | 8 | 1 | – | 0.500 |" in page
    assert "a: 1" in page


@pytest.mark.slow
def test_every_chapter_runs(monkeypatch):
    runner = tool("run_course", monkeypatch)
    for path in tool("chapters", monkeypatch).sources():
        outputs, figures = runner.run(path)
        assert outputs
        assert figures


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path):
    done = subprocess.run(
        [sys.executable, "tools/site/build.py", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    assert (tmp_path / "versions.json").exists()
