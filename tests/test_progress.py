"""Who waits is told how far it is: after a while, now and then, and only while listening."""

import pytest
import torch

from codebound import VectorQuantizer, progress
from codebound.quantize.init import KMeans


@pytest.fixture
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "PAUSE", 0.0)


@pytest.mark.usefixtures("_in_no_time")
def test_k_means_tells_each_iteration() -> None:
    z = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    quantizer, heard = VectorQuantizer(4, 16, init=KMeans(iterations=3)), []
    with progress.to(heard.append):
        quantizer.init_(z)
    assert [(step.what, step.done, step.of) for step in heard] == [("k-means", i, 3) for i in (1, 2, 3)]
    assert sorted(step.seconds for step in heard) == [step.seconds for step in heard]
    quantizer.init_(z)
    assert len(heard) == 3  # nobody listens any more


def test_short_work_is_not_worth_a_word() -> None:
    heard: list[progress.Progress] = []
    with progress.to(heard.append):
        VectorQuantizer(4, 16).init_(torch.randn(400, 4))
    assert heard == []


def test_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 11.0, 12.5, 12.75, 13.75])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    heard: list[progress.Progress] = []
    with progress.to(heard.append):
        steps = progress.Steps("search", 9)
        for count in range(4):
            steps.done(count)
    assert heard == [progress.Progress("search", 1, 9, 2.5), progress.Progress("search", 3, 9, 3.75)]
