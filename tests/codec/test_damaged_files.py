"""A short run of tools/fuzz.py: golden files with changes, many of them under right checksums."""

import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "fuzz.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["indices", "pictures", "sound", "vectors"])
def test_damaged_files_are_refused_or_decode_to_what_was_written(fuzz, kind: str) -> None:
    said = fuzz.fuzz(kind, 500, seed=1)
    assert said.startswith(f"500 files of {kind}; "), said


@pytest.mark.parametrize("kind", ["indices", "pictures", "sound", "vectors"])
def test_the_fuzzer_sees_what_is_right_and_what_is_not(fuzz, kind: str) -> None:
    case = fuzz.cases(kind)[0]
    assert fuzz.judge(case.data, case, repaired=False) == "right"
    assert case.repair(case.data) == case.data

    def wrong(_: bytes):
        return case.right + 1

    def failing(_: bytes):
        raise KeyError("no such thing")

    assert fuzz.judge(case.data, case._replace(decode=wrong), repaired=False) == "something wrong"
    assert "KeyError" in fuzz.judge(case.data, case._replace(decode=failing), repaired=False)
    changed = case.data[:-1] + bytes([case.data[-1] ^ 1])
    assert fuzz.judge(changed, case, repaired=False) == "refused"
