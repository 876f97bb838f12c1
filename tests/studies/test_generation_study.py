"""The generation study on pictures of a stranger's folder: from cells to a report, and what adds up in it."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from codebound.errors import InputError
from codebound.reporting.claims import Status
from codebound.studies.framework import report
from codebound.studies.framework.results import load
from codebound.studies.framework.run import run
from codebound.studies.generation.study import STUDY
from codebound.tasks.prior import PriorTask

TINY = [
    "seeds=1", "sizes=[8]", "steps=4", "prior_steps=3", "neighbour_steps=4", "neighbour_hidden=8", "judge_steps=3",
    "width=8", "depth=1", "prior_width=16", "prior_depth=1", "samples=24", "guidances=[1, 2]", "held_out=48",
    "channels=1", "init_tokens=256", "batch_size=16",
]  # fmt: skip


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Bright and dark pictures of 16×16 in two folders of classes."""
    root, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    for name, level in (("bright", 200), ("dark", 50)):
        (root / name).mkdir()
        for number in range(300):
            pixels = (level + 40 * rng.random((16, 16))).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:03d}.png")
    return root


def test_from_cells_to_a_report(tmp_path, shapes, monkeypatch):
    # What each transformer's task says of the held-out pictures is kept, bits a picture without the class.
    held_out_bits, ask = [], PriorTask.held_out_bits

    def kept(task):
        bits = ask(task)
        held_out_bits.append(float(bits.mean()))
        return bits

    monkeypatch.setattr(PriorTask, "held_out_bits", kept)
    settings = STUDY.configure([], {"data": f"classes:{shapes}"}, [*TINY, "crop=16"])
    run(STUDY, tmp_path / "run", settings, jobs=1)
    read = load(STUDY, tmp_path / "run")
    page = report.write(read).read_text(encoding="utf-8")
    assert "the tokenizer loses" in page
    (cell,) = read.cells.values()
    assert (tmp_path / "run" / "pictures" / "0-8.png").exists()

    # The class costs one of two: a bit a picture, a sixteenth a token; no class for neighbours.
    assert set(cell["priors"]) == {"autoregressive", "masked", "neighbours"}
    assert set(cell["priors"]["neighbours"]["samples"]) == {"1"}
    autoregressive = cell["priors"]["autoregressive"]
    assert len(held_out_bits) == 2  # of the two transformers
    for kind, bits in zip(("autoregressive", "masked"), held_out_bits, strict=True):
        assert cell["priors"][kind]["bits_per_token"] == pytest.approx((bits + 1) / 16, rel=1e-6)
    for figures in autoregressive["samples"]["2"]["spaces"]:
        assert figures["pictures"] == 24
        assert ("right_class" in figures["samples"]) == (figures["space"] == "classifier")
        assert (
            figures["floor"]
            == autoregressive["samples"]["1"]["spaces"][figures["space"] != "classifier"]["floor"]
        )

    # The parts of a distance add up to what the samples have above the floor.
    at = {"codebook_size": 8, "prior": "masked", "guidance": 1.0, "space": "classifier"}
    parts = [read.table.values(name, **at)[0] for name in ("by_tokenizer", "by_prior")]
    floor = read.table.values("frechet", codebook_size=8, space="classifier", of="floor")[0]
    assert sum(parts) == pytest.approx(read.table.values("frechet", **at)[0] - floor)

    # No claim is about a training as short as that of --quick, nor the one at equal compute about unequal seconds.
    quick = replace(read, settings=STUDY.configure(["quick"], {}))
    assert {verdict.status for verdict in quick.verdicts} == {Status.NOT_TESTABLE}
    assert all("prior steps 40" in verdict.reason for verdict in quick.verdicts)
    long = replace(read, settings=STUDY.configure([], {}), cells=_with_seconds(read.cells, 40.0, 100.0))
    assert "share of the longer training 0.4" in long.verdicts[0].reason
    long = replace(long, cells=_with_seconds(read.cells, 100.0, 80.0))
    assert "codebook size 512" in long.verdicts[0].reason
    assert "autoregressive 100.0, masked" in " ".join(long.content.method)


def _with_seconds(cells, autoregressive, neighbours):
    """The cells as if these priors had been trained for so many seconds."""
    seconds = {"autoregressive": autoregressive, "neighbours": neighbours}
    found = {}
    for name, cell in cells.items():
        priors = {
            kind: {**prior, "seconds": seconds.get(kind, prior["seconds"])}
            for kind, prior in cell["priors"].items()
        }
        found[name] = replace(cell, content={**cell.content, "priors": priors})
    return found


def test_pictures_without_classes_are_refused():
    settings = STUDY.configure([], {"data": "photos"}, TINY)
    with pytest.raises(InputError, match="at least two classes"):
        STUDY.prepare(settings)


def test_augmentation_that_would_not_reach_the_priors_is_refused():
    with pytest.raises(InputError, match=r"flip=0\.5: this study augments no pictures"):
        STUDY.configure([], {}, ["flip=0.5"])
