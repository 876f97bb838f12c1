"""What every study gets from the framework, shown on a study of coins."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import toy_study
from toy_study import STUDY, Settings
from typer.testing import CliRunner

from codebound.cli import app, studies
from codebound.errors import InputError
from codebound.reporting import kept
from codebound.reporting.claims import Status
from codebound.reporting.statistics import mean_interval
from codebound.reporting.tables import Column, cell_html, cell_text
from codebound.studies import registry
from codebound.studies.framework import report
from codebound.studies.framework.content import Content
from codebound.studies.framework.keep import keep
from codebound.studies.framework.results import load
from codebound.studies.framework.run import run

SECONDS = re.compile(r'"(?:cell_seconds|cpu_seconds|finished_at)": [^\n]+')


def cells(folder: Path) -> dict[str, str]:
    """The cells' files but for the times, and the files that they left."""
    found = {p.name: SECONDS.sub("", p.read_text()) for p in (folder / "cells").glob("*-*.json")}
    return found | {p.name: p.read_bytes().hex() for p in (folder / "throws").iterdir()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coins") / "run"
    run(STUDY, folder, Settings())
    return folder


def test_jobs_change_no_number_and_a_lonely_cell_runs_here(finished: Path, tmp_path: Path) -> None:
    run(STUDY, tmp_path / "run", Settings(), jobs=2)
    assert cells(tmp_path / "run") == cells(finished)
    assert load(STUDY, tmp_path / "run").cells["clock"]["process"] == os.getpid()


def test_what_is_finished_is_not_computed_again(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    kept = (folder / "cells" / "0-10.json").stat().st_mtime_ns
    (folder / "cells" / "1-10.json").unlink()
    seen: list[tuple[int, int]] = []
    run(STUDY, folder, Settings(), progress=lambda done, of: seen.append((done, of)))
    assert seen == [(6, 7), (7, 7)]
    assert (folder / "cells" / "0-10.json").stat().st_mtime_ns == kept
    assert cells(folder) == cells(finished)


def test_a_killed_run_goes_on(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, str(Path(toy_study.__file__)), str(folder)]
    killed = subprocess.Popen(command)
    while len(list(folder.glob("cells/*-*.json"))) < 2:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert 2 <= len(list(folder.glob("cells/*.json"))) < 7
    subprocess.run(command, check=True)
    assert cells(folder) == cells(finished)


def test_other_settings_are_refused_and_further_seeds_are_not(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    with pytest.raises(InputError, match="throws"):
        run(STUDY, folder, Settings(throws=(10,)))
    run(STUDY, folder, Settings(seeds=4))
    assert len(load(STUDY, folder).cells) == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "can't be read"),
        ("[]", "no cell of a study"),
        ('{"factors": {"seed": 9, "throws": 10}, "error": 1}', "of another cell"),
    ],
)
def test_a_damaged_or_foreign_cell_is_named(finished: Path, tmp_path: Path, text: str, message: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "cells" / "0-10.json").write_text(text)
    with pytest.raises(InputError, match=rf"cells/0-10\.json.*{message}.*delete it and run the same command"):
        load(STUDY, folder)


def test_what_a_cell_lacks_is_named(finished: Path) -> None:
    with pytest.raises(InputError, match=r"cells/0-10\.json has no 'colour'"):
        load(STUDY, finished).cells["0-10"]["colour"]


def test_a_run_with_nothing_to_report_is_refused(tmp_path: Path, finished: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for path in (folder / "cells").glob("*-*.json"):
        path.unlink()
    with pytest.raises(InputError, match="no finished cell"):
        load(STUDY, folder)
    with pytest.raises(InputError, match="holds a run of study 'coins', not 'compression'"):
        load(registry.declaration(registry.entry_of("compression")), folder)


def test_the_long_table_has_a_row_for_every_number(finished: Path) -> None:
    read = load(STUDY, finished)
    report.write(read)
    for table in (
        pd.read_csv(finished / "results.csv"),
        pd.read_parquet(finished / "results.parquet"),
    ):
        assert list(table.columns) == ["throws", "seed", "metric", "value", "unit"]
        assert len(table) == 3 * 2 * 2
        one = table[(table.seed == 1) & (table.throws == 10) & (table.metric == "heads")]
        assert one["value"].item() == read.cells["1-10"]["heads"]
    errors = [read.cells[f"{seed}-10"]["error"] for seed in range(3)]
    assert read.table.interval("error", throws=10).mean == pytest.approx(sum(errors) / 3)
    assert read.table.difference("error", {"throws": 10}, throws=10) == mean_interval([0.0] * 3)
    with pytest.raises(ValueError, match="levels of throws decide"):
        read.table.values("error")


def test_claims_name_cells_by_their_levels(finished: Path) -> None:
    read = load(STUDY, finished)
    verdicts = {verdict.claim.id: verdict for verdict in read.verdicts}
    ratio = verdicts["long"].interval
    assert ratio is not None
    assert ratio.n == 3
    best = verdicts["best"]
    smallest = [min(read.cells[f"{seed}-{n}"]["error"] for n in (10, 1000)) for seed in range(3)]
    assert best.interval is not None
    assert best.interval.mean == pytest.approx(sum(smallest) / 3)
    assert best.status is Status.CONFIRMED
    assert verdicts["million"].reason == "throws 1000000 is not in this run"
    assert verdicts["rare"].reason == "no series was long enough"


def test_results_hold_the_common_keys_and_the_studys_own(finished: Path) -> None:
    report.write(load(STUDY, finished))
    results = json.loads((finished / "results.json").read_text())
    assert results["complete"]
    assert results["question"] == STUDY.entry.question
    assert [row["throws"] for row in results["rows"]] == [10, 1000]
    assert results["claims"][0]["cell"] == {"throws": 1000}
    assert results["seconds"]["cells"] > 0


def test_a_page_is_written_again_only_after_a_change(finished: Path, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)

    def written() -> int:
        return report.refresh(load(STUDY, folder)).stat().st_mtime_ns

    first = written()
    assert written() == first
    cell = folder / "cells" / "0-10.json"
    cell.write_text(cell.read_text().replace('"heads": ', '"heads": 1'))
    second = written()
    assert second > first
    code = tmp_path / "toy_study.py"
    code.write_text("# changed")
    monkeypatch.setattr(sys.modules["toy_study"], "__file__", str(code))
    monkeypatch.setattr(STUDY.__class__, "claims_file", "")
    assert written() > second


def test_an_unfinished_run_says_what_is_missing(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "cells" / "2-1000.json").unlink()
    read = load(STUDY, folder)
    assert read.missing == ("2-1000",)
    assert "2-1000" in report.write(read).read_text()
    assert json.loads((folder / "results.json").read_text())["missing_cells"] == ["2-1000"]


def test_a_page_starts_with_the_answer(finished: Path) -> None:
    page = report.write(load(STUDY, finished)).read_text()
    assert (
        page.index(load(STUDY, finished).content.answer) < page.index("They shrink.") < page.index("<table>")
    )
    with pytest.raises(ValueError, match="at most 5"):
        Content("t", "a", sentences=["s"] * 6)


def test_settings_come_from_a_preset_then_options_then_set() -> None:
    assert STUDY.configure([], {}).seeds == 3
    assert STUDY.configure(["quick"], {"most": (5,)}, ["pause=1"]) == Settings(
        seeds=2, throws=(5,), pause=1.0
    )
    with pytest.raises(InputError, match="has no --full; it has --quick"):
        STUDY.configure(["full"], {})


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1.0, 1.1, 0.9], "1.00"),
        ([1.0], "not known"),
        ([0.1, 9.0, -8.0], "not known"),
        ([0.01, -0.02, 0.03], "0.01"),  # near 0, and known to be
    ],
)
def test_a_gap_with_a_useless_interval_is_not_known(values: list[float], shown: str) -> None:
    column = Column("gap", 2, kind="gap")
    assert cell_text(column, mean_interval(values)).startswith(shown)
    assert (shown != "not known") == ("not known<small>" not in cell_html(column, mean_interval(values)))


def test_a_change_is_coloured_by_what_is_better() -> None:
    up, unsure = mean_interval([1.0, 1.1, 0.9]), mean_interval([1.0, -1.0])
    assert 'class="better"' in cell_html(Column("x", 1, kind="change", better="more"), up)
    assert 'class="worse"' in cell_html(Column("x", 1, kind="change", better="less"), up)
    assert "class" not in cell_html(Column("x", 1, kind="change", better="less"), unsure)


def test_the_registry_builds_a_command(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(registry.STUDIES, "coins", STUDY.entry)
    made = studies.group("x")
    made.command("coins")(studies.command(STUDY.entry))
    made.command("other")(studies.list_studies)
    folder = tmp_path / "run"
    found = CliRunner().invoke(made, ["coins", "--quick", "--jobs", "1", "--out", str(folder), "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["settings"]["seeds"] == 2
    found = CliRunner().invoke(app, ["study", "report", str(folder)])
    assert found.exit_code == 0, found.output
    assert "the mean is off by" in found.output


def test_every_study_has_a_question_and_a_command() -> None:
    found = json.loads(CliRunner().invoke(app, ["study", "list", "--json"]).stdout)
    assert [row["study"] for row in found] == list(registry.STUDIES)
    assert all(row["question"].endswith("?") for row in found)
    for name in registry.STUDIES:
        assert CliRunner().invoke(app, ["study", name, "--help"]).exit_code == 0
        assert CliRunner().invoke(app, ["study", "show-config", name, "--quick"]).exit_code == 0


def test_help_imports_no_declaration() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from codebound.cli import app; "
        "CliRunner().invoke(app, ['study', 'compression', '--help']); "
        "print('codebound.studies.compression.study' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_claims_of_runs_as_one_page(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.STUDIES, STUDY.entry.name, STUDY.entry)
    monkeypatch.setattr(registry, "declaration", lambda entry: STUDY)
    page = tmp_path / "claims.md"
    result = CliRunner().invoke(app, ["study", "claims", str(finished), "--out", str(page)])
    assert result.exit_code == 0, result.output
    rows = [line.split(" | ") for line in page.read_text().splitlines() if line.startswith("| A ")]
    verdicts = {v.claim.statement: v.status.value for v in load(STUDY, finished).verdicts}
    assert {row[0].removeprefix("| "): row[-1].removesuffix(" |") for row in rows}.items() <= verdicts.items()
    assert len(rows) == 2
    assert f"[{STUDY.entry.name}](#" in page.read_text()

    # A kept run gives the same page, from its file or from a folder of them.
    kept_file = tmp_path / "kept" / "toy.json"
    result = CliRunner().invoke(app, ["study", "keep", str(finished), "--out", str(kept_file)])
    assert result.exit_code == 0, result.output
    for source in (kept_file, kept_file.parent):
        again = CliRunner().invoke(app, ["study", "claims", str(source)])
        assert again.output.split("\n## ")[1] == page.read_text().rstrip().split("\n## ")[1] + "\n"

    # One of a study that this version has not comes last, and is there.
    foreign = kept_file.read_text().replace(f'"study": "{STUDY.entry.name}"', '"study": "a-foreign-one"', 1)
    (kept_file.parent / "foreign.json").write_text(foreign)
    again = CliRunner().invoke(app, ["study", "claims", str(kept_file.parent)])
    assert again.exit_code == 0, again.output
    assert 0 < again.output.index(f"[{STUDY.entry.name}](#") < again.output.index("[a-foreign-one](#")

    # A run that is not finished says nothing yet.
    (part := tmp_path / "part").mkdir()
    shutil.copytree(finished, part, dirs_exist_ok=True)
    (part / "cells" / "1-10.json").unlink()
    refused = CliRunner().invoke(app, ["study", "claims", str(part)])
    assert refused.exit_code != 0
    assert "1 cell missing" in re.sub(r"\s+", " ", refused.output)


@pytest.mark.parametrize(
    ("recorded", "kept_as"),
    [
        ("codebound study toy --out 'my runs/x' --set 'a=[1, 2]'", "codebound study toy --set 'a=[1, 2]'"),
        ("codebound study toy --out=x --jobs=-1 --quick", "codebound study toy --quick"),
        ("codebound study toy --jobs 2 --out x", "codebound study toy"),
        ("codebound study toy --set a=it's --out x", """codebound study toy --set 'a=it'"'"'s'"""),
    ],
)
def test_a_kept_command_is_without_folder_and_processes(
    recorded: str, kept_as: str, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    record = json.loads((tmp_path / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps({**record, "command": recorded}))
    assert keep(load(STUDY, tmp_path)).command == kept_as
    (tmp_path / "study.json").write_text(json.dumps({"study": record["study"]}))
    with pytest.raises(InputError, match=r"study\.json has no text for 'command'"):
        keep(load(STUDY, tmp_path))


def test_the_day_of_a_kept_run_is_not_that_of_its_copy(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    cells = sorted((tmp_path / "cells").glob("*.json"))
    for file in cells:
        os.utime(file, (0, 0))
    assert keep(load(STUDY, tmp_path)).date == keep(load(STUDY, finished)).date
    # Cells of before say no day: their files do.
    for file in cells:
        file.write_text(json.dumps(json.loads(file.read_text()) | {"finished_at": None}))
        os.utime(file, (86_400, 86_400))
    assert keep(load(STUDY, tmp_path)).date == "1970-01-02"


def test_a_kept_run_has_the_figures_of_the_long_table(finished: Path, tmp_path: Path) -> None:
    run = load(STUDY, finished)
    made = keep(run)
    (tmp_path / "toy.json").write_text(made.text(), encoding="utf-8")
    (back,) = kept.read(tmp_path)
    assert back == made
    assert back.settings == run.settings.model_dump(mode="json")
    assert back.rows
    for row in back.rows:
        for metric, (mean, low, high) in row.figures.items():
            interval = run.table.interval(metric, **row.levels)
            expected = (interval.mean, interval.low, interval.high)
            assert [mean, low, high] == [
                pytest.approx(x, rel=1e-5) if math.isfinite(x) else None for x in expected
            ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "study: Field required"),
        ("nonsense", "JSON"),
        (b"\xff\xfe", "can't be read"),
        (
            '{"study": "", "question": "", "command": "", "version": "", "machine": "", "date": "", "claims": [{"id": '
            '"", "topic": "", "source": "", "statement": "", "claimed": "", "reason": "", "cases": []}]}',
            "claims.0.cases: Tuple should have at least 1 item",
        ),
    ],
)
def test_what_is_no_kept_run_is_refused_by_name(text: str | bytes, said: str, tmp_path: Path) -> None:
    (empty := tmp_path / "empty").mkdir()
    file = tmp_path / "other.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=said) as refused:
        kept.read(file)
    assert "other.json" in str(refused.value)
    with pytest.raises(InputError, match="neither a run nor files of kept runs"):
        kept.read(empty)
