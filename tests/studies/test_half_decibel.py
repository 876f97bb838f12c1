"""The half-decibel study: its limits, what its codes reach beside them, and a run from cells to a report."""

import math

import pytest
import torch

from codebound.studies.framework import report
from codebound.studies.framework.results import load
from codebound.studies.framework.run import run
from codebound.studies.half_decibel import study
from codebound.studies.half_decibel.codes import CODES
from codebound.studies.half_decibel.sources import LABELS, draw
from codebound.studies.half_decibel.study import STUDY
from codebound.theory.gaussian import gap_db, water_filling


@pytest.mark.parametrize("name", ["spectrum", "laplace", "mixture"])
def test_limits_are_below_the_gaussian_of_equal_covariance(name):
    source = draw(name, 0, 10_000, 4096)
    dim = source.test.shape[1]
    assert not torch.equal(source.train[:10], source.test[:10])
    variances = torch.linalg.eigvalsh(torch.cov(source.test.double().t())).flip(0).clamp_min(0).numpy()
    gaussian = water_filling(variances, 2.0 * dim).distortion
    below = gap_db(gaussian, source.limit(2.0 * dim))
    # What a Laplace variable has less of is known: e/π of the Gaussian's.
    expected = {"spectrum": 0.0, "laplace": -10 * math.log10(math.e / math.pi)}
    assert below == pytest.approx(expected[name], abs=0.05) if name in expected else below > 1.0


@pytest.mark.parametrize("name", ["scalars", "zstd", "lloyd-max", "product", "faiss-pq", "faiss-sq4"])
def test_codes_are_above_the_bound_at_the_bits_they_say(name):
    if name.startswith("faiss"):
        pytest.importorskip("faiss")
    generator = torch.Generator().manual_seed(0)
    train, test = (torch.randn(10_000, 8, generator=generator) for _ in range(2))
    coded = CODES[name].work(train, test, CODES[name].fixed or 2.0, 0)
    error = float((coded.rows - test).double().square().sum(1).mean())
    expected = {"scalars": (1.4, 1.6), "zstd": (1.5, 3.0), "lloyd-max": (2.6, 2.9), "product": (1.4, 2.2),
                "faiss-pq": (1.4, 2.2), "faiss-sq4": (6.0, 12.0)}  # fmt: skip
    low, high = expected[name]
    assert low < gap_db(error, 8 * 4.0**-coded.bits) < high


def test_from_cells_to_a_report(tmp_path, monkeypatch):
    kept = ("trellis-256", "scalars", "lloyd-max")
    monkeypatch.setattr(study, "CODES", {name: CODES[name] for name in kept})
    settings = STUDY.configure([], {}, ["seeds=2", "sources=[spectrum]", "rates=[2]", "test=1024"])
    monkeypatch.setattr("codebound.studies.half_decibel.sources.VALUES", 1 << 15)
    run(STUDY, tmp_path / "run", settings, jobs=1)
    read = load(STUDY, tmp_path / "run")
    report.write(read)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert LABELS["spectrum"][0] in page
    assert "256 states misses the rate-distortion function by 0." in read.content.answer
    scalars = read.table.interval("above", source="spectrum", code="scalars", rate=2.0)
    assert (
        read.table.interval("above", source="spectrum", code="trellis-256", rate=2.0).mean
        < scalars.mean - 0.9
    )
    lloyd = read.table.interval("above", source="spectrum", code="lloyd-max", rate=2.0)
    assert lloyd.mean > scalars.mean

    # Equal bits are found between the points of a code.
    points = [{"code": "scalars", "bits": bits, "above": above} for bits, above in ((1.0, 1.4), (2.0, 1.6))]
    assert study._above_at(points, "scalars", 1.5) == pytest.approx(1.5)
    assert study._above_at(points, "scalars", 2.5) is None
    (verdict,) = [v for v in read.verdicts if v.claim.id == "lloyd-max-2"]
    assert "gaussian is not in this run" in verdict.reason
