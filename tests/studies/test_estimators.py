"""The estimators study: cells, what its tables and claims say, refusals."""

import itertools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from codebound import config
from codebound.errors import InputError
from codebound.reporting import claims
from codebound.reporting.tables import plain_rows
from codebound.studies.estimators import figures, labels, records, summary, tables
from codebound.studies.estimators.arms import BASELINE, arms
from codebound.studies.estimators.linear import run_linear
from codebound.studies.estimators.settings import Settings
from codebound.studies.estimators.study import STUDY
from codebound.studies.estimators.timing import run_timing
from codebound.studies.framework import declare as fw
from codebound.studies.framework import report
from codebound.studies.framework.results import load
from codebound.studies.framework.run import run

SMALL = {
    "sources": ("gaussian", "mixture"), "mlp_sources": ("gaussian",), "seeds": 2, "dim": 10, "codebook_size": 8,
    "codebook_sizes": (4,), "train_samples": 600, "test_samples": 200, "fresh_samples": 1500,
    "reference_samples": 3000, "restarts": 3, "other_restarts": 2, "steps": 20, "long_steps": 25,
    "evaluate_every": 10, "batch_size": 64, "verify_steps": 5, "timing_rounds": 2, "timing_compiled": False,
    "mlp_steps": 10, "mlp_width": 8, "mlp_batch": 32,
}  # fmt: skip
GAUSSIAN = {"source": "gaussian", "codebook_size": 8}
MIXTURE = {"source": "mixture", "codebook_size": 8}


def small(**more) -> Settings:
    return config.build(Settings, {**SMALL, **more})


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("estimators") / "run"
    run(STUDY, out, small())
    report.refresh(load(STUDY, out))
    return out


@pytest.fixture(scope="module")
def told(finished: Path) -> fw.StudyRun[Settings]:
    return load(STUDY, finished)


def test_every_cell_is_there_and_no_error_is_under_its_bound(told: fw.StudyRun[Settings]) -> None:
    assert len(told.cells) == 2 * (2 + 1 + 1) + 1
    assert not told.missing
    gaps = [gap for record in told.table.records if (gap := record.values.get("gap_db")) is not None]
    assert len(gaps) > 200
    assert min(gaps) > 0
    errors = told.table.values("mse", **GAUSSIAN, **summary.LLOYD)
    assert set(errors) == {42, 43}
    assert errors[42] != errors[43]


def test_the_numpy_runs_end_where_autograds_do_and_the_batched_ones_too(
    told: fw.StudyRun[Settings],
) -> None:
    arm = {**MIXTURE, "protocol": "documents", "beta": 0.25}
    ends = [
        told.table.values("mse", estimator=name, **arm)
        for name in ("manual_numpy", "autograd", "straight_through")
    ]
    for seed in (42, 43):
        assert ends[0][seed] == pytest.approx(ends[1][seed], rel=1e-9)
        assert ends[2][seed] == pytest.approx(ends[1][seed], rel=1e-9)
    for cell in told.where(experiment="verify"):
        for way in cell["ways"].values():
            assert len(way["encoder_gradient"]) == 5
            assert max(way["encoder_gradient"] + way["codebook_gradient"]) < 1e-10
            assert max(way["trajectory"]) < 1e-8
    verified = tables.verification(told.table)
    assert verified is not None
    assert all(float(row["Gradients"]) < 1e-10 for row in plain_rows(verified))


def test_a_cell_depends_on_nothing_but_itself(told: fw.StudyRun[Settings]) -> None:
    """Alone, after other draws from torch's global generator, it is what the study wrote, to the last bit."""
    torch.manual_seed(5)
    torch.rand(100)
    alone = json.loads(json.dumps(run_linear(small(), "gaussian", 43)))
    assert alone == {key: told.cells["linear-gaussian-43"][key] for key in alone}


def test_the_report_is_whole(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    # Learning, rotation, two of β, restarts, sizes; two of each source; the networks; gradients and cost.
    assert page.count("srcset") == len(list((finished / "figures").glob("*.png"))) == 6 + 2 * 2 + 1 + 2
    text = "\n".join(line for line in page.splitlines() if "base64" not in line)
    assert not re.search(r"\b(nan|None|inf)\b", text)
    results = json.loads((finished / "results.json").read_text())
    assert results["complete"]
    assert [source["source"] for source in results["sources"]] == ["gaussian", "mixture"]
    assert [len(source["rows"]) for source in results["sources"]] == [2 + 5 + 3 * 4] * 2
    assert [len(source["mlp"]) for source in results["sources"]] == [4 * 2, 0]
    assert set(results["timing"]["seconds"]) == {
        "manual_numpy",
        "manual_batched",
        "manual_batched_many",
        "autograd",
    }


def test_every_claim_of_the_yaml_can_be_asked_for(told: fw.StudyRun[Settings]) -> None:
    """At the claims' own settings nothing but a missing source or size may be untestable."""
    assert all(verdict.status is claims.Status.NOT_TESTABLE for verdict in told.verdicts)  # other settings
    asked = 0
    for verdict in told.verdicts:
        assert verdict.case is not None
        assert verdict.cell is not None
        cell = dict(verdict.cell)
        if cell["codebook_size"] not in (8, None) or cell["source"] == "laplace":
            continue
        values = told.table.lookup(cell, verdict.case.metric)
        assert len(values) == 2
        assert all(np.isfinite(list(values.values())))
        asked += 1
    assert asked >= 30
    with pytest.raises(claims.NotMeasuredError, match="laplace"):
        told.table.lookup({"source": "laplace", "estimator": "rotation"}, "mse")


def test_verdicts_of_measured_claims(told: fw.StudyRun[Settings]) -> None:
    ledger = [claim.model_copy(update={"requires": {}}) for claim in STUDY.claims(told)]
    verdicts = claims.judge(ledger, told.table.lookup, STUDY.facts(told))
    by_claim = {verdict.claim.id: verdict.status for verdict in verdicts if verdict.main}
    assert by_claim["gradient-mse"] is by_claim["gradient-entropy"] is claims.Status.CONFIRMED
    assert by_claim["gradient-differ"] is claims.Status.REFUTED
    assert by_claim["error-lloyd"] is not claims.Status.NOT_TESTABLE
    assert by_claim["cost-memory"] is not claims.Status.NOT_TESTABLE


def test_the_expected_best_of_some_restarts_by_enumeration() -> None:
    rng = np.random.default_rng(0)
    train, fresh = rng.random(6), rng.random(6)
    for count in range(1, 7):
        chosen = [min(group, key=lambda i: train[i]) for group in itertools.combinations(range(6), count)]
        assert records.best_of(train, fresh, count) == pytest.approx(np.mean(fresh[chosen]))


def test_what_is_derived_is_what_the_cells_say(told: fw.StudyRun[Settings]) -> None:
    parts = {cell.cell["seed"]: cell["sizes"] for cell in told.where(experiment="linear", source="gaussian")}

    def error(seed: int, estimator: str, protocol: str, beta: float | None, size: int = 0) -> float:
        (mse,) = (
            row["mse"]
            for row in parts[seed][size]["runs"]
            if (row["estimator"], row["protocol"], row["beta"]) == (estimator, protocol, beta)
        )
        return mse

    # Beside the best Lloyd restart, paired by seed.
    result, _ = summary.summarise(told)
    row = result.row("rotation", "tuned", 0.25)
    assert row is not None
    assert row.versus is not None
    ratios = [error(s, "rotation", "tuned", 0.25) / error(s, BASELINE, "lloyd", None) for s in parts]
    assert row.versus.mean == pytest.approx(100 * (np.mean(ratios) - 1))

    # β, the sizes, the restarts.
    for seed in parts:
        betas = [error(seed, "straight_through", "tuned", beta) for beta in told.settings.commitments]
        arm = {"estimator": "straight_through", "protocol": "tuned"}
        ranges = told.table.values("beta_range_percent", **GAUSSIAN, **arm)
        assert ranges[seed] == pytest.approx(100 * (max(betas) / min(betas) - 1))
        eight, four = (error(seed, BASELINE, "lloyd", None, size) for size in (0, 1))
        fall = told.table.values("scaling_percent", source="gaussian", estimator=BASELINE)
        assert fall[seed] == pytest.approx(100 * (1 - eight / four))
        fresh = parts[seed][0]["restarts"]["fresh"]
        spread = told.table.values("restart_spread_percent", **GAUSSIAN)
        assert spread[seed] == pytest.approx(100 * (max(fresh) / min(fresh) - 1))
    assert result.restarts[3].mean == 0


@pytest.mark.parametrize(
    ("low", "mean", "high", "expected"),
    [
        (-0.1, 0.05, 0.2, "level"), (-3.0, -2.0, -1.0, "better"), (0.1, 0.5, 0.9, "worse"),
        (-1.0, 0.5, 2.0, "undecided"), (float("nan"), -5.0, float("nan"), "undecided"),
    ],
)  # fmt: skip
def test_the_word_for_a_difference(low: float, mean: float, high: float, expected: str) -> None:
    assert summary.word(fw.Interval(mean, low, high, 5)) == expected


def test_one_comparison_is_enough_for_a_report_and_none_is_not(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "part"
    shutil.copytree(finished, out)
    for path in (out / "cells").glob("*.json"):
        if path.name != "linear-gaussian-42.json":
            path.unlink()
    results = report.results(load(STUDY, out))
    assert len(results["missing_cells"]) == 8
    assert [source["seeds"] for source in results["sources"]] == [1]
    shutil.copy(finished / "cells" / "mlp-gaussian-42.json", out / "cells")
    (out / "cells" / "linear-gaussian-42.json").unlink()
    with pytest.raises(InputError, match="no finished cell"):
        load(STUDY, out)


def test_figures_of_errors_show_the_bound_and_the_reference(told: fw.StudyRun[Settings]) -> None:
    result = summary.summarise(told)[0]
    for figure in (
        figures.ranking(told.table, result),
        figures.training(told, result),
        figures.networks(result),
    ):
        (legend,) = figure.legends
        names = " ".join(text.get_text() for text in legend.get_texts())
        assert "Shannon bound" in names
        assert "optimal quantizer" in names


def test_the_ablation_of_beta_and_the_verification_are_drawn(told: fw.StudyRun[Settings]) -> None:
    betas = told.settings.commitments
    results = summary.summarise(told)
    ablation = figures.commitment(told.table, results, betas)
    arm = {**results[0].at, "estimator": "straight_through", "protocol": "lloyd", "beta": 1.0}
    change = told.table.percent("mse", summary.LLOYD, **arm)
    assert change is not None
    curves = {str(line.get_label()): line for line in ablation.axes[0].get_lines()}
    lloyd = curves[labels.protocol_name("lloyd")]
    assert list(curves[labels.protocol_name("tuned")].get_xdata()) == sorted(betas)
    assert lloyd.get_ydata()[-1] == pytest.approx(change.mean)

    # By hand and by autograd: apart by rounding only, at every step.
    (apart,) = figures.verification(told).axes
    drawn = [line for line in apart.get_lines() if len(line.get_xdata()) > 1]
    assert len(drawn) == 4
    assert max(max(line.get_ydata()) for line in drawn) < -6


def test_a_figures_interval_is_of_the_difference_from_the_baseline(told: fw.StudyRun[Settings]) -> None:
    arm = {**GAUSSIAN, "estimator": "rotation", "protocol": "tuned", "beta": 0.25}
    paired, own = summary.paired_gap(told.table, **arm), told.table.interval("gap_db", **arm)
    difference = told.table.difference("gap_db", summary.LLOYD, **arm)
    assert difference is not None
    assert paired.mean == pytest.approx(own.mean)
    assert paired.high - paired.low == pytest.approx(difference.high - difference.low)


def test_arms_are_named_once_and_theory_names_beta_one() -> None:
    settings = Settings()
    for main in (True, False):
        chosen = arms(settings, main)
        assert len(set(chosen)) == len(chosen)
        order = [arm.estimator for arm in chosen]
        assert order == sorted(order, key=order.index)  # equal estimators together
        assert any(arm.beta == 1 and arm.protocol == "lloyd" for arm in chosen)


def test_a_step_of_numpy_needs_less_memory_than_one_of_autograd() -> None:
    timed = run_timing(small(batch_size=512, dim=64), "gaussian", 42)
    assert set(timed["seconds"]) == {"manual_numpy", "manual_batched", "manual_batched_many", "autograd"}
    assert all(len(s) == 2 and min(s) > 0 for s in timed["seconds"].values())
    # Autograd holds at least the reconstruction's errors: 512 × 64 doubles.
    assert timed["peak_bytes"]["autograd"] > 512 * 64 * 8 > timed["peak_bytes"]["manual_numpy"] > 512 * 8 * 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sources": ("gauss",)}, r"sources.*not accepted"),
        ({"commitments": (0.0, 1.0)}, r"commitment=0.25 must be one of"),
        ({"commitments": (0.25,)}, r"must hold 0 and 1"),
        ({"latent_dim": 7}, r"latent_dim=7 must be at most rank=6"),
        ({"steps": 600}, r"steps=600 must be at most long_steps=500"),
        ({"evaluate_every": 7}, r"evaluate_every=7 must divide"),
        ({"batch_size": 30_000}, r"batch_size=30000 must be at most train_samples"),
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
    assert STUDY.configure(["quick"], {}).seeds == 2
    full = STUDY.configure(["full"], {"seeds": 21})
    assert full.seeds == 21
    assert {"noisy", "high", "photos"} < set(full.sources)
    assert full.sizes("high") == (512,)
    assert Settings().seeds >= 5
    assert Settings(codebook_sizes=8).codebook_sizes == (8,)  # pyright: ignore[reportArgumentType]


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
    measured = run_linear(settings, source, 42)
    part = measured["sizes"][0]
    bound = measured["limits"][str(part["codebook_size"])]
    assert all(trained["mse"] > (bound["shannon_low"] or bound["shannon"]) for trained in part["runs"])
    assert part["codebook_size"] == (12 if source == "high" else 8)
    if source == "noisy":
        assert bound["shannon"] <= bound["restricted"] * (1 + 1e-12)


def test_an_estimated_bound_is_shown_with_its_ends(told: fw.StudyRun[Settings]) -> None:
    result = summary.summarise(told)[1]
    ends = {f"shannon_{end}": fw.mean_interval([value]) for end, value in (("low", 0.1), ("high", 10.0))}
    estimated = replace(result, limits={**result.limits, **ends})
    assert estimated.bound == "estimated Shannon lower bound"
    first = plain_rows(tables.limits(estimated))[0]
    assert (first["Error"]["low"], first["Error"]["high"]) == (0.1, 10.0)
    line = figures.limits_db(estimated)[0]
    assert line.interval is not None
    assert line.interval[0] < line.value == 0 < line.interval[1]


@pytest.mark.slow
def test_what_the_study_finds(tmp_path: Path) -> None:
    """The Gaussian source at the report's settings: nothing to gain over PCA and the best of 20 restarts."""
    settings = config.build(
        Settings, {"sources": ("gaussian",), "codebook_sizes": (8,), "seeds": 3, "timing_rounds": 0}
    )
    run(STUDY, tmp_path, settings, jobs=-1)
    (result,) = summary.summarise(load(STUDY, tmp_path))
    assert result.limits["shannon"].mean == pytest.approx(1.8994, abs=1e-3)
    assert result.limits["restricted"].mean == pytest.approx(1.9164, abs=1e-3)
    assert result.limits["reference_pca"].mean == pytest.approx(2.4016, rel=0.01)
    for beta in (0.25, 1.0):
        row = result.row("straight_through", "lloyd", beta)
        assert row is not None
        assert row.versus is not None
        assert abs(row.versus.mean) < 0.15
    assert 0.3 < result.spread.mean < 4
