"""Many files through one command: one that is refused doesn't end it, Ctrl-C says what was done, the rest is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from calling import Call
from PIL import Image
from typer.testing import CliRunner

from codebound import codec
from codebound.cli import app, batch
from codebound.cli.batch import Job, each
from codebound.codec import CodecError
from codebound.errors import InputError


def test_damaged_pictures_are_refusals_and_the_rest_is_done(
    call: Call, picture: Image.Image, tmp_path: Path
) -> None:
    for name in ("a", "z"):
        picture.save(tmp_path / f"{name}.png")
    picture.save(tmp_path / "b.avif")
    data = bytearray((tmp_path / "b.avif").read_bytes())
    at = data.index(b"mdat") + 8
    data[at : at + 40] = b"\xff" * 40
    (tmp_path / "b.avif").write_bytes(data)
    (tmp_path / "c.gif").write_bytes(b"GIF89a" + bytes(20))
    found = call("compress", tmp_path, "--json")
    assert found.exit_code == 2
    done = {Path(row["file"]).name: row.get("refused") for row in json.loads(found.stdout)}
    assert list(done) == ["a.cbd", "z.cbd", "b.avif", "c.gif"]
    assert all(name in done[name] for name in ("b.avif", "c.gif"))


def test_what_is_passed_over_is_said(call: Call, picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.png")
    for name in ("notes.txt", "._a.png", "clip.mp4"):
        (tmp_path / name).write_bytes(b"no picture")
    found = call("compress", tmp_path)
    assert found.exit_code == 0
    assert "passed over: clip.mp4, notes.txt" in found.stderr
    (tmp_path / "UP.CBD").write_bytes((tmp_path / "a.cbd").read_bytes())
    (tmp_path / "._a.cbd").write_bytes(b"macOS")
    rows = json.loads(call("verify", tmp_path, "--json").stdout)
    assert [Path(row["file"]).name for row in rows] == ["UP.CBD", "a.cbd"]


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_says_what_was_done(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    def one(job: Job) -> batch.Row:
        if job.source.name == "b":
            raise InputError("no")
        if job.source.name == "c":
            raise KeyboardInterrupt
        return {"file": str(job.source)}

    with pytest.raises(KeyboardInterrupt):
        each([Job(Path(name)) for name in "abcd"], one, "files", as_json)
    out, err = capsys.readouterr()
    assert "1 of 4 files are done" in err
    if as_json:
        assert json.loads(out) == [{"file": "a"}, {"file": "b", "refused": "b: no"}]
    else:
        assert "a" in out


def test_settings_are_refused_once_before_a_picture_is_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(b"no picture")
    for option, value in (("--quality", "0"), ("--quality", "101"), ("--trade", "0.5")):
        found = CliRunner().invoke(app, ["compress", str(tmp_path), option, value])
        assert isinstance(found.exception, CodecError | SystemExit)
        said = str(found.exception) + found.output
        assert said.count(f"{option[2:]} is {value}") == 1
        assert ".png" not in said


def test_default_is_the_model_in_the_package(picture: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture.save(path)
    found = CliRunner().invoke(app, ["compress", str(path), "--model", "default"])
    assert found.exit_code == 0, found.output
    data = (tmp_path / "a.cbd").read_bytes()
    assert codec.inspect(data).model == codec.default_model().digest().hex()


def test_bounds_and_background_on_the_command_line(call: Call, tmp_path: Path) -> None:
    rgba = np.zeros((40, 40, 4), dtype=np.uint8)
    rgba[:20] = 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert "max_pixels=1599" in call("compress", tmp_path / "a.png", "--max-pixels", "1599").stderr
    assert "background" in call("compress", tmp_path / "a.png", "--background", "nothing").stderr
    found = call("compress", tmp_path / "a.png", "--background", "black", "--json")
    assert json.loads(found.stdout)[0]["colours"] == "grey, on black"
    assert call("compress", tmp_path / "a.png", "--out", tmp_path / "white.cbd").exit_code == 0
    assert (tmp_path / "white.cbd").read_bytes() != (tmp_path / "a.cbd").read_bytes()
    assert codec.inspect((tmp_path / "a.cbd").read_bytes()).picture == (40, 40, True)
    for command in ("decompress", "verify"):
        assert "max_pixels=1,599" in call(command, tmp_path / "a.cbd", "--max-pixels", "1599").stderr
