"""The population study: its settings, its simulation against the layer, cells, results, findings."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from codebound import VectorQuantizer, config
from codebound.errors import InputError
from codebound.quantize.revival import Never
from codebound.quantize.update import EMA as LayerEMA
from codebound.studies.framework import report
from codebound.studies.framework.results import StudyRun, load
from codebound.studies.framework.run import run
from codebound.studies.population import animation, findings, lifetimes
from codebound.studies.population.cell import measure
from codebound.studies.population.settings import Scenario, Settings, package_scenarios
from codebound.studies.population.simulation import Simulation, generator, simulate, source, starts
from codebound.studies.population.study import STUDY
from codebound.studies.population.summary import ScenarioResult, result

BASE = {"codebook_size": 8, "batch_size": 16, "init": "normal", "std": 2.0, "source": "gaussian", "dim": 2}


def scenario(**changes) -> Scenario:
    return Scenario(**{"name": "mine", "update": "ema", "decay": 0.9, **BASE, **changes})


def small(**changes) -> Settings:
    two = (
        {"name": "a", "update": "ema", "decay": 0.9, **BASE},
        {"name": "b", "update": "sgd", "lr": 1.0, "revival": True, **BASE},
    )
    return config.build(Settings, {"scenarios": two, "window": 10, "windows": 3, "codewords": 48, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> StudyRun[Settings]:
    """Two small scenarios with their report; the cells that are the same in every run are short."""
    out = tmp_path_factory.mktemp("population") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(animation, "FRAMES", 2)
        patch.setattr(lifetimes, "DECAYS", (0.9,))
        patch.setattr(lifetimes, "SHARES", (0.01,))
        run(STUDY, out, small())
    loaded = load(STUDY, out)
    report.write(loaded)
    return loaded


def results_of(finished: StudyRun[Settings]) -> dict:
    return json.loads((finished.folder / "results.json").read_text())


def test_the_package_s_scenarios() -> None:
    scenarios = package_scenarios(sweep=True)
    assert len({s.name for s in scenarios}) == len(scenarios)
    by_role = {
        role: [s for s in scenarios if s.role == role] for role in ("held_out", "development", "sweep")
    }
    assert len(by_role["held_out"]) == 6
    assert len(by_role["development"]) == 10

    def facts(s: Scenario) -> str:
        return str(s.model_dump(exclude={"name", "role", "varied"}))

    assert not {facts(s) for s in by_role["held_out"]} & {facts(s) for s in by_role["development"]}
    assert {s.varied for s in by_role["sweep"] if s.update == "sgd"} == {
        "", "codebook_size", "batch_size", "lr", "init", "source",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["gaussian", "laplace", "cube", "mixture"])
def test_sources_have_unit_variance(name) -> None:
    z = source(name, 3)(200_000, torch.Generator().manual_seed(0))
    assert z.isfinite().all()
    assert z.var(0).mean() == pytest.approx(1.0, abs=0.4 if name == "mixture" else 0.02)


def test_the_simulation_is_the_layer() -> None:
    """One codebook, the same tokens: hits and codewords as `VectorQuantizer` has them."""
    case = scenario()
    begin = starts(case, 1, generator(case, 0, "starts"))
    simulation = Simulation(case, source("gaussian", 2), begin, generator(case, 0, "batches"))
    layer = VectorQuantizer(2, 8, update=LayerEMA(0.9), revival=Never())
    layer.codebook.reset_(begin[0])
    stream = generator(case, 0, "batches")
    for _ in range(20):
        hits = simulation.step()[0]
        result = layer(torch.randn(16, 2, generator=stream))
        assert torch.bincount(result.indices.view(-1), minlength=8).tolist() == hits.tolist()
        layer.update_(result)
    assert torch.allclose(simulation.state.codewords[0], layer.codebook.codewords(), atol=1e-6)


def test_sgd_is_the_gradient_of_the_codebook_loss() -> None:
    case = scenario(update="sgd", lr=0.3)
    begin = starts(case, 2, generator(case, 0, "starts"))
    simulation = Simulation(case, source("gaussian", 2), begin, generator(case, 0, "batches"))
    z = torch.randn(32, 2, generator=generator(case, 0, "batches")).view(2, 16, 2)
    table = begin.clone().requires_grad_()
    loss = (z[:, :, None] - table[:, None]).square().sum(-1).amin(-1).mean(1).sum()
    loss.backward()
    assert table.grad is not None
    simulation.step()
    assert torch.allclose(simulation.state.codewords, begin - 0.3 * table.grad, atol=1e-6)


def test_revival_empties_the_graveyard() -> None:
    case = scenario(revival=True, std=4.0, codebook_size=16)
    settings = small(windows=6)
    begin = starts(case, 6, generator(case, 0, "starts"))
    simulation = Simulation(case, source("gaussian", 2), begin, generator(case, 0, "x"))
    simulated = simulate(simulation, settings.schedule(case))
    dead = simulated.dead.mean(1)
    assert simulated.revived[0].sum() >= simulated.dead[0].sum()
    assert dead[-1] < 0.5 < dead[0]


@pytest.mark.slow
def test_a_cell_is_the_same_measured_again(finished: StudyRun[Settings]) -> None:
    again, before = measure(small(), small().scenarios[0]), finished.cells["a"]
    for who in ("simulation", "frozen", "mean_field", "shot_noise"):
        assert again[who] | {"seconds": 0} == before[who] | {"seconds": 0}


def test_the_film(finished: StudyRun[Settings]) -> None:
    gif = Image.open(finished.folder / "figures" / "film.gif")
    assert getattr(gif, "n_frames", 1) >= 2
    assert (finished.folder / "figures" / "film.gif").stat().st_size < 2_000_000
    film = results_of(finished)["film"]
    assert film["scenarios"][0]["codebook_size"] == 48
    for counts in film["counts"].values():
        assert [sum(frame) for frame in counts] == [48, 48]


def test_results_by_hand(finished: StudyRun[Settings]) -> None:
    cell, row = finished.cells["a"], results_of(finished)["rows"][0]
    end = np.array(cell["simulation"]["dead"])[:, -1]
    assert row["dead"]["mean"] == pytest.approx(end.mean())
    precision = 200 * end.std(ddof=1) / len(end) ** 0.5 / end.mean()
    assert row["two_standard_errors_percent"] == pytest.approx(precision)
    shot, flow = (np.array(cell[level]["dead"])[:, -1] for level in ("shot_noise", "mean_field"))
    error = {level: row["levels"][level]["error_percent"]["mean"] for level in row["levels"]}
    assert error["shot_noise"] == pytest.approx(100 * (shot - end).mean() / end.mean())
    assert len(flow) == 3  # of 6 starts
    assert error["mean_field"] == pytest.approx(100 * (flow - end[:3]).mean() / end.mean())


def test_the_long_table_has_every_window(finished: StudyRun[Settings]) -> None:
    cell, table = finished.cells["b"], finished.table
    for window in (1, 2, 3):
        at = {"setting": "b", "level": "shot_noise", "window": window}
        dead = [run[window - 1] for run in cell["shot_noise"]["dead"]]
        assert list(table.values("dead", **at).values()) == dead
        revived = [run[window - 1] for run in cell["shot_noise"]["revived"]]
        assert list(table.values("revived", **at).values()) == revived
    # What died in the first window can't be known; frozen cells say the same of all.
    died = [table.values("died", setting="b", level="simulation", window=window) for window in (1, 2, 3)]
    assert died[0] == {}
    assert [list(each.values()) for each in died[1:]] == np.array(cell["simulation"]["died"]).T.tolist()
    frozen = [table.values("dead", setting="b", level="frozen", window=window) for window in (1, 3)]
    assert frozen[0] == frozen[1] == dict(enumerate(cell["frozen"]["dead"]))


def cell(simulated: list[float], predicted: list[float]) -> dict:
    def of(values: list[float]) -> dict:
        rows = [[v, v] for v in values]
        none = [[0.0] for _ in values]
        return {"dead": rows, "died": none, "returned": none, "revived": [[0.0, 0.0] for _ in values]}

    return {
        "runs": len(simulated),
        "simulation": of(simulated),
        "frozen": {"dead": predicted},
        "mean_field": of(predicted),
        "shot_noise": of(predicted),
    }


@pytest.mark.parametrize(
    ("simulated", "predicted", "met", "judged"),
    [
        ([10, 10.2, 9.8, 10], [10.5, 10.4, 10.6, 10.5], True, True),
        ([10, 10.2, 9.8, 10], [12, 12.1, 11.9, 12], False, True),
        ([10, 2, 18, 10], [10, 10, 10, 10], None, False),
        ([0, 0, 1, 0], [0, 0, 0, 0], True, False),
        ([0, 0, 0, 0], [2, 2, 2, 2], None, False),
    ],
)
def test_the_verdict_follows_the_numbers(simulated, predicted, met, judged) -> None:
    row = result(scenario(role="held_out"), cell(simulated, predicted))
    assert row.theory.within_10_percent is met
    assert row.judged is judged
    misses = [item for finding in findings.findings([row]) for item in finding.items]
    assert len(misses) == (met is False)


def results(*cases: tuple[str, bool, float, float]) -> list[ScenarioResult]:
    """Of each role, with or without revival: so many of 8 codewords dead, simulated and predicted."""
    return [
        result(scenario(role=role, revival=revival), cell([dead] * 4, [predicted] * 4))
        for role, revival, dead, predicted in cases
    ]


def test_the_answer_counts_settings() -> None:
    said = findings.answer(
        results(("held_out", False, 2.0, 2.1), ("held_out", False, 4.0, 5.0), ("revival", True, 0.0, 0.0))
    )
    assert "25 to 50" in said
    assert "in 1 of 2 settings" in said
    assert "In 2 ways" in said  # revival is another thing
    assert "training 50" in findings.answer(results(("own", False, 4.0, 4.0)))


def test_the_page_has_its_figures(finished: StudyRun[Settings]) -> None:
    page = (finished.folder / "report.html").read_text(encoding="utf-8")
    assert results_of(finished)["complete"]
    assert ">nan" not in page
    assert "data:image/gif" in page
    names = {path.stem for path in (finished.folder / "figures").iterdir()}
    assert names == {
        "agreement", "own_dead", "own_died", "own_returned", "lifetimes", "film",
    }  # fmt: skip


def test_a_film_that_is_gone_is_named(finished: StudyRun[Settings], tmp_path) -> None:
    shutil.copytree(finished.folder, tmp_path / "run")
    (tmp_path / "run" / "figures" / "film.gif").unlink()
    with pytest.raises(InputError, match=r"film\.gif is missing"):
        report.write(load(STUDY, tmp_path / "run"))


def test_presets_set_the_size() -> None:
    quick, full = STUDY.configure(["quick"], {}), STUDY.configure(["full"], {})
    assert (quick.codewords, quick.sweep) == (1024, False)
    assert [cell.name for cell in STUDY.cells(full)[-2:]] == ["lifetimes", "film"]
    assert len(STUDY.cells(full)) - len(STUDY.cells(quick)) == 31


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"windows": 1}, "windows"),
        ({"scenarios": [{"name": "x y", "update": "ema", **BASE}]}, "name"),
        ({"scenarios": [{"name": "x", "update": "ema", **BASE}] * 2}, "different names"),
        ({"scenarios": [{"name": "x", "update": "ema", **BASE, "decay": 1.0}]}, "decay"),
        ({"scenarios": [{"name": "film", "update": "ema", **BASE}]}, "film"),
    ],
)
def test_bad_settings_are_named(values, named) -> None:
    with pytest.raises(InputError, match=named):
        config.build(Settings, values)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["D1", "D7", "D8"])
def test_shot_noise_within_ten_per_cent(name: str) -> None:
    """Three development settings end with enough dead codewords for a narrow interval: theory within 10 %."""
    chosen = next(s for s in package_scenarios(sweep=False) if s.name == name)
    row = result(chosen, measure(Settings(scenarios=(chosen,)), chosen))
    assert row.two_standard_errors_percent < 10
    assert row.theory.within_10_percent
