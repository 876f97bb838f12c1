"""The recorded numbers are still those of the code: quick runs of all studies, a training, ten files.

A training doubles a difference in the last bit many times over, and kinds of processors differ there. So all numbers
are compared where closed forms come out as recorded to the last bit; elsewhere those forms are, to nine digits.
"""

import gzip
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import record

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return json.loads(gzip.decompress((HERE / "numbers.json.gz").read_bytes()))


@pytest.fixture(scope="module")
def present(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Made anew, or read from the folder that the environment names, where `run.sh` was run before."""
    given = os.environ.get("CODEBOUND_RECORDED")
    folder = Path(given) if given else tmp_path_factory.mktemp("recorded")
    if not given:
        subprocess.run([str(HERE / "run.sh"), str(folder)], check=True, capture_output=True)
    return record.numbers(folder)


@pytest.fixture(scope="module")
def alike(recorded: dict[str, Any], present: dict[str, Any]) -> None:
    """Skips where the arithmetic is not that of the machine that the numbers were recorded on."""
    known = re.compile("/limits/(isotropic|anisotropic|raw)/")  # of photographs they are estimates
    forms = {name: value for name, value in recorded["studies"]["init"].items() if known.match(name)}
    found = {name: present["studies"]["init"].get(name) for name in forms}
    assert len(forms) > 50
    assert found == pytest.approx(forms, rel=1e-9, nan_ok=True)
    if record.differences(forms, found):
        pytest.skip("another kind of processor than the numbers are of: it rounds otherwise")


@pytest.mark.slow
@pytest.mark.usefixtures("alike")
@pytest.mark.parametrize("study", record.STUDIES)
def test_a_quick_run_of_a_study_has_the_recorded_numbers(study: str, recorded, present) -> None:
    assert record.differences(recorded["studies"][study], present["studies"][study]) == []


@pytest.mark.slow
@pytest.mark.usefixtures("alike")
def test_a_training_ends_in_the_recorded_tensors(recorded, present) -> None:
    assert record.differences(recorded["checkpoint"], present["checkpoint"]) == []


@pytest.mark.slow
@pytest.mark.usefixtures("alike")
def test_pictures_become_the_recorded_bytes(recorded, present) -> None:
    assert record.differences(recorded["compressed"], present["compressed"]) == []


def test_a_changed_number_is_a_difference() -> None:
    before = record.leaves({"a": [1.0, {"b": 2}], "seconds": 3.0, "text": "prose"})
    assert before == {"/a/0": 1.0, "/a/1/b": 2}
    assert record.differences(before, {"/a/0": 1.0, "/a/1/b": 3, "/c": 4}) == ["/a/1/b: 2 → 3"]
    assert record.differences(before, {"/a/0": 1.0}) == ["/a/1/b: 2 → None"]
