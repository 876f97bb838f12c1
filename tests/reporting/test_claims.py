import math
from importlib.resources import files
from pathlib import Path

import pytest
from rich.console import Console

from codebound.errors import InputError
from codebound.reporting import claims
from codebound.reporting.claims import Case, Claim, NotMeasuredError, Status
from codebound.reporting.formatting import number
from codebound.reporting.tables import claims_table

CASE = Case(cell={"source": "s"}, metric="m", label="fresh data")


def one(expect, values, *, arm="a", facts=None, **claim):
    """The verdict on one claim, given {arm: values over seeds}."""

    def lookup(cell, metric):
        assert (cell["source"], metric) == ("s", "m")
        arm = cell["arm"]
        if arm not in values:
            raise NotMeasuredError(f"the arm '{arm}' is not in this run")
        return dict(enumerate(values[arm]))

    made = Claim(
        id="x",
        topic="Before training",
        source="a paper",
        statement="x",
        cell={"arm": arm},
        expect=expect,
        cases=(CASE,),
        theory="because {why}",
        **claim,
    )
    (verdict,) = claims.judge([made], lookup, facts)
    return verdict


VALUE = {"kind": "value", "value": 2.0}


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([1.95, 2.0, 2.05, 2.0], Status.CONFIRMED),
        ([2.5, 2.51, 2.52, 2.5], Status.REFUTED),
        ([2.1, 2.2, 2.3, 2.2], Status.INCONCLUSIVE),
        ([1.0, 3.0, 2.0, 2.0], Status.INCONCLUSIVE),  # wider than the range
        ([2.0], Status.NOT_TESTABLE),
    ],
)
def test_value_is_ten_per_cent(values, status):
    assert one(VALUE, {"a": values}).status is status


def test_ranges_are_inclusive_and_may_be_open():
    assert one({"kind": "range", "low": 0, "high": 5}, {"a": [0, 0, 0]}).status is Status.CONFIRMED
    assert one({"kind": "range", "low": 3000}, {"a": [math.inf] * 6}).status is Status.CONFIRMED
    assert one({"kind": "range", "low": 3000}, {"a": [math.inf] * 3}).status is Status.INCONCLUSIVE
    assert one({"kind": "range", "high": 1}, {"a": [2, 2.1, 2.2]}).status is Status.REFUTED


def test_counts_do_not_reach_below_zero():
    expect = {"kind": "range", "low": 0, "high": 5}
    assert one(expect, {"a": [0, 0, 1]}).status is Status.INCONCLUSIVE
    assert one(expect, {"a": [0, 0, 1]}, floor=0).status is Status.CONFIRMED


def test_ratios_are_paired():
    steps = {"a": [100, 200, 400], "b": [250, 500, 1000]}
    faster = {"kind": "ratio", "against": {"arm": "b"}, "low": 2, "high": 3, "inverse": True}
    verdict = one(faster, steps)
    assert verdict.status is Status.CONFIRMED
    assert verdict.interval is not None
    assert verdict.interval.mean == pytest.approx(2.5)


def test_seeds_left_out_decide_nothing():
    """Those that remain would be chosen by the result."""
    faster = {"kind": "ratio", "against": {"arm": "b"}, "low": 2, "high": 3, "inverse": True}
    never = math.inf
    verdict = one(faster, {"a": [100, 200, 400, never], "b": [250, 500, 1000, never]})
    assert verdict.status is Status.INCONCLUSIVE
    assert "1 of 4 seeds" in verdict.reason


def test_what_is_missing_is_named():
    assert "'a' is not in this run" in one(VALUE, {"b": [1, 2]}).reason
    assert "2 seeds" in one(VALUE, {"a": [2.0]}).reason
    never = {"a": [math.inf] * 3, "b": [math.inf] * 3}
    assert "neither" in one({"kind": "ratio", "against": {"arm": "b"}, "low": 2}, never).reason


def test_requirements_are_compared_with_the_run():
    def verdict(**facts):
        return one(VALUE, {"a": [2, 2.01]}, facts=facts, requires={"codebook_size": 256, "min_steps": 5000})

    assert verdict(codebook_size=256, steps=6000).status is Status.CONFIRMED
    assert (
        verdict(codebook_size=64, steps=6000).reason
        == "this run has codebook size 64; the claim is about 256"
    )
    assert verdict(codebook_size=256, steps=100).status is Status.NOT_TESTABLE
    assert verdict().status is Status.NOT_TESTABLE


def test_theory_is_shown_only_where_refuted_with_the_runs_figures():
    assert one(VALUE, {"a": [9, 9.1]}, facts={"why": "of 9"}).reason == "because of 9"
    assert one(VALUE, {"a": [9, 9.1]}).reason == "because (no why)"
    assert one(VALUE, {"a": [2, 2.01]}).reason == ""


def test_untested_says_where_it_is_settled():
    verdict = one({"kind": "untested", "why": "proved"}, {})
    assert (verdict.status, verdict.reason) == (Status.NOT_TESTABLE, "proved")


def test_bad_ledgers_are_refused(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(
        "claims: [{id: a, topic: t, source: p, statement: s, expect: {kind: value, value: 1, wrong: 2}}]"
    )
    with pytest.raises(InputError, match="wrong"):
        claims.load_claims(path)
    path.write_text(
        "claims:\n" + "  - {id: a, topic: t, source: p, statement: s, expect: {kind: value, value: 1}}\n" * 2
    )
    with pytest.raises(InputError, match="twice: a"):
        claims.load_claims(path)
    path.write_text("claims: [{id: a, topic: t, statement: s, expect: {kind: value, value: 1}}]")
    with pytest.raises(InputError, match="source"):
        claims.load_claims(path)
    for text in ("claims: [3]", "requires: [a]\nclaims: []"):
        path.write_text(text)
        with pytest.raises(InputError, match="must be a mapping"):
            claims.load_claims(path)
    with pytest.raises(InputError, match="No such file"):
        claims.load_claims(tmp_path / "none.yaml")


def test_the_files_source_holds_for_claims_that_name_none(tmp_path):
    path = tmp_path / "claims.yaml"
    claim = "id: {}, topic: t, statement: s, expect: {{kind: value, value: 1}}"
    path.write_text(
        "source: a report\nclaims:\n"
        f"  - {{{claim.format('a')}}}\n  - {{{claim.format('b')}, source: a paper}}\n"
    )
    assert [c.source for c in claims.load_claims(path)] == ["a report", "a paper"]


def test_the_ledger_of_this_study():
    ledger = claims.load_claims(Path(str(files("codebound.studies.initialisation") / "claims.yaml")))
    topics = [c.topic for c in ledger]
    assert topics.count("Before training") == 9  # error, dead codes, perplexity x three inits
    assert topics.count("After training") == 11  # error, dead codes, steps x three inits; two ratios
    assert topics.count("Theory") == 5
    assert all(c.requires["codebook_size"] == 256 for c in ledger)
    reachable = next(c for c in ledger if c.id == "theory-reachable")
    assert "{converse" in reachable.theory
    mute = [c.id for c in ledger if not isinstance(c.expect, claims.UntestedStatement) and not c.theory]
    assert mute == [], "a refuted claim is shown with a sentence from theory"


def test_the_table_fits_a_hundred_columns():
    verdict = one(VALUE, {"a": [9, 9.1]})
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(claims_table([verdict]))
    text = console.export_text()
    assert "REFUTED" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (2.0, "2"),
        (2.67245, "2.672"),
        (147456.0, "147,456"),
        (5.086e-6, "5.09e-06"),
        (math.inf, "∞"),
        (math.nan, "–"),
    ],
)
def test_numbers_read_well(x, text):
    assert number(x) == text
