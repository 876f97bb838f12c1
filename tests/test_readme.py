"""The README is short, its code runs, and its figures are those of its commands."""

import json
import re
import shlex
from pathlib import Path

import pytest
import typer

from codebound.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ASSETS = ROOT / "docs" / "assets"


def test_the_code_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})


def test_it_is_short() -> None:
    assert len(README.split()) < 950


def test_the_picture_has_the_figures_of_its_command() -> None:
    for figure in json.loads((ASSETS / "reconstructions.json").read_text(encoding="utf-8"))["figures"]:
        row = next(
            line for line in README.splitlines() if f"{figure['bits_per_pixel']:.2f}" in line and "| " in line
        )
        assert f"{figure['psnr']:.2f} dB" in row, figure


def test_the_chart_is_of_the_measured_points() -> None:
    plane = json.loads((ROOT / "docs" / "results" / "plane.json").read_text(encoding="utf-8"))
    by_code = {point["code"]: point["db"] for point in plane["points"]}
    converse = dict(map(tuple, plane["limits"]["converse"]))
    quoted = re.search(
        r"256 words\s+stands\s+(\S+)\s+dB.*?below\s+(\S+),.*?is\s+at\s+(\S+)\s+dB", README, flags=re.DOTALL
    )
    assert quoted
    trained, least, trellis = map(float, quoted.groups())
    assert trained == pytest.approx(by_code["VectorQuantizer(8, 256)"], abs=0.005)
    assert least == pytest.approx(converse[1.0], abs=0.005)
    assert trellis == pytest.approx(by_code["Trellis(8, rate=8, states=256)"], abs=0.005)
    for look in ("light", "dark"):
        assert (ASSETS / f"plane-{look}.svg").read_text(encoding="utf-8").count("<use") >= len(
            plane["points"]
        )


def test_its_commands_have_all_that_they_need() -> None:
    """Commands and options are there, none that is needed is missing; they are parsed, not run."""
    commands = re.findall(r"^codebound ([^#\n]+)", README, flags=re.MULTILINE)
    assert len(commands) >= 4
    for line in commands:
        words, command = shlex.split(line), typer.main.get_command(app)
        # A name that is no command is an argument of the group's own (`train RUN`).
        while hasattr(command, "commands") and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        command.make_context("codebound", words)


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r'(?:\]\(|src(?:set)?=")(?!https?:)([^)"#]+)', README)
    assert len(links) > 15
    for link in links:
        assert (ROOT / link).exists(), link
