"""Whole files or none."""

from pathlib import Path

import pytest

from codebound.files import replacing, sweep, write_text


def test_an_error_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.txt"
    write_text(path, "old")

    def half_way() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_way()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_sweep_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    (tmp_path / "kept.json").touch()
    (tmp_path / ".hidden").touch()
    writing = replacing(tmp_path / "deep" / "half.json")
    left = writing.__enter__()  # and the process dies
    assert left.exists()
    sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == [".hidden", "deep", "kept.json"]
