"""The README's code runs, and the figures of its commands are the commands'."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codebound.cli import app

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("session", blocks("console"))
def test_commands_print_what_is_shown(session: str) -> None:
    command, shown = session.removeprefix("$ codebound ").split("\n", 1)
    result = CliRunner().invoke(app, shlex.split(command))
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    # "2.479…" stands for every number that begins so.
    expected = json.loads(re.sub(r"([\d.]+)…", r'"\1…"', shown))
    assert printed.keys() == expected.keys()
    for key, value in expected.items():
        if value is None:
            assert printed[key] is None
        elif isinstance(value, str):
            assert str(printed[key]).startswith(value.removesuffix("…")), key
        else:
            assert printed[key] == pytest.approx(value, rel=1e-9), key


def test_there_is_something_to_test() -> None:
    assert blocks("python")
    assert blocks("console")
