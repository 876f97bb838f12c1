"""The engine of the initialisation study: cells, resumption, determinism, refusals."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from codebound import config
from codebound.errors import InputError
from codebound.runs.folder import RunFolder, read_study
from codebound.studies.initialisation import sources, study
from codebound.studies.initialisation.cell import Cell, cells, initial_codebooks
from codebound.studies.initialisation.settings import Settings

SMALL = [
    "arms=[uniform, kmeans, best]", "tuned_arms=[kmeans]", "codebook_size=16", "dim=4", "ambient_dim=10",
    "steps=60", "evaluate_every=20", "train_samples=600", "fresh_samples=400", "final_samples=2000",
    "init_batch=100", "batch_size=32", "seeds=2",
]  # fmt: skip


def small(*overrides: str) -> Settings:
    return config.with_overrides(Settings(), [*SMALL, "sources=[isotropic, anisotropic]", *overrides])


def csvs(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.csv"))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("init") / "run"
    study.run(out, small())
    return out


def test_every_cell_leaves_its_files(finished: Path) -> None:
    assert len(list((finished / "cells").glob("*.json"))) == 4
    assert len(csvs(finished)) == 2 * 2 * (3 + 1 + 1)
    place = finished / "runs" / "isotropic" / "kmeans" / "adam" / "seed-42"
    rows = list(csv.DictReader((place / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["0", "20", "40", "60"]
    books = load_file(place / "codebook.safetensors")
    assert books["final"].shape == (16, 4)
    assert not torch.equal(books["initial"], books["final"])
    cell = json.loads((finished / "cells" / "isotropic-seed-42.json").read_text())
    assert cell["fresh_samples"] == 2000
    assert cell["limits"]["converse"] > cell["limits"]["shannon"]
    for run in cell["runs"]:
        assert run["final"]["fresh_distortion"] > cell["limits"]["converse"]
    assert not list(finished.rglob(".*.csv*"))


def test_the_first_row_is_the_initial_codebook(finished: Path) -> None:
    settings, cell = small(), Cell("anisotropic", 43)
    latents = sources.draw(settings, *cell)
    start = initial_codebooks(settings, cell, latents.train)["kmeans"]
    place = finished / "runs" / "anisotropic" / "kmeans"
    for optimizer in ("adam", "adam_cosine", "ema"):
        assert torch.equal(
            load_file(place / optimizer / "seed-43" / "codebook.safetensors")["initial"], start
        )
        first = next(csv.DictReader((place / optimizer / "seed-43" / "metrics.csv").open()))
        direct = (latents.train[:, None] - start).square().sum(-1).amin(1).mean()
        assert float(first["train_distortion"]) == pytest.approx(float(direct), rel=1e-5)


def test_a_second_run_in_parallel_is_bit_identical(finished: Path, tmp_path: Path) -> None:
    study.run(tmp_path / "again", small(), jobs=2)
    assert csvs(tmp_path / "again") == csvs(finished)


def test_a_resumed_run_skips_what_is_finished_and_ends_the_same(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "resumed"
    study.run(out, small())
    kept, lost = out / "cells" / "isotropic-seed-42.json", out / "cells" / "anisotropic-seed-43.json"
    lost.unlink()
    for path in (out / "runs" / "anisotropic").rglob("seed-43/metrics.csv"):
        path.unlink()
    before, seen = kept.stat().st_mtime_ns, []
    study.run(out, small(), progress=lambda done, of: seen.append((done, of)))
    assert seen == [(3, 4), (4, 4)]
    assert kept.stat().st_mtime_ns == before
    assert csvs(out) == csvs(finished)


def test_a_killed_process_leaves_a_run_that_resumes(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "codebound", "study", "init", "--out", str(out), "--jobs", "1"]
    for item in [*SMALL, "sources=[isotropic, anisotropic]"]:
        command += ["--set", item]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(out.glob("cells/*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(out.glob("cells/*.json"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    study.run(out, small())
    assert csvs(out) == csvs(finished)


def test_ctrl_c_keeps_what_is_finished_and_exits_130(tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    command = [sys.executable, "-m", "codebound", "study", "init", "--out", str(out), "--jobs", "2"]
    for item in [*SMALL, "sources=[isotropic, anisotropic]", "seeds=40", "steps=2000"]:
        command += ["--set", item]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("cells/*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(out.glob("cells/*.json"))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 130, errors.decode()
    assert b"What is finished stays" in errors
    assert b"Traceback" not in errors


def test_other_settings_in_the_same_folder_are_refused_by_name(finished: Path) -> None:
    with pytest.raises(InputError, match=r"steps: 60 → 61"):
        study.run(finished, small("steps=61"))


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="other files"):
        study.run(tmp_path, small())


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(InputError, match="--out"):
        study.run(tmp_path / "out", small())


def test_an_unwritable_folder_is_refused(tmp_path: Path, monkeypatch) -> None:
    # Root may write anywhere, so the permission itself is what the test takes away.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="not writable"):
        study.run(tmp_path / "out", small())


def test_a_seed_redraws_everything_and_arms_share_it() -> None:
    settings = small()
    first, second = (sources.draw(settings, "isotropic", seed) for seed in (42, 43))
    assert not torch.equal(first.train, second.train)
    assert torch.equal(first.train, sources.draw(settings, "isotropic", 42).train)
    assert cells(settings)[:2] == [Cell("isotropic", 42), Cell("anisotropic", 42)]


def user_settings(path: Path, *overrides: str) -> Settings:
    values = {"data": str(path), "sources": ("data",)}
    return config.with_overrides(config.build(Settings, values), [*SMALL, *overrides])


def test_the_users_vectors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "z.npy", rng.standard_normal((1000, 6)).astype("f4") @ rng.standard_normal((6, 6)))
    study.run(tmp_path / "out", user_settings(tmp_path / "z.npy"))
    cell = json.loads((tmp_path / "out" / "cells" / "data-seed-42.json").read_text())
    limits = cell["limits"]
    assert limits["shannon_low"] <= limits["shannon"] <= limits["shannon_high"]
    assert limits["converse"] is None
    assert cell["train_samples"] == 600
    assert cell["fresh_samples"] == 200


def test_other_data_under_the_same_name_are_refused(tmp_path: Path) -> None:
    rng, path, out = np.random.default_rng(0), tmp_path / "z.npy", tmp_path / "out"
    np.save(path, rng.standard_normal((1000, 6)).astype("f4"))
    study.run(out, user_settings(path, "seeds=1"))
    sources._load.cache_clear()
    np.save(path, rng.standard_normal((1000, 6)).astype("f4"))
    with pytest.raises(InputError, match="data: "):
        study.run(out, user_settings(path, "seeds=1"))
    sources._load.cache_clear()


def test_another_version_does_not_resume(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "old"
    shutil.copytree(finished, out)
    text = (out / "study.json").read_text()
    (out / "study.json").write_text(text.replace(f'"torch": "{version("torch")}"', '"torch": "1.0"'))
    with pytest.raises(InputError, match=r"torch: '1\.0' →"):
        study.run(out, small())


def test_a_folder_takes_further_seeds_but_no_other_settings(tmp_path: Path) -> None:
    folder = RunFolder.open(tmp_path / "out", "init", Settings(seeds=1))
    folder.finish("a cell", {"x": 1})
    grown = RunFolder.open(tmp_path / "out", "init", Settings(seeds=3))
    assert grown.finished("a cell")
    assert config.from_yaml(Settings, grown.path / "config.yaml").seeds == 3
    fingerprint = read_study(grown.path)["fingerprint"]
    assert fingerprint == config.fingerprint(Settings(seeds=3))
    with pytest.raises(InputError, match=r"other settings \(steps: \d+ → 7\)"):
        RunFolder.open(tmp_path / "out", "init", Settings(seeds=3, steps=7))
    assert read_study(grown.path)["fingerprint"] == fingerprint


@pytest.mark.parametrize("jobs", [0, -2])
def test_a_number_of_processes_that_is_none_is_refused(jobs: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="jobs"):
        study.run(tmp_path / "out", small(), jobs=jobs)


@pytest.mark.parametrize(
    ("values", "overrides", "message"),
    [
        (np.full((1000, 6), np.nan), [], r"1000 .*row"),
        (np.random.default_rng(0).standard_normal((15, 6)), [], r"15 rows"),
        (
            np.random.default_rng(0).standard_normal((100, 6)),
            [],
            r"z\.npy has 100 rows, 20 of them held out; .* needs 40 held out, some 200 rows",
        ),
        (np.random.default_rng(0).standard_normal((1000, 3)), [], r"dim=4 .* 3 columns"),
        (np.random.default_rng(0).standard_normal((1000, 1)) * np.ones(6), [], r"singular: 1 direction"),
        (np.random.default_rng(0).standard_normal((1000, 6)), ["codebook_size=1"], r"codebook_size=1"),
        (np.random.default_rng(0).integers(0, 2, (1000, 6)), ["dim=6"], r"discrete|repeats|distinct"),
    ],
)
def test_data_that_cannot_be_used_is_refused_before_anything_is_written(
    tmp_path: Path, values: np.ndarray, overrides: list[str], message: str
) -> None:
    np.save(tmp_path / "z.npy", values.astype("f4"))
    with pytest.raises(InputError, match=message):
        study.run(tmp_path / "out", user_settings(tmp_path / "z.npy", *overrides))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_the_study_finds(tmp_path: Path) -> None:
    """The issue's own bars, at the documents' settings and 8 seeds (minutes)."""
    arms = "arms=[kmeans, sample_lloyd, rd_gaussian, water_filling, finite, synthetic, lattice, best]"
    settings = config.with_overrides(Settings(), ["sources=[isotropic, anisotropic]", arms, "tuned_arms=[]"])
    study.run(tmp_path, settings, jobs=-1)
    cells = [json.loads(path.read_text()) for path in sorted((tmp_path / "cells").iterdir())]

    def mean(source: str, arm: str, when: str, metric: str = "fresh_distortion") -> float:
        runs = [run for cell in cells if cell["source"] == source for run in cell["runs"]]
        return float(np.mean([run[when][metric] for run in runs if run["arm"] == arm]))

    assert mean("anisotropic", "water_filling", "initial") < 1.03 * mean("anisotropic", "kmeans", "initial")
    assert mean("anisotropic", "water_filling", "initial", "fresh_dead") < 1
    assert mean("anisotropic", "water_filling", "final") < mean("anisotropic", "kmeans", "final")
    assert mean("anisotropic", "rd_gaussian", "initial") > 1.5 * mean("anisotropic", "kmeans", "initial")
    assert mean("anisotropic", "rd_gaussian", "final", "fresh_dead") > 30
    for source in settings.sources:
        candidates = ("kmeans", "sample_lloyd", "synthetic", "lattice", "finite")
        best = min(mean(source, arm, "initial") for arm in candidates)
        assert mean(source, "best", "initial") < 1.01 * best
    for cell in cells:
        for run in cell["runs"]:
            floor = cell["limits"]["converse"] or cell["limits"]["shannon"]
            assert min(run[when]["fresh_distortion"] for when in ("initial", "final")) > floor
