"""Whole files or none."""

from pathlib import Path

import pytest

from codebound.files import replacing, write_text


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
