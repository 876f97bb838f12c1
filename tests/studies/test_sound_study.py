"""The study of sound, with a small model on recordings of the package."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest

from codebound import config
from codebound.codec.other_sounds import aligned, codec2, g722, opus
from codebound.data.sound_pack import PACK, packed_sounds
from codebound.data.sound_reading import read_sound
from codebound.errors import InputError
from codebound.reporting.statistics import mean_interval
from codebound.studies.framework import report
from codebound.studies.framework.results import load
from codebound.studies.framework.run import run
from codebound.studies.sound.equal_bytes import gains
from codebound.studies.sound.study import STUDY, Settings, means, rate_at

MODEL = Path(__file__).parents[1] / "codec" / "golden_sounds" / "model"


@pytest.mark.slow  # PESQ and STOI: an extra that `make test-slow` installs
def test_a_run_tells_what_its_cells_measured(tmp_path: Path) -> None:
    settings = Settings(
        data=f"folder:{PACK}", model=str(MODEL), stages=(1, 4), opus=(6,), most=2, visqol=False, trade=2.0
    )
    run(STUDY, tmp_path, settings)
    finished = load(STUDY, tmp_path)
    report.write(finished)
    results = json.loads((tmp_path / "results.json").read_text())
    rows = {(row["codec"], row["setting"]): row for row in results["rows"]}
    ours = {(codec, stages) for codec in ("codebound", "weighed") for stages in (1, 4)}
    assert set(rows) == {*ours, ("opus", 6), ("g722", 64)}
    assert rows["weighed", 4]["kbit"]["mean"] < rows["codebound", 4]["kbit"]["mean"]
    assert {"kbit", "pesq", "stoi", "si_sdr"} == set(results["gains"][0])
    assert rows["g722", 64]["kbit"]["mean"] == pytest.approx(64, rel=0.001)
    assert rows["g722", 64]["pesq"]["mean"] > rows["opus", 6]["pesq"]["mean"]
    assert rows["codebound", 4]["kbit"]["mean"] > 2 * rows["codebound", 1]["kbit"]["mean"]
    assert rows["opus", 6]["pesq"]["mean"] > rows["codebound", 4]["pesq"]["mean"]
    # This small model is never as good as Opus, whose PESQ is what is asked for.
    assert results["aim"] == rows["opus", 6]["pesq"]["mean"]
    assert results["rate_at_aim"] is None


@pytest.mark.parametrize("wrong", [{"stages": ()}, {"opus": ()}, {"opus": (0,)}, {"opus": (511,)}])
def test_there_is_something_to_compare(wrong: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(InputError, match=f"setting {next(iter(wrong))}"):
        config.build(Settings, wrong)


def test_a_recording_that_nobody_can_judge_is_left_out() -> None:
    """PESQ is NaN where there is no utterance: the mean is that of the other recordings."""
    point = {"codec": "opus", "setting": 6, "kbit": 6.0}
    (row,) = means([{**point, "pesq": value} for value in (1.5, math.nan, 2.5)])
    assert row["pesq"].mean == 2.0


def test_where_a_curve_reaches_a_figure() -> None:
    rows = [
        {"kbit": mean_interval([k]), "pesq": mean_interval([p])}
        for k, p in ((2.0, 1.0), (4.0, 2.0), (6.0, 2.5))
    ]
    assert rate_at(rows, "pesq", 1.5) == pytest.approx(3.0)
    assert rate_at(rows, "pesq", 0.5) == 2.0
    assert rate_at(rows, "pesq", 3.0) is None


def test_gains_are_those_of_straight_lines_at_equal_bytes() -> None:
    def point(codec: str, kbit: float, pesq: float) -> dict[str, float | str]:
        return {"codec": codec, "setting": 1, "kbit": kbit, "pesq": pesq}

    plain = [point("codebound", 1.0, 1.0), point("codebound", 5.0, 3.0)]
    recordings = [
        [*plain, point("weighed", 3.5, 2.5 + more), point("weighed", 1.5, 1.5 + more)] for more in (0.1, 0.3)
    ]
    found = list(gains(recordings, "weighed", "codebound", ["pesq"]))
    assert [row["kbit"] for row in found] == [2, 3]
    for row in found:
        assert row["pesq"].mean == pytest.approx(0.2 + 0.25)
        assert row["pesq"].high - row["pesq"].mean == pytest.approx(
            12.706 * 0.1, rel=1e-3
        )  # t of one difference


def test_opus_is_aligned_and_counts_its_packets() -> None:
    samples = read_sound(packed_sounds()[0])[0][0]
    found = opus(samples.astype("int16"), 16_000, 16)
    assert found.samples.shape == samples.shape
    assert 0 < found.payload < found.bytes
    inner = samples[1000:50_000]
    best = max(range(-200, 201), key=lambda lag: float(inner @ found.samples[1000 + lag : 50_000 + lag]))
    assert best == 0


def test_g722_is_aligned_and_counts_its_bits() -> None:
    samples = read_sound(packed_sounds()[0])[0][0].astype("int16")
    found = g722(samples, 16_000)
    assert found.samples.shape == samples.shape
    assert found.bytes == found.payload == -(-len(samples) // 2)
    error = found.samples * 32768 - samples
    assert float(samples.astype(float) @ samples) > 30 * float(error @ error)
    with pytest.raises(InputError, match="16000 samples a second; got 8000"):
        g722(samples, 8_000)


def test_what_comes_late_is_moved() -> None:
    samples = np.random.default_rng(0).integers(-9000, 9000, 4000).astype(np.int16)
    late = np.concatenate([np.zeros(137), samples / 32768])
    assert np.array_equal(aligned(samples, late, 16_000), samples / 32768)


def test_codec2_is_there_or_named() -> None:
    """Parametric speech has no waveform to compare: its length, its bits, and that it is no silence."""
    samples = read_sound(packed_sounds()[0])[0][0].astype("int16")
    with pytest.raises(InputError, match="codec2 is 1000; 450, 700"):
        codec2(samples, 16_000, 1000)
    if importlib.util.find_spec("pycodec2") is None:
        with pytest.raises(InputError, match=r"codebound\[codec2\]"):
            codec2(samples, 16_000, 2400)
        return
    found = codec2(samples, 16_000, 2400)
    assert found.samples.shape == samples.shape
    assert 8 * found.bytes * 16_000 / len(samples) == pytest.approx(2400, rel=0.05)
    assert np.abs(found.samples).max() > 0.02
