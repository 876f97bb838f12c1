import importlib.util
import json
import math
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console
from synthetic import write_run

from codebound.errors import InputError
from codebound.reporting import plots
from codebound.reporting.claims import Status
from codebound.studies.initialisation import labels, report, settings
from codebound.studies.initialisation.findings import findings
from codebound.studies.initialisation.recommendation import ranking, recommendation
from codebound.studies.initialisation.rundata import from_there_on, load, settled, steps_table
from codebound.studies.initialisation.summary import Summary, summarise
from codebound.studies.initialisation.tables import source_tables

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def written(run_folder) -> Path:
    report.write(run_folder)
    return run_folder


@pytest.fixture(scope="module")
def table(run_folder) -> Summary:
    return summarise(load(run_folder))


def test_every_arm_has_a_look_of_its_own():
    assert set(labels.LOOKS) == set(settings.ARMS)
    assert len({look.colour for look in labels.LOOKS.values()}) == len(labels.LOOKS)
    assert len({look.name for look in labels.LOOKS.values()}) == len(labels.LOOKS)


def test_summary_has_the_means_and_the_gaps(run_folder, table):
    data = load(run_folder)
    row = table.row("isotropic", "kmeans")
    values = [
        run["final"]["fresh_distortion"]
        for (source, _), cell in data.cells.items()
        for run in cell["runs"]
        if source == "isotropic" and run["arm"] == "kmeans" and run["optimizer"] == "adam"
    ]
    assert row.metrics["final_fresh_distortion"].mean == pytest.approx(np.mean(values))
    gaps = [10 * math.log10(v / 2.0) for v in values]
    assert row.metrics["final_gap_db"].mean == pytest.approx(np.mean(gaps))
    assert row.versus_baseline == {}
    other = table.row("isotropic", "uniform").versus_baseline["final_fresh_distortion"]
    assert other.low > 20
    assert len(table.select("isotropic", "ema")) == 3


def test_real_data_may_come_under_the_gaussian_reference(table):
    row = table.row("photos", "lattice")
    assert row.metrics["final_gap_db"].mean > 0
    assert row.metrics["final_gaussian_reference_db"].mean < 0
    assert "shannon_low" in table.limits["photos"]
    assert "converse" not in table.limits["photos"]


def test_steps_to_convergence_by_hand():
    def run(arm, path):
        frame = pd.DataFrame({"step": range(0, 50 * len(path), 50), "fresh_distortion": path})
        frame["train_distortion"] = frame["fresh_distortion"]
        return frame.assign(source="s", seed=1, arm=arm, optimizer="adam")

    curves = pd.concat([run("kmeans", [4.0, 2.09, 2.0, 2.0]), run("best", [1.9, 1.9, 1.9, 1.9])])
    found = steps_table(curves).set_index("arm")
    assert found.loc["kmeans", "steps_fresh_5pct_own"] == 50
    assert found.loc["kmeans", "steps_fresh_1pct_own"] == 100
    assert found.loc["kmeans", "steps_fresh_5pct_best"] == math.inf
    assert found.loc["kmeans", "steps_fresh_5pct_documents"] == 50
    assert found.loc["best", "steps_fresh_1pct_best"] == 0


def test_claims_of_the_synthetic_run(run_folder):
    verdicts = {v.claim.id: v for v in report.judge(load(run_folder)) if v.main}
    assert verdicts["A8-error-uniform"].status is Status.CONFIRMED
    assert verdicts["A8-error-rd"].status is Status.REFUTED
    assert "2.462" in verdicts["A8-error-rd"].reason
    assert verdicts["A10-thousand-times"].status is Status.REFUTED
    assert verdicts["A2-pca"].status is Status.NOT_TESTABLE


def test_another_size_is_not_what_the_claims_are_about(tmp_path):
    out = write_run(tmp_path / "run", seeds=2, sources=("isotropic",), codebook_size=64, evaluate_every=2500)
    verdicts = report.judge(load(out))
    assert {v.status for v in verdicts} == {Status.NOT_TESTABLE}


def test_report_is_self_contained_and_complete(written):
    page = (written / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:|#)", page)
    assert "http" not in re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)
    for source in ("Isotropic Gaussian", "Anisotropic Gaussian", "Photographs"):
        assert source in page
    assert "&lt;init&gt;" in page, "the command is escaped"
    assert not re.search(r"\b(nan|inf|None)\b", re.sub(r"data:image/png;base64,[^\"]+", "", page))
    assert "not finished" not in page
    assert "<code>from codebound.quantize import VectorQuantizer, init;" in page
    assert "Caution: this rests on" not in page, "three seeds are enough"
    assert "are counted on" not in page, "100,000 held-out vectors are enough"
    assert page.count("rows (A1, A2, …) are numbered as in its list of") == 1
    others = page.split("<h3>Other optimizers</h3>")[1].split("<h2")[0]
    assert "within 1 % of the best final error of any run" in others
    _Balanced().check(page)


def test_results_are_plain_json(written):
    text = (written / "results.json").read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=pytest.fail)
    assert found["complete"]
    assert {"study", "fingerprint", "settings", "limits", "rows", "claims", "findings"} <= set(found)
    assert len(found["rows"]) == 3 * (12 + 3 + 3)
    assert not list(written.glob(".*")), "nothing temporary stays"


def test_figures_are_there_and_not_empty(written):
    names = {p.name for p in (written / "figures").glob("*.png")}
    kinds = ("training", "utilisation", "distance", "optimizers")
    assert names == {f"{s}-{k}.png" for s in ("isotropic", "anisotropic", "photos") for k in kinds}
    for name in names:
        with Image.open(written / "figures" / name) as image:
            assert image.width > 1000
            assert len(image.convert("RGB").getcolors(1 << 24) or []) > 50


def test_a_partial_run_is_reported_with_what_is_missing(run_folder, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(run_folder, out, ignore=shutil.ignore_patterns("figures", "report.html", "results.json"))
    (out / "cells" / "photos-seed-44.json").unlink()
    (out / "cells" / "isotropic-seed-43.json").unlink()
    (out / "cells" / "isotropic-seed-44.json").unlink()
    page = report.write(out).read_text(encoding="utf-8")
    assert "not finished" in page
    assert "photos-seed-44" in page
    assert not json.loads((out / "results.json").read_text())["complete"]


def test_one_seed_and_few_arms(tmp_path):
    out = write_run(
        tmp_path / "run",
        seeds=1,
        sources=("isotropic",),
        arms=("sample", "uniform"),
        tuned_arms=(),
        steps=50,
        evaluate_every=50,
    )
    page = report.write(out).read_text(encoding="utf-8")
    assert "an interval needs at least 2 seeds; this run has 1" in page
    assert "(one seed: no interval)" not in page, "there is no k-means to compare with"
    found = json.loads((out / "results.json").read_text(encoding="utf-8"))
    verdicts = {claim["verdict"] for claim in found["claims"] if claim["topic"] == "After training"}
    assert verdicts == {"NOT TESTABLE HERE"}
    assert all(row["metrics"]["final_gap_db"]["low"] is None for row in found["rows"])
    assert "Caution: this rests on 1 seed;" in page


def test_few_held_out_vectors_are_remarked_on(run_folder, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(run_folder, out, ignore=shutil.ignore_patterns("figures", "report.html", "results.json"))
    for path in out.glob("cells/photos-*.json"):
        path.write_text(path.read_text().replace('"fresh_samples": 100000', '"fresh_samples": 600'))
    page = report.write(out).read_text(encoding="utf-8")
    remark = "counted on 600 vectors: about 24 of the 256 codewords would look dead"  # 256·(1 − 1/256)^600
    assert page.count(remark) == 2
    captions = [str(table.caption) for table in source_tables(summarise(load(out)))]
    assert [remark in caption for caption in captions] == [False, False, True]


def test_the_readme_takes_full_runs_only(run_folder, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("readme_results", ROOT / "tools" / "readme_results.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    with pytest.raises(SystemExit, match="3 seeds; the README's table needs 8"):
        tool.table(summarise(load(run_folder)))
    out = write_run(
        tmp_path / "run",
        seeds=9,
        sources=("isotropic",),
        arms=("kmeans",),
        tuned_arms=(),
        evaluate_every=2500,
    )
    (out / "cells" / "isotropic-seed-50.json").unlink()
    with pytest.raises(SystemExit, match="not finished: 1 cell is missing"):
        tool.table(summarise(load(out)))


@pytest.mark.parametrize(("low", "high"), [(1.8, 8.1), (2.4, 2.9), (0.03, 0.2), (0.3, 80)])
def test_a_log_axis_has_ticks_enough(low, high):
    axes = plots.new_figure(4, 3).subplots()
    plots.log_axis(axes, low, high)
    ticks = axes.get_yticks()
    assert 4 <= len(ticks) <= 9
    assert all(low <= tick <= high for tick in ticks)


def test_not_a_run_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"study\.json"):
        report.write(tmp_path)
    out = write_run(tmp_path / "run", seeds=1, sources=("isotropic",), evaluate_every=2500)
    (out / "cells" / "isotropic-seed-42.json").unlink()
    with pytest.raises(InputError, match="no cell is finished"):
        report.write(out)


def test_the_sentences_follow_the_numbers(table, run_folder):
    verdicts = report.judge(load(run_folder))
    by_title = {f.title: f for f in findings(table, verdicts)}
    uniform = next(f for t, f in by_title.items() if "uniform" in t)
    assert "rise from 61 to 17" in uniform.text
    question = by_title["Can rate-distortion theory choose a better start than k-means?"]
    rule, corrected = question.text.split("; ")
    assert "is worse on 2, not distinguishable on 1 of 3" in rule
    assert "water-filled spectrum is level on 1, not distinguishable on 2 of 3" in corrected
    assert "“lattice” ends best" in question.items[0]
    assert "widened" in question.items[0]
    distance = by_title["How far from the limit everything stays"]
    assert (
        "(lattice, before training)" in distance.items[0] or "(best of several, before" in distance.items[0]
    )
    assert "2.462" in distance.items[0]
    assert "Gaussian of equal covariance" in distance.items[2]
    assert "too few scenes" in distance.items[2]
    undone = by_title["Where training undoes a good start"]
    assert any("lattice: 2.52" in item for item in undone.items)
    assert not any("k-means, batch" in item for item in undone.items)


def test_the_recommendation_is_the_safest_arm_that_a_layer_can_use(table):
    ranks = ranking(table)
    assert ranks[-1].arm == "uniform"
    assert ranks[0].worst_end < 0.5
    words = recommendation(table)
    assert labels.look(ranks[0].arm).name in words[0]
    assert "VectorQuantizer(8, 256, init=init." in words[1]
    assert labels.look("kmeans_all").name not in " ".join(words)


def test_gaps_to_an_estimated_bound_carry_its_uncertainty(table):
    known, estimated = (table.row(s, "kmeans").metrics["final_gap_db"] for s in ("isotropic", "photos"))
    assert known.high - known.low < 0.1
    assert estimated.low < estimated.mean - 0.2
    assert estimated.high > estimated.mean + 0.2


def test_convergence_is_for_good_and_a_moving_curve_has_no_end():
    steps = np.arange(0, 500, 50)
    there = np.array([False, True, False, True, True, True, True, True, True, True])
    assert from_there_on(steps, there) == 150
    assert from_there_on(steps, np.append(there[:-1], False)) == math.inf
    flat, falling = np.full(10, 2.0), np.linspace(4, 2, 10)
    assert settled(steps, flat, 1)
    assert not settled(steps, falling, 1)


def test_terminal_tables_fit_eighty_columns(table):
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    for one in source_tables(table):
        console.print(one)
    text = console.export_text()
    assert "…" not in text
    assert "best of several" in text


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


class _Balanced(HTMLParser):
    """Every element that must be closed is, in order."""

    VOID = frozenset({"meta", "img", "br", "link", "hr"})

    def check(self, page: str) -> None:
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
