"""Studies of pictures take the shape of their tokenizers from one place, and runs of before go on."""

from importlib import import_module

import pytest

from codebound import config
from codebound.studies.framework.networks import StudyNetworks


@pytest.mark.parametrize(
    ("study", "fingerprint", "own"),
    [
        ("hierarchy", "df584be74576", {"width": 32, "depth": 1, "stride": 4, "batch_size": 64}),
        ("generation", "26352dc7e5ae", {"width": 32, "depth": 2, "stride": 4, "batch_size": 64}),
        ("transfer", "c3e2118fee7a", {"width": 32, "depth": 1, "stride": 4, "batch_size": 64}),
        ("adversary", "be6352ec64c9", {"width": 32, "depth": 2, "stride": 8, "batch_size": 32}),
    ],
)
def test_default_settings_are_those_of_runs_before(study: str, fingerprint: str, own: dict) -> None:
    # The fingerprint is what a run's finished cells are valid for: a change here is a change of numbers.
    settings = import_module(f"codebound.studies.{study}.settings").Settings()
    assert isinstance(settings, StudyNetworks)
    assert config.fingerprint(settings) == fingerprint
    assert {name: getattr(settings, name) for name in own} == own
    assert (settings.dim, settings.commitment, settings.seeds) == (16, 0.25, 3)
