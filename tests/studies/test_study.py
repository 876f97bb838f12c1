"""The cells of the initialisation study: what they leave, what they draw, the user's own data, refusals."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from codebound import config
from codebound.cli import app
from codebound.errors import InputError
from codebound.reporting.tables import cell_html
from codebound.studies.framework.results import StudyRun, load
from codebound.studies.framework.run import run
from codebound.studies.initialisation import sources
from codebound.studies.initialisation.cell import initial_codebooks, measure
from codebound.studies.initialisation.sections import source_table
from codebound.studies.initialisation.settings import Settings
from codebound.studies.initialisation.study import STUDY
from codebound.studies.initialisation.summary import summarise

SMALL = [
    "arms=[uniform, kmeans, best]", "tuned_arms=[kmeans]", "codebook_size=16",
    "steps=60", "evaluate_every=20", "train_samples=600", "fresh_samples=400", "final_samples=2000",
    "init_batch=100", "batch_size=32", "seeds=2",
]  # fmt: skip


def small(*overrides: str) -> Settings:
    dims = ["dim=4", "ambient_dim=10", "sources=[isotropic, anisotropic]"]
    return config.with_overrides(Settings(), [*SMALL, *dims, *overrides])


def users(path: Path, *overrides: str) -> Settings:
    return STUDY.configure([], {"data": str(path)}, [*SMALL, *overrides])


@pytest.fixture(autouse=True)
def _nothing_read_before() -> None:
    sources._read.cache_clear()
    sources._own_estimate.cache_clear()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("init") / "run"
    run(STUDY, out, small())
    return out


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> StudyRun[Settings]:
    """A run on vectors of six dimensions, at the six."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    np.save(folder / "z.npy", (3 * rng.standard_normal((1000, 6)) @ rng.standard_normal((6, 6))).astype("f4"))
    run(STUDY, folder / "out", users(folder / "z.npy"))
    return load(STUDY, folder / "out")


def test_every_cell_leaves_its_files(finished: Path) -> None:
    assert len(list((finished / "cells").glob("*.json"))) == 4
    assert len(list(finished.rglob("metrics.csv"))) == 2 * 2 * (3 + 1 + 1)
    place = finished / "runs" / "isotropic" / "kmeans" / "adam" / "seed-42"
    rows = list(csv.DictReader((place / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["0", "20", "40", "60"]
    books = load_file(place / "codebook.safetensors")
    assert books["final"].shape == (16, 4)
    assert not torch.equal(books["initial"], books["final"])
    cell = json.loads((finished / "cells" / "isotropic-seed-42.json").read_text())
    assert cell["fresh_samples"] == 2000
    assert cell["limits"]["converse"] > cell["limits"]["shannon"]
    for one in cell["runs"]:
        assert one["final"]["fresh_distortion"] > cell["limits"]["converse"]


def test_the_first_row_is_the_initial_codebook(finished: Path) -> None:
    settings = small()
    latents = sources.draw(settings, "anisotropic", 43)
    start = initial_codebooks(settings, "anisotropic", 43, latents.train)["kmeans"]
    place = finished / "runs" / "anisotropic" / "kmeans"
    for optimizer in ("adam", "adam_cosine", "ema"):
        stored = load_file(place / optimizer / "seed-43" / "codebook.safetensors")
        assert torch.equal(stored["initial"], start)
        first = next(csv.DictReader((place / optimizer / "seed-43" / "metrics.csv").open()))
        direct = (latents.train[:, None] - start).square().sum(-1).amin(1).mean()
        assert float(first["train_distortion"]) == pytest.approx(float(direct), rel=1e-5)


def test_a_cell_is_a_function_of_the_settings_and_itself(finished: Path, tmp_path: Path) -> None:
    again = measure(small("seeds=1"), "anisotropic", 43)
    kept = load(STUDY, finished).cells["anisotropic-seed-43"]
    assert all(kept[name] == value for name, value in again.content.items())
    for name, write in again.files.items():
        if name.endswith(".csv"):
            write(tmp_path / "again.csv")
            assert (tmp_path / "again.csv").read_bytes() == (finished / name).read_bytes()


def test_a_seed_redraws_everything_and_arms_share_it() -> None:
    settings = small()
    first, second = (sources.draw(settings, "isotropic", seed) for seed in (42, 43))
    assert not torch.equal(first.train, second.train)
    assert torch.equal(first.train, sources.draw(settings, "isotropic", 42).train)
    names = [cell.name for cell in STUDY.cells(settings)]
    assert names[:2] == ["isotropic-seed-42", "anisotropic-seed-42"], "whole seeds first"


def test_own_data_have_the_limits_that_limits_data_prints(mine: StudyRun[Settings]) -> None:
    assert mine.settings.dim == 6
    command = ["limits", "data", str(mine.settings.data), "--codebook-size", "16", "--json"]
    printed = json.loads(CliRunner().invoke(app, command).stdout)
    for cell in mine.cells.values():
        for name in ("shannon", "shannon_low", "shannon_high", "gaussian_reference"):
            assert cell["limits"][name] == printed[name]
        assert cell["limits"]["converse"] is None
        assert (cell["train_samples"], cell["fresh_samples"]) == (600, 200)
        ends = {one["arm"]: one["final"]["fresh_distortion"] for one in cell["runs"]}
        assert 0.7 * printed["kmeans"] < ends["kmeans"] < 2 * printed["kmeans"], "in the data's own units"


def test_the_line_of_code_runs_on_the_data(mine: StudyRun[Settings], tmp_path: Path) -> None:
    run(STUDY, tmp_path, users(Path(str(mine.settings.data)), "dim=4", "seeds=1"))
    z = torch.from_numpy(np.load(str(mine.settings.data)))
    for one in (mine, load(STUDY, tmp_path)):
        line = one.content.results["recommendation"][1].removeprefix("In code: ")
        space: dict[str, object] = {}
        exec(line, space)
        quantizer = space["quantizer"]
        quantizer.init_(z)
        result = quantizer(z)
        assert result.z_q.shape == z.shape
        assert int(result.indices.max()) < 16


def test_fewer_dimensions_are_told_at_the_top_in_the_table_and_in_the_help(
    mine: StudyRun[Settings], tmp_path: Path
) -> None:
    run(STUDY, tmp_path, users(Path(str(mine.settings.data)), "dim=4", "seeds=1"))
    fewer = load(STUDY, tmp_path)
    assert fewer.content.answer.startswith("Your data (z.npy, 6 → 4 dimensions).")
    assert "6 → 4" in source_table(summarise(fewer), "data").title
    assert "→" not in mine.content.answer
    help_text = CliRunner().invoke(app, ["study", "init", "--help"], env={"COLUMNS": "200"}).stdout
    assert "16 → 8" in help_text


def test_claims_about_other_sources_are_not_listed(mine: StudyRun[Settings], finished: Path) -> None:
    assert mine.verdicts == []
    assert len({verdict.claim.id for verdict in load(STUDY, finished).verdicts}) == 25


def test_a_useless_gap_is_not_known(tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.random.default_rng(0).standard_normal((60, 6)).astype("f4"))
    run(STUDY, tmp_path / "out", users(tmp_path / "z.npy", "init_batch=40", "train_samples=48"))
    one = load(STUDY, tmp_path / "out")
    table = source_table(summarise(one), "data")
    place = [column.title for column in table.columns].index("dB above bound")
    cells = [str(cell_html(table.columns[place], row[place])) for row in table.rows]
    assert any(cell.startswith("not known<small>the interval is over three times") for cell in cells)
    assert any("not known" in sentence for sentence in one.content.sentences)


def test_the_axis_of_the_vectors_is_asked_for(tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.random.default_rng(0).standard_normal((20, 6, 8, 8)).astype("f4"))
    with pytest.raises(InputError, match=r"shape \(20, 6, 8, 8\) has 4 axes.*--axis .*1 for vectors of 6"):
        users(tmp_path / "z.npy")
    settings = STUDY.configure([], {"data": str(tmp_path / "z.npy"), "axis": 1}, SMALL)
    assert settings.dim == 6
    assert len(sources.draw(settings, "data", 42).train) == 600


def test_other_data_under_the_same_name_are_refused(tmp_path: Path) -> None:
    rng, path, out = np.random.default_rng(0), tmp_path / "z.npy", tmp_path / "out"
    np.save(path, rng.standard_normal((1000, 6)).astype("f4"))
    run(STUDY, out, users(path, "seeds=1"))
    sources._read.cache_clear()
    np.save(path, rng.standard_normal((1000, 6)).astype("f4"))
    with pytest.raises(InputError, match="data: "):
        run(STUDY, out, users(path, "seeds=1"))


@pytest.mark.parametrize(
    ("values", "overrides", "message"),
    [
        (np.full((1000, 6), np.nan), [], r"1000 .*row"),
        (np.random.default_rng(0).standard_normal((15, 6)), [], r"15 rows"),
        (
            np.random.default_rng(0).standard_normal((100, 6)),
            ["dim=4"],
            r"z\.npy has 100 rows, 20 of them held out; .* needs 40 held out, some 200 rows",
        ),
        (np.random.default_rng(0).standard_normal((1000, 3)), ["dim=4"], r"dim=4 .* 3 columns"),
        (np.random.default_rng(0).standard_normal((1000, 1)) * np.ones(6), [], r"singular: 1 direction"),
        (np.random.default_rng(0).standard_normal((1000, 6)), ["codebook_size=1"], r"codebook_size=1"),
        (np.random.default_rng(0).integers(0, 2, (1000, 6)), [], r"discrete|repeats|distinct"),
    ],
)
def test_data_that_cannot_be_used_is_refused_before_anything_is_written(
    tmp_path: Path, values: np.ndarray, overrides: list[str], message: str
) -> None:
    np.save(tmp_path / "z.npy", values.astype("f4"))
    with pytest.raises(InputError, match=message):
        run(STUDY, tmp_path / "out", users(tmp_path / "z.npy", *overrides))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_the_study_finds(tmp_path: Path) -> None:
    """What is expected of it, at the proposal's settings and 8 seeds (minutes)."""
    arms = "arms=[kmeans, sample_lloyd, rd_gaussian, water_filling, finite, synthetic, lattice, best]"
    settings = config.with_overrides(Settings(), ["sources=[isotropic, anisotropic]", arms, "tuned_arms=[]"])
    run(STUDY, tmp_path, settings, jobs=-1)
    cells = [json.loads(path.read_text()) for path in sorted((tmp_path / "cells").iterdir())]

    def mean(source: str, arm: str, when: str, metric: str = "fresh_distortion") -> float:
        runs = [one for cell in cells if cell["source"] == source for one in cell["runs"]]
        return float(np.mean([one[when][metric] for one in runs if one["arm"] == arm]))

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
        for one in cell["runs"]:
            floor = cell["limits"]["converse"] or cell["limits"]["shannon"]
            assert min(one[when]["fresh_distortion"] for when in ("initial", "final")) > floor
