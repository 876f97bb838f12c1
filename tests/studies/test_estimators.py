"""The estimators study: cells, resumption, determinism, what its tables and sentences say, refusals."""

import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from codebound import config
from codebound.errors import InputError
from codebound.reporting import claims
from codebound.studies.estimators import (
    check_figures,
    figures,
    findings,
    report,
    rundata,
    source_figures,
    study,
    timing,
)
from codebound.studies.estimators.arms import BASELINE, arms
from codebound.studies.estimators.linear import run_linear
from codebound.studies.estimators.settings import FULL, QUICK, Settings
from codebound.studies.estimators.summary import summarise
from codebound.studies.estimators.tables import ranking_tables

SMALL = {
    "sources": ("gaussian", "mixture"), "mlp_sources": ("gaussian",), "seeds": 2, "dim": 10, "codebook_size": 8,
    "codebook_sizes": (4,), "train_samples": 600, "test_samples": 200, "fresh_samples": 1500,
    "reference_samples": 3000, "restarts": 3, "other_restarts": 2, "steps": 20, "long_steps": 25,
    "evaluate_every": 10, "batch_size": 64, "verify_steps": 5, "timing_rounds": 2, "timing_compiled": False,
    "mlp_steps": 10, "mlp_width": 8, "mlp_batch": 32,
}  # fmt: skip


def small(**more) -> Settings:
    return config.build(Settings, {**SMALL, **more})


def numbers(out: Path) -> dict[str, dict]:
    """The cells' content but for how long it took."""
    found = {}
    for path in sorted((out / "cells").glob("*.json")):
        if not path.name.startswith("timing"):
            found[path.name] = {k: v for k, v in json.loads(path.read_text()).items() if k != "cell_seconds"}
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("estimators") / "run"
    study.run(out, small())
    report.refresh(out)
    return out


@pytest.fixture(scope="module")
def data(finished: Path) -> rundata.StudyData:
    return rundata.load(finished)


def test_every_cell_is_there_and_no_error_is_under_its_bound(data: rundata.StudyData) -> None:
    assert len(data.cells) == 2 * (2 + 1 + 1) + 1
    assert not data.missing
    assert (data.runs["gap_db"] > 0).all()
    assert set(data.runs["estimator"]) == {
        "straight_through", "rotation", "projection", "autograd", "manual_numpy", "lloyd_one", "lloyd_best",
    }  # fmt: skip
    found = data.values("gaussian", BASELINE, "lloyd")
    assert set(found) == {42, 43}
    assert found[42] != found[43]


def test_the_numpy_runs_end_where_autograds_do_and_the_batched_ones_too(data: rundata.StudyData) -> None:
    ends = [
        data.values("mixture", name, "documents") for name in ("manual_numpy", "autograd", "straight_through")
    ]
    for seed in (42, 43):
        assert ends[0][seed] == pytest.approx(ends[1][seed], rel=1e-9)
        assert ends[2][seed] == pytest.approx(ends[1][seed], rel=1e-9)
    for cell in data.of("verify", "gaussian").values():
        for way in cell["ways"].values():
            assert len(way["encoder_gradient"]) == 5
            assert max(way["encoder_gradient"] + way["codebook_gradient"]) < 1e-10
            assert max(way["trajectory"]) < 1e-8


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_run_is_bit_identical(finished: Path, tmp_path: Path, jobs: int) -> None:
    out = tmp_path / "resumed"
    shutil.copytree(finished, out)
    lost = ["linear-mixture-43.json", "verify-gaussian-42.json", "mlp-gaussian-42.json"]
    for name in lost:
        (out / "cells" / name).unlink()
    kept = (out / "cells" / "linear-gaussian-42.json").stat().st_mtime_ns
    seen = []
    study.run(out, small(), jobs=jobs, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(6, 9), (7, 9), (8, 9), (9, 9)]
    assert (out / "cells" / "linear-gaussian-42.json").stat().st_mtime_ns == kept
    assert numbers(out) == numbers(finished)


def test_a_cell_depends_on_nothing_but_itself(finished: Path) -> None:
    """Alone, after other draws from torch's global generator, it is what the study wrote, to the last bit."""
    torch.manual_seed(5)
    torch.rand(100)
    alone = json.loads(json.dumps(run_linear(small(), "gaussian", 43)))
    written = numbers(finished)["linear-gaussian-43.json"]
    assert alone == {k: v for k, v in written.items() if k in alone}


def test_a_second_report_is_instant_and_changes_with_the_run(
    finished: Path, tmp_path: Path, monkeypatch
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    written = []
    monkeypatch.setattr(report, "write", lambda path: written.append(path))
    report.refresh(out)
    assert not written
    (out / "cells" / "mlp-gaussian-42.json").unlink()
    report.refresh(out)
    assert written == [out]


def test_the_report_is_whole(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(list((finished / "figures").glob("*.png"))) == 9
    names = {p.stem for p in (finished / "figures").glob("*.png")}
    assert {"all-verification", "all-convergence", "all-scaling", "all-commitment"} <= names
    text = "\n".join(line for line in page.splitlines() if "base64" not in line)
    assert not re.search(r"\b(nan|None|inf)\b", text)
    found = json.loads((finished / "results.json").read_text())
    assert found["complete"]
    assert {c["verdict"] for c in found["claims"]} <= {s.value for s in claims.Status}
    assert [s["source"] for s in found["sources"]] == ["gaussian", "mixture"]


def test_every_claim_of_the_yaml_can_be_asked_for(data: rundata.StudyData) -> None:
    """At the documents' settings nothing but a missing source or size may be untestable."""
    verdicts = report.judge(data)
    assert len({v.claim.topic for v in verdicts}) == 4
    assert all(v.status is claims.Status.NOT_TESTABLE for v in verdicts)  # other settings than the documents'
    ask = rundata.lookup(data)
    for verdict in verdicts:
        case = verdict.case
        assert case is not None
        other_size = "codebook_size" in case.cell or case.metric == "scaling_percent"
        if other_size or case.cell["source"] == "laplace":
            continue
        assert verdict.cell is not None
        values = ask(verdict.cell, case.metric)
        assert len(values) == 2
        assert all(np.isfinite(list(values.values())))
    with pytest.raises(claims.NotMeasuredError, match="laplace"):
        ask({"source": "laplace", "estimator": "rotation", "protocol": "documents"}, "mse")


def test_a_verdict_of_a_measured_claim(data: rundata.StudyData) -> None:
    claim = claims.Claim.model_validate(
        {
            "id": "x", "topic": "t", "source": "s", "statement": "",
            "cell": {"estimator": "manual_numpy", "protocol": "documents"},
            "expect": {"kind": "ratio", "against": {"estimator": "autograd"}, "low": 0.99, "high": 1.01},
            "cases": [{"cell": {"source": "gaussian"}, "metric": "mse", "label": ""}],
        }
    )  # fmt: skip
    (verdict,) = claims.judge([claim], rundata.lookup(data), rundata.facts(data))
    assert verdict.status is claims.Status.CONFIRMED


def test_the_expected_best_of_some_restarts_by_enumeration() -> None:
    rng = np.random.default_rng(0)
    train, fresh = rng.random(6), rng.random(6)
    for count in range(1, 7):
        chosen = [min(group, key=lambda i: train[i]) for group in itertools.combinations(range(6), count)]
        assert rundata.best_of(train, fresh, count) == pytest.approx(np.mean(fresh[chosen]))


def test_the_tables_and_sentences_say_what_the_run_says(data: rundata.StudyData) -> None:
    summaries = summarise(data)
    assert len(ranking_tables(summaries)) == 3
    row = summaries[0].row("rotation", "tuned", 0.25)
    own, base = (data.values("gaussian", n, p) for n, p in (("rotation", "tuned"), (BASELINE, "lloyd")))
    assert row is not None
    assert row.versus is not None
    assert row.versus.mean == pytest.approx(np.mean([100 * (own[s] / base[s] - 1) for s in own]))
    found = findings.findings(data, summaries, report.judge(data))
    titles = [f.title for f in found]
    assert "Is PCA the optimal encoder for a Gaussian source?" in titles
    assert "… and a non-linear encoder?" in titles
    assert not [t for f in found for t in (f.text, *f.items) if "nan" in t.split()]
    advice = findings.recommendation(data, summaries)
    assert [text.split()[0] for text in advice] == ["Estimator:", "With", "β:", "Restarts:"]
    assert "β = " in advice[1].partition("better β: ")[2]


@pytest.mark.parametrize(
    ("low", "mean", "high", "expected"),
    [
        (-0.1, 0.05, 0.2, "level"), (-3.0, -2.0, -1.0, "better"), (0.1, 0.5, 0.9, "worse"),
        (-1.0, 0.5, 2.0, "undecided"), (float("nan"), -5.0, float("nan"), "undecided"),
    ],
)  # fmt: skip
def test_the_word_for_a_difference(low: float, mean: float, high: float, expected: str) -> None:
    assert findings.word(findings.Interval(mean, low, high, 5)) == expected


def test_an_unfinished_run_has_a_report_that_says_so(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "part"
    shutil.copytree(finished, out)
    for path in (out / "cells").glob("*.json"):
        if path.name != "linear-gaussian-42.json":
            path.unlink()
    page = report.write(out).read_text()
    assert "This run is not finished" in page
    assert "8 of\n9 cells" in page
    for path in (out / "cells").glob("*.json"):
        path.unlink()
    with pytest.raises(InputError, match="no finished cell"):
        report.write(out)


def test_plots_of_errors_show_the_bound_and_the_reference(data: rundata.StudyData) -> None:
    summaries = summarise(data)
    made = {
        "convergence": figures.convergence(data, summaries),
        "commitment": figures.commitment(data, summaries),
        "scaling": figures.scaling(data, summaries),
        "ranking": source_figures.ranking(data, summaries[0]),
        "mlp": source_figures.networks(data, summaries[0]),
        "verification": check_figures.verification(data),
    }
    for name, figure in made.items():
        assert figure is not None, name
        legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
        text = " ".join(t.get_text() for legend in legends for t in legend.get_texts())
        assert "Shannon" in text, name
        assert "Optimal quantizer" in text, name


def test_arms_are_named_once_and_theory_names_beta_one() -> None:
    settings = Settings()
    for main in (True, False):
        found = arms(settings, main)
        assert len(set(found)) == len(found)
        order = [arm.estimator for arm in found]
        assert order == sorted(order, key=order.index)  # equal estimators together
        assert any(arm.beta == 1 and arm.protocol == "lloyd" for arm in found)


def test_a_step_of_numpy_needs_less_memory_than_one_of_autograd() -> None:
    found = timing.run_timing(small(batch_size=512, dim=64), "gaussian", 42)
    assert set(found["seconds"]) == {"manual_numpy", "manual_batched", "manual_batched_many", "autograd"}
    assert all(len(s) == 2 and min(s) > 0 for s in found["seconds"].values())
    # Autograd holds at least the reconstruction's errors: 512 × 64 doubles.
    assert found["peak_bytes"]["autograd"] > 512 * 64 * 8 > found["peak_bytes"]["manual_numpy"] > 512 * 8 * 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sources": ("gauss",)}, r"sources.*not accepted"),
        ({"commitments": (0.0, 1.0)}, r"commitment=0.25 must be one of"),
        ({"commitments": (0.25,)}, r"must hold 0 and 1"),
        ({"latent_dim": 7}, r"latent_dim ≤ rank ≤ dim"),
        ({"steps": 600}, r"steps=600 must be at most long_steps=500"),
        ({"evaluate_every": 7}, r"evaluate_every=7 must divide"),
        ({"batch_size": 30_000}, r"batch_size=30000 is more than"),
        ({"mlp_sources": ("photos",)}, r"must be among sources"),
        ({"codebook_sizes": (1,)}, r"2 or more"),
        ({"mixture_components": 6}, r"more than rank=6"),
        ({"stepz": 1}, r"did you mean 'steps'"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        config.build(Settings, values)


def test_the_presets_are_settings() -> None:
    assert config.build(Settings, QUICK).seeds == 2
    full = config.build(Settings, FULL)
    assert full.seeds >= 20
    assert {"noisy", "high", "photos"} < set(full.sources)
    assert full.sizes("high") == (512,)
    assert Settings().seeds >= 5
    assert Settings(codebook_sizes=8).codebook_sizes == (8,)  # pyright: ignore[reportArgumentType]


def test_another_study_in_the_folder_is_refused(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "other"
    shutil.copytree(finished, out)
    text = (out / "study.json").read_text().replace('"study": "estimators"', '"study": "init"')
    (out / "study.json").write_text(text)
    with pytest.raises(InputError, match="study 'init'"):
        study.run(out, small())
    with pytest.raises(InputError, match="not 'estimators'"):
        rundata.load(out)


@pytest.mark.parametrize("source", ["laplace", "noisy", "high", "photos"])
def test_the_other_sources_run(source: str) -> None:
    settings = small(
        sources=(source,),
        mlp_sources=(),
        seeds=1,
        dim=64,
        high_dim=70,
        high_codebook_size=12,
        high_restarts=2,
    )
    found = run_linear(settings, source, 42)
    part = found["sizes"][0]
    bound = found["limits"][str(part["codebook_size"])]
    assert all(run["mse"] > (bound["shannon_low"] or bound["shannon"]) for run in part["runs"])
    assert part["codebook_size"] == (12 if source == "high" else 8)
    if source == "noisy":
        assert bound["shannon"] <= bound["restricted"] * (1 + 1e-12)


@pytest.mark.slow
def test_what_the_study_finds(tmp_path: Path) -> None:
    """The Gaussian source at the documents' settings: nothing to gain over PCA and the best of 20 restarts."""
    settings = config.build(
        Settings, {"sources": ("gaussian",), "codebook_sizes": (8,), "seeds": 3, "timing_rounds": 0}
    )
    study.run(tmp_path, settings, jobs=-1)
    data = rundata.load(tmp_path)
    (summary,) = summarise(data)
    assert summary.limits["shannon"].mean == pytest.approx(1.8994, abs=1e-3)
    assert summary.limits["restricted"].mean == pytest.approx(1.9164, abs=1e-3)
    assert summary.limits["reference_pca"].mean == pytest.approx(2.4016, rel=0.01)
    for beta in (0.25, 1.0):
        row = summary.row("straight_through", "lloyd", beta)
        assert row is not None
        assert row.versus is not None
        assert abs(row.versus.mean) < 0.15
    assert 0.3 < summary.spread.mean < 4
