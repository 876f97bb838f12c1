"""Kinds of run, and the list of runs under a folder."""

import json
from pathlib import Path

import pytest
import yaml
from commands import call
from PIL import Image

from codebound.data.images import photographs
from codebound.errors import InputError
from codebound.runs.audio_tokenise import is_of_sound
from codebound.runs.folder import RunFolder
from codebound.runs.kinds import RunKind, kind_names, run_kind
from codebound.runs.run import run_states
from codebound.runs.settings import Settings

TINY = {
    "codebook_size": 16, "dim": 4, "width": 8, "depth": 1, "crop": 16, "steps": 4, "batch_size": 4, "held_out": 16,
    "init_tokens": 256, "log_every": 1, "evaluate_every": 2, "checkpoint_every": 4, "warmup": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, str]:
    """A finished run, made by naming its kind, and what its training said on stderr."""
    root = tmp_path_factory.mktemp("root")
    pictures = root / "pictures"
    pictures.mkdir()
    for i, photograph in enumerate(photographs("train")[:4]):
        Image.fromarray(photograph.pixels[100:140, 100:160]).save(pictures / f"{i}.png")
    file = root / "settings.yaml"
    file.write_text(yaml.safe_dump({**TINY, "data": f"folder:{pictures}"}))
    code, _, err = call("train", "tokenizer", str(file), "--out", str(root / "runs" / "tiny"))
    assert code == 0, err
    return root / "runs", err


@pytest.mark.parametrize("name", kind_names())
def test_every_kind_can_be_opened(name: str) -> None:
    kind = run_kind(name)
    assert isinstance(kind, RunKind)
    assert kind.name == name
    assert kind.settings.model_fields["kind"].default == name


def test_a_prior_is_of_what_its_subject_holds() -> None:
    """`default` is the tokenizer of pictures, though sound has a default, too."""
    assert run_kind("prior").for_subject("default").name == "prior"
    assert run_kind("prior").for_subject("default-speech").name == "sound-prior"
    assert not is_of_sound("default")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="accepted: tokenizer"):
        run_kind("poem")


@pytest.mark.slow
def test_a_run_records_its_kind_and_is_known_by_it(runs) -> None:
    folder = runs[0] / "tiny"
    assert yaml.safe_load((folder / "config.yaml").read_text())["kind"] == "tokenizer"
    assert call("report", str(folder))[0] == 0
    code, out, _ = call("eval", str(folder), "--json")
    assert code == 0
    final = json.loads((folder / "final_metrics.json").read_text())
    assert json.loads(out)["held_out"]["psnr"] == pytest.approx(final["held_out"]["psnr"], abs=1e-4)


def test_settings_of_another_kind_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("kind: poem\n")
    assert "holds settings of kind 'poem', not 'tokenizer'" in call("train", "tokenizer", str(file))[2]
    assert "kind 'poem' is unknown" in call("train", str(file))[2]


def test_without_a_terminal_there_is_a_line_an_evaluation(runs) -> None:
    lines = [line for line in runs[1].splitlines() if line.startswith("step ")]
    assert [line.split(":")[0] for line in lines] == [f"step {step} of 4" for step in (0, 2, 4)]
    assert "images/s" in lines[-1]
    assert "PSNR" in lines[-1]


def test_runs_are_listed_with_kind_state_and_score(runs) -> None:
    root = runs[0]
    RunFolder.open(root / "begun", "train", Settings(), {})
    RunFolder.open(root / "study", "init", Settings(), {}).finish("cell", {})
    (root / "broken").mkdir()
    (root / "broken" / "study.json").write_text("{")
    states = {state.folder.name: state for state in run_states(root)}
    assert (states["tiny"].kind, states["tiny"].state) == ("tokenizer", "finished, 4 steps")
    assert states["tiny"].score.endswith(" dB")
    assert states["begun"].state == "not begun"
    assert (states["study"].kind, states["study"].state) == ("init", "1 cell")
    assert "can't be read" in states["broken"].state
    code, out, _ = call("runs", str(root), "--json")
    assert code == 0
    assert len(json.loads(out)) == 4
    assert call("runs", str(root / "none"))[0] == 2


def test_runs_of_several_kinds_do_not_stand_side_by_side(runs, monkeypatch) -> None:
    monkeypatch.setattr("codebound.runs.run.kind_of", lambda folder: type("K", (), {"name": folder.name})())
    code, _, err = call("report", str(runs[0] / "tiny"), str(runs[0] / "begun"))
    assert code == 2
    assert "runs of one kind" in err
