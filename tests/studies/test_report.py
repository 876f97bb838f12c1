"""What the initialisation study says of a run: intervals, gaps, steps, claims, advice, and its page."""

import html
import importlib.util
import json
import math
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from synthetic import write_run

from codebound.reporting import page, stock_figures
from codebound.reporting.claims import Status
from codebound.studies.framework import report
from codebound.studies.framework.results import StudyRun, load
from codebound.studies.initialisation import figures, findings, labels, settings
from codebound.studies.initialisation.curves import arrivals, from_there_on, settled
from codebound.studies.initialisation.recommendation import ranking, recommend
from codebound.studies.initialisation.sections import source_table
from codebound.studies.initialisation.study import STUDY
from codebound.studies.initialisation.summary import Summary, summarise

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(run_folder) -> StudyRun[settings.Settings]:
    return load(STUDY, run_folder)


@pytest.fixture(scope="module")
def table(run) -> Summary:
    return summarise(run)


@pytest.fixture(scope="module")
def written(run) -> str:
    return report.write(run).read_text(encoding="utf-8")


def words(text: str) -> int:
    """Of a page: all text, that of tables and of what is folded away included."""
    plain = re.sub(r"<[^>]+>", " ", re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL))
    return len(html.unescape(plain).split())


def test_every_arm_has_a_look_of_its_own():
    assert set(labels.ARMS) == set(settings.ARMS)
    assert len({label.colour for label in labels.ARMS.values()}) == len(labels.ARMS)
    assert len({label.name for label in labels.ARMS.values()}) == len(labels.ARMS)


def test_summary_has_the_means_and_the_gaps(run, table):
    row = table.row("isotropic", "kmeans")
    values = [
        one["final"]["fresh_distortion"]
        for cell in run.where(source="isotropic")
        for one in cell["runs"]
        if one["arm"] == "kmeans" and one["optimizer"] == "adam"
    ]
    assert row.metrics["final_fresh_distortion"].mean == pytest.approx(np.mean(values))
    gaps = [10 * math.log10(v / 2.0) for v in values]
    assert row.metrics["final_gap_db"].mean == pytest.approx(np.mean(gaps))
    assert row.versus_baseline == {}
    other = table.row("isotropic", "uniform").versus_baseline["final_fresh_distortion"]
    assert other.low > 20
    assert len(table.select("isotropic", "ema")) == 3


def test_seeds_that_split_the_same_rows_have_wider_intervals(tmp_path):
    out = write_run(
        tmp_path / "run", seeds=3, sources=("data",), data="mine.npy", arms=("kmeans",), tuned_arms=(),
        evaluate_every=2500,
    )  # fmt: skip
    one = load(STUDY, out)
    wide = summarise(one).row("data", "kmeans").metrics["final_fresh_distortion"]
    plain = one.table.interval("final_fresh_distortion", source="data", arm="kmeans", optimizer="adam")
    assert wide.mean == plain.mean
    assert (wide.high - wide.low) / (plain.high - plain.low) == pytest.approx(math.sqrt(1 + 3 * 0.25))


def test_real_data_may_come_under_the_gaussian_reference(table):
    row = table.row("photos", "lattice")
    assert row.metrics["final_gap_db"].mean > 0
    assert row.metrics["final_gaussian_reference_db"].mean < 0
    assert "shannon_low" in table.limits["photos"]
    assert "converse" not in table.limits["photos"]


def test_gaps_to_an_estimated_bound_carry_its_uncertainty(table):
    known, estimated = (table.row(s, "kmeans").metrics["final_gap_db"] for s in ("isotropic", "photos"))
    assert known.high - known.low < 0.1
    assert estimated.low < estimated.mean - 0.2
    assert estimated.high > estimated.mean + 0.2


def test_steps_to_convergence_by_hand():
    def path(values):
        steps = range(0, 50 * len(values), 50)
        return pd.DataFrame({"step": steps, "fresh_distortion": values, "train_distortion": values})

    keys = ("kmeans", "adam"), ("best", "adam")
    steps = arrivals({keys[0]: path([4.0, 2.09, 2.0, 2.0]), keys[1]: path([1.9, 1.9, 1.9, 1.9])})
    assert steps[keys[0]]["steps_fresh_5pct_own"] == 50
    assert steps[keys[0]]["steps_fresh_1pct_own"] == 100
    assert steps[keys[0]]["steps_fresh_5pct_best"] == math.inf
    assert steps[keys[0]]["steps_fresh_5pct_documents"] == 50
    assert steps[keys[1]]["steps_fresh_1pct_best"] == 0


def test_convergence_is_for_good_and_a_moving_curve_has_no_end():
    steps = np.arange(0, 500, 50)
    there = np.array([False, True, False, True, True, True, True, True, True, True])
    assert from_there_on(steps, there) == 150
    assert from_there_on(steps, np.append(there[:-1], False)) == math.inf
    flat, falling = np.full(10, 2.0), np.linspace(4, 2, 10)
    assert settled(steps, flat, 1)
    assert not settled(steps, falling, 1)


def test_claims_of_the_synthetic_run(run):
    verdicts = {v.claim.id: v for v in run.verdicts if v.main}
    assert verdicts["start-error-uniform"].status is Status.CONFIRMED
    assert verdicts["start-error-rd"].status is Status.REFUTED
    assert "2.462" in verdicts["start-error-rd"].reason, "the run's own limits are in the sentence"
    assert verdicts["theory-thousand-times"].status is Status.REFUTED
    assert verdicts["theory-pca"].status is Status.NOT_TESTABLE


def test_another_size_is_not_what_the_claims_are_about(tmp_path):
    out = write_run(tmp_path / "run", seeds=2, sources=("isotropic",), codebook_size=64, evaluate_every=2500)
    assert {v.status for v in load(STUDY, out).verdicts} == {Status.NOT_TESTABLE}


def test_the_page_is_short_and_self_contained(written):
    assert words(written) <= 2250, "of three sources; a quick run has four, and may have 2,500"
    assert not re.search(r"(?:src|href|srcset)\s*=\s*[\"'](?!data:|#)", written)
    assert not re.search(r"\b(nan|inf|None)\b", re.sub(r"data:image/png;base64,[^\"]+", "", written))


def test_a_short_ledger_has_a_line_for_each_claim(run):
    short = page.brief(run.verdicts)
    assert len(short) == len({v.claim.id for v in run.verdicts})
    reasons = [v.reason for v in short if v.status is Status.REFUTED and v.reason]
    assert len(reasons) == len(set(reasons))
    confirmed = next(v for v in short if v.claim.id == "start-dead-rd")
    assert confirmed.status is Status.CONFIRMED
    assert confirmed.reason == ""


def test_results_are_plain_json(written, run):
    results = json.loads((run.folder / "results.json").read_text(), parse_constant=pytest.fail)
    assert results["complete"]
    assert {"study", "fingerprint", "settings", "limits", "rows", "claims", "findings"} <= set(results)
    assert len(results["rows"]) == 3 * (12 + 3 + 3)
    names = {path.stem for path in (run.folder / "figures").glob("*.png")}
    each = {
        f"{source}-{kind}"
        for source in run.settings.sources
        for kind in ("distance", "training", "utilisation")
    }
    assert names == each | {"optimizers"}


def test_one_seed_and_few_arms(tmp_path):
    out = write_run(
        tmp_path / "run", seeds=1, sources=("isotropic",), arms=("sample", "uniform"), tuned_arms=(), steps=50,
        evaluate_every=50,
    )  # fmt: skip
    one = load(STUDY, out)
    results = report.results(one)
    verdicts = {claim["verdict"] for claim in results["claims"] if claim["topic"] == "After training"}
    assert verdicts == {"NOT TESTABLE HERE"}
    assert all(row["metrics"]["final_gap_db"]["low"] is None for row in results["rows"])
    assert "Caution: this rests on 1 seed;" in one.content.answer


def test_few_held_out_vectors_are_remarked_on(run_folder, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(run_folder, out, ignore=shutil.ignore_patterns("figures", "report.*", "results.*"))
    for path in out.glob("cells/photos-*.json"):
        path.write_text(path.read_text().replace('"fresh_samples": 100000', '"fresh_samples": 600'))
    summary = summarise(load(STUDY, out))
    notes = {source: source_table(summary, source).note for source in summary.sources}
    assert "counted on 600 vectors: about 24 of the 256" in notes["photos"]  # 256·(1 − 1/256)^600
    assert notes["isotropic"] == notes["anisotropic"] == ""


def test_the_results_page_takes_full_runs_only(run, tmp_path):
    spec = importlib.util.spec_from_file_location("write_results", ROOT / "tools" / "write_results.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    with pytest.raises(SystemExit, match="3 seeds; the table needs 8"):
        tool.table(run)
    out = write_run(
        tmp_path / "run", seeds=9, sources=("isotropic",), arms=("kmeans",), tuned_arms=(), evaluate_every=2500
    )  # fmt: skip
    (out / "cells" / "isotropic-seed-50.json").unlink()
    with pytest.raises(SystemExit, match="not finished: 1 cell is missing"):
        tool.table(load(STUDY, out))


def test_the_findings_follow_the_numbers(table):
    by_title = {finding.title: finding for finding in findings.findings(table)}
    uniform = next(finding for title, finding in by_title.items() if "uniform" in title)
    assert "Isotropic Gaussian 61 → 17" in uniform.text
    theory = by_title["What theory can do for a start"]
    assert "lattice" in theory.items[0]
    undone = by_title["Where training undoes a good start"]
    assert any("lattice: 2.52" in item for item in undone.items)
    assert not any("k-means, batch" in item for item in undone.items)
    rule, corrected = findings.headline(table).split("; ")
    assert "worse on 2, not distinguishable on 1 of 3" in rule
    assert "level on 1, not distinguishable on 2 of 3" in corrected
    assert "2.462" in findings.distance(table, "isotropic")
    assert findings.optimizer_spreads(table)["adam"]["isotropic"] > 20
    assert findings.optimizer_spreads(table)["ema"]["isotropic"] < 2


def test_the_recommendation_is_the_safest_arm_that_a_layer_can_use(table):
    ranks = ranking(table)
    assert ranks[-1].arm == "uniform"
    assert ranks[0].worst_end < 0.5
    advice = recommend(table)
    assert labels.arm(ranks[0].arm).name in advice.use
    assert "VectorQuantizer(8, 256, init=init." in advice.code
    assert labels.arm("kmeans_all").name not in " ".join(advice.to_json())


def test_figures_show_the_limits(run, table):
    error = figures.training(run, table, "isotropic").axes[0]
    heights = {line.get_ydata()[0] for line in error.get_lines() if len(set(line.get_ydata())) == 1}
    assert {2.0, 2.462} <= heights
    distance = figures.distance(table, "isotropic").axes[0]
    places = {
        round(float(line.get_xdata()[0]), 3) for line in distance.get_lines() if len(line.get_xdata()) == 2
    }
    assert {0.0, round(10 * math.log10(2.462 / 2), 3)} <= places
    assert any("6.0" in text.get_text() for text in distance.texts), "the uniform start is beyond the edge"


def test_dots_beyond_the_edge_are_written_there(table):
    interval = table.row("isotropic", "uniform").metrics["initial_gap_db"]
    axes = stock_figures.dots([("uniform", [interval])], ["start"], most=1.0).axes[0]
    assert axes.get_xlim()[1] == 1.0
    assert [text.get_text() for text in axes.texts] == [f"{interval.mean:.1f} ▸"]


@pytest.mark.slow
def test_the_notebook_runs(run_folder, monkeypatch, capsys):
    monkeypatch.setenv("CODEBOUND_RUN", str(run_folder))
    notebook = nbformat.read(ROOT / "notebooks" / "initialisation.ipynb", as_version=4)
    nbformat.validate(notebook)
    space: dict[str, object] = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            exec(compile(cell.source, "initialisation.ipynb", "exec"), space)
    shown = capsys.readouterr().out
    assert "9 cells, 0 missing" in shown
    assert "Use “" in shown
