"""Settings: overrides, suggestions, fingerprints."""

from pathlib import Path

import pytest

from codebound import config
from codebound.errors import InputError
from codebound.studies.initialisation.settings import Settings


def test_overrides_are_yaml_and_validated() -> None:
    settings = config.with_overrides(
        Settings(), ["steps=100", "arms=[kmeans, best]", "lr=0.01", "sources=isotropic"]
    )
    assert (settings.steps, settings.arms, settings.lr) == (100, ("kmeans", "best"), 0.01)
    assert settings.sources == ("isotropic",)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepps=3", "did you mean 'steps'"),
        ("codebooksize=3", "did you mean 'codebook_size'"),
        ("steps", "key=value"),
        ("steps=many", "steps='many'"),
        ("steps=0", "steps=0"),
        ("codebook_size=1", "codebook_size=1"),
        ("arms=[kmeanz]", "kmeanz"),
        ("arms=[kmeans, kmeans]", "twice"),
        ("dim=65", "dim=65.*ambient_dim=64"),
        ("steps=[", "YAML"),
        ("codebook_size=5000", "init_batch=1000"),
        ("sources=[data]", "--data"),
    ],
)
def test_what_is_not_accepted_is_named(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        config.with_overrides(Settings(), [override])


def test_what_was_given_is_known() -> None:
    settings = config.with_overrides(config.build(Settings, {"steps": 100}), ["lr=0.01"])
    assert settings.model_fields_set == {"steps", "lr"}


def test_what_is_taken_over_contradicts_nothing_that_was_given() -> None:
    settings = config.build(Settings, {"steps": 100, "lr": 0.01})
    taken = config.taken_over(settings, {"steps": 100, "lr": 0.02, "dim": 8}, "run=a", own=("lr",))
    assert (taken.steps, taken.lr, taken.dim) == (100, 0.01, 8)
    with pytest.raises(InputError, match=r"lr=0\.01 contradicts run=a, which has lr=0\.02; leave it out"):
        config.taken_over(settings, {"lr": 0.02}, "run=a")


def test_settings_that_do_not_fit_together_are_one_sentence() -> None:
    with pytest.raises(InputError) as refused:
        config.with_overrides(Settings(), ["dim=65"])
    assert str(refused.value) == "dim=65 latent dimensions are more than ambient_dim=64"


def test_yaml_round_trip_and_fingerprint(tmp_path: Path) -> None:
    settings = Settings(steps=7)
    (tmp_path / "c.yaml").write_text(config.to_yaml(settings), encoding="utf-8")
    assert config.from_yaml(Settings, tmp_path / "c.yaml") == settings
    assert config.fingerprint(settings) == config.fingerprint(Settings(steps=7))
    assert config.fingerprint(settings) != config.fingerprint(Settings(steps=8))
    assert config.differences(settings, Settings(steps=8)) == ["steps: 7 → 8"]
