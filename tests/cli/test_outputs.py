"""What commands write: nothing is lost, and links, pipes, modes and streams are what they were."""

import io
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from calling import Call
from PIL import Image

import codebound
from codebound import codec
from codebound.files import replacing, write_bytes


def said(text: str) -> str:
    return " ".join(text.split())


def test_the_readme_s_two_lines_leave_the_picture_as_it_is(call: Call, photo: Path) -> None:
    before = photo.read_bytes()
    assert call("compress", photo).exit_code == 0
    assert call("decompress", photo.with_suffix(".cbd")).exit_code == 0
    assert photo.read_bytes() == before
    assert sorted(p.name for p in photo.parent.iterdir()) == ["photo.cbd", "photo.cbd.png", "photo.png"]


@pytest.mark.parametrize("name", ["again.png", "again.JPG", "again.wav"])
def test_a_compressed_file_is_not_named_as_a_picture(call: Call, photo: Path, name: str) -> None:
    found = call("compress", photo, "--out", photo.with_name(name))
    assert found.exit_code == 2
    assert "what is written is a compressed file; .cbd is accepted" in said(found.stderr)
    assert not photo.with_name(name).exists()


def test_vectors_and_what_is_no_picture_are_told_from_a_fault(call: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.random.default_rng(0).standard_normal((40, 4)))
    assert call("compress-vectors", tmp_path / "z.npy", "--bits", 2).exit_code == 0
    found = call("decompress", tmp_path / "z.cbv")
    assert found.exit_code == 2
    assert "the file holds vectors: codebound decompress-vectors reads those" in said(found.stderr)
    (tmp_path / "fake.png").write_bytes(b"no picture")
    found = call("compress", tmp_path / "fake.png")
    assert found.exit_code == 2
    assert "not an image" in said(found.stderr)
    assert "BytesIO" not in found.stderr


def test_what_exists_is_replaced_with_force_alone(call: Call, photo: Path) -> None:
    goal = photo.with_suffix(".cbd")
    goal.write_bytes(b"mine")
    found = call("compress", photo)
    assert found.exit_code == 2
    assert f"{goal} exists; --force replaces it" in found.stderr
    assert goal.read_bytes() == b"mine"
    assert call("compress", photo, "--force").exit_code == 0
    again = photo.with_name("photo.cbd.png")
    again.write_bytes(b"mine, too")
    assert call("decompress", goal).exit_code == 2
    assert again.read_bytes() == b"mine, too"
    assert call("decompress", goal, "--force").exit_code == 0
    assert Image.open(again).size == (64, 48)


@pytest.mark.parametrize("way", ["same", "link", "second name"])
def test_an_input_is_never_replaced(call: Call, photo: Path, way: str) -> None:
    before, goal = photo.read_bytes(), photo.parent / "goal.png"
    if way == "same":
        goal = photo
    elif way == "link":
        goal.symlink_to(photo)
    else:
        goal.hardlink_to(photo)
    found = call("compress", photo, "--out", goal, "--force")
    assert found.exit_code == 2
    assert "is an input" in found.stderr
    assert photo.read_bytes() == before


def test_in_a_folder_what_exists_is_one_refusal(call: Call, picture: Image.Image, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        picture.save(tmp_path / f"{name}.png")
    (tmp_path / "b.cbd").write_bytes(b"mine")
    found = call("compress", tmp_path, "--json")
    assert found.exit_code == 2
    rows = json.loads(found.stdout)
    assert [Path(row["file"]).name for row in rows] == ["a.cbd", "c.cbd", "b.png"]
    assert "--force" in rows[-1]["refused"]
    assert (tmp_path / "b.cbd").read_bytes() == b"mine"


def test_pairs_are_named_and_can_be_kept(call: Call, picture: Image.Image, tmp_path: Path) -> None:
    for suffix in ("jpg", "png"):
        picture.save(tmp_path / f"a.{suffix}")
    found = call("compress", tmp_path)
    assert found.exit_code == 2
    assert all(text in said(found.stderr) for text in ("a.jpg", "a.png", "a.cbd", "--keep-suffix"))
    assert not list(tmp_path.glob("*.cbd"))
    assert call("compress", tmp_path, "--keep-suffix").exit_code == 0
    assert call("decompress", tmp_path).exit_code == 0
    made = {"a.jpg.cbd", "a.png.cbd", "a.jpg.cbd.png", "a.png.cbd.png"}
    assert {p.name for p in tmp_path.iterdir()} == {"a.jpg", "a.png"} | made


def test_two_results_for_one_file_through_a_link(call: Call, picture: Image.Image, tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture.save(tmp_path / f"{name}.png")
    (tmp_path / "b.cbd").symlink_to("a.cbd")
    assert "would both be written" in said(call("compress", tmp_path, "--force").stderr)


def test_a_file_that_came_meanwhile_is_kept(tmp_path: Path) -> None:
    goal = tmp_path / "a"

    def meanwhile() -> None:
        with replacing(goal, keep=True) as temporary:
            temporary.write_text("new")
            goal.write_text("another's")

    with pytest.raises(FileExistsError):
        meanwhile()
    assert goal.read_text() == "another's"
    assert list(tmp_path.iterdir()) == [goal]


@pytest.mark.parametrize("command", ["report", "study"])
def test_pages_replace_nothing_either(call: Call, command: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    arguments = [command, "claims"] if command == "study" else [command]
    found = call(*arguments, tmp_path, "--out", mine)
    assert found.exit_code == 2
    assert "--force" in found.stderr
    assert mine.read_text() == "mine"


def test_modes(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_bytes(tmp_path / "new", b"")
        (tmp_path / "old").touch()
        (tmp_path / "old").chmod(0o640)
        write_bytes(tmp_path / "old", b"new")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "old")]
    assert modes == [0o600, 0o640]


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("there", "missing"):
        link = tmp_path / f"to-{name}"
        link.symlink_to(Path("deep") / name)
        if name == "there":
            (tmp_path / "deep" / name).write_text("old")
        write_bytes(link, b"new")
        assert link.is_symlink()
        assert (tmp_path / "deep" / name).read_text() == "new"


def test_a_pipe_is_written_to_and_read_from(call: Call, photo: Path, tmp_path: Path) -> None:
    pipe, received = tmp_path / "pipe.cbd", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    assert call("compress", photo, "--out", pipe).exit_code == 0
    reader.join()
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert codec.inspect(received[0]).picture is not None

    writer = threading.Thread(target=lambda: pipe.write_bytes(photo.read_bytes()))
    writer.start()
    assert call("compress", pipe, "--out", tmp_path / "again.cbd").exit_code == 0
    writer.join()
    assert (tmp_path / "again.cbd").read_bytes() == received[0]


def test_a_device_stays(call: Call, photo: Path) -> None:
    assert call("compress", photo, "--out", "/dev/null").exit_code == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_from_stdin_to_stdout_and_back(call: Call, photo: Path) -> None:
    found = call("compress", "-", stdin=photo.read_bytes())
    assert found.exit_code == 0
    assert "bits_per_pixel" in found.stderr
    data = found.stdout_bytes
    assert call("compress", photo).exit_code == 0
    assert photo.with_suffix(".cbd").read_bytes() == data
    again = call("decompress", "-", "--json", stdin=data)
    assert Image.open(io.BytesIO(again.stdout_bytes)).size == (64, 48)
    assert json.loads(again.stderr)[0]["written as"] == "PNG"
    assert "48" in call("info", "-", stdin=data).stdout
    assert "right" in call("verify", "-", stdin=data).stdout
    assert call("compress", "-", "-", stdin=data).exit_code == 2
    assert "stdin" in call("decompress", "-", stdin=b"no").stderr


def test_out_says_what_is_written(call: Call, photo: Path, tmp_path: Path) -> None:
    call("compress", photo)
    source = tmp_path / "photo.cbd"
    for name, kind, words in [
        ("plain", "PNG", "PNG"),
        ("a.jpg", "JPEG", "JPEG, quality 95"),
        ("a.webp", "WEBP", "WebP, lossless"),
    ]:
        found = call("decompress", source, "--out", tmp_path / name, "--json")
        assert found.exit_code == 0
        assert json.loads(found.stdout)[0]["written as"] == words
        assert Image.open(tmp_path / name).format == kind
    found = call("decompress", source, "--out", tmp_path / "a.xyz")
    assert found.exit_code == 2
    assert ".png" in found.stderr


def test_indices_go_where_it_was_asked_for(call: Call, tmp_path: Path) -> None:
    grid = np.arange(30).reshape(5, 6, 1)
    source, two = tmp_path / "one.cbd", tmp_path / "two.cbd"
    source.write_bytes(codec.compress_indices(grid, (30,)))
    two.write_bytes(codec.compress_grids([grid, grid], (30,)))
    for wrong in ((source, "i.png"), (two, "i.npy")):
        found = call("decompress", wrong[0], "--out", tmp_path / wrong[1])
        assert found.exit_code == 2
        assert ".np" in found.stderr
    assert call("decompress", source, "--out", tmp_path / "plain").exit_code == 0
    assert np.array_equal(np.load(tmp_path / "plain"), grid)
    assert call("decompress", two, "--out", tmp_path / "i.npz").exit_code == 0
    assert len(np.load(tmp_path / "i.npz")) == 2
    assert not (tmp_path / "i.npy").exists()


def test_what_can_t_be_written_is_a_sentence(call: Call, photo: Path, tmp_path: Path) -> None:
    for goal in (Path("/proc/x/i.cbd"), tmp_path / ("n" * 300), photo / "below.cbd"):
        found = call("compress", photo, "--out", goal)
        assert found.exit_code == 2, goal
        assert "can't be written" in said(found.stderr)


def test_long_names(call: Call, picture: Image.Image, tmp_path: Path) -> None:
    long = tmp_path / ("n" * 245 + ".png")
    picture.save(long)
    assert call("compress", long).exit_code == 0
    assert long.with_suffix(".cbd").exists()


def test_what_is_no_picture_is_in_the_json(call: Call, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    found = call("compress", tmp_path / "text.png", "--json")
    assert found.exit_code == 2
    (row,) = json.loads(found.stdout)
    assert row["file"].endswith("text.png")
    assert "can't be read" in row["refused"]


def test_a_file_is_looked_into_without_pytorch(call: Call, photo: Path) -> None:
    call("compress", photo)
    code = (
        "import sys; from codebound.cli import app; app(['info', sys.argv[1]], standalone_mode=False); "
        "assert not {'torch', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(photo.with_suffix(".cbd"))]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "64×48" in found.stdout


def test_names_of_the_package_are_there_when_they_are_asked_for() -> None:
    code = "import codebound; codebound.VectorQuantizer; codebound.quantize.FSQ; codebound.search.nearest"
    code += "; from codebound import *; BSQ; check_quantizer; from codebound import codec; codec.Model; codec.pictures"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        codebound.nothing  # noqa: B018
