"""A run on disk: the same when read again, refused where it is another or damaged, bounded."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.loadtest.results import files
from deployments.loadtest.results.records import CallRecord, Promise, Run
from runtime.errors import DeclarationError, Problem
from tests.deployments.loadtest.made_runs import make_run, to_microseconds
from tests.problems import expect_values, place, problems_in


def test_a_run_is_read_as_it_was_written(tmp_path):
    """With every call, sample and promise; from its file or its folder."""
    run = replace(make_run(seconds=8), cautions=["recorded: 1 %"])
    files.write_run(run, tmp_path / "results")
    expected = to_microseconds(run)
    for path in (tmp_path / "results", tmp_path / "results" / "run.json"):
        assert files.read_run(path) == expected


seconds = st.integers(0, 10**12).map(lambda micro: micro / 1e6)
calls = st.builds(
    CallRecord,
    st.text(max_size=8),
    *(seconds, seconds, seconds),
    st.integers(0, 999),
    st.text(max_size=8),
    st.sampled_from([True, False, None]),
    st.none() | seconds,
    st.dictionaries(st.text(max_size=4), seconds, max_size=3),
    st.integers(0, 2**50),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(calls, max_size=files.MOST_STAGES // 3))
def test_any_calls_are_read_as_they_were_written(tmp_path_factory, made):
    """Whatever their order and names, of no more stages than are kept."""
    folder = tmp_path_factory.mktemp("run")
    run = Run(
        "http://x",
        "steady",
        {},
        1.0,
        0.0,
        1,
        0.0,
        {},
        {"f": Promise(warm=0.5)},
        made,
        [],
        [],
        notes=[],
        cautions=[],
    )
    files.write_run(run, folder)
    assert files.read_run(folder) == run


def test_a_call_takes_few_bytes(tmp_path):
    """Columns have no names in their rows."""
    run = make_run(seconds=20)
    files.write_run(run, tmp_path)
    assert (tmp_path / "run.json").stat().st_size < 80 * len(run.calls)


def test_what_a_server_names_is_bounded(tmp_path):
    """The most frequent codes and stages are kept, cut where they are long; of the others the
    status.
    """
    many = [
        CallRecord("f", at, at, at + 1, 500, f"{at} {'x' * 10**4}", stages={f"part{at}": 1.0})
        for at in range(3000)
    ]
    files.write_run(Run("", "", {}, 1, 0, 1, 0, {}, {}, many), tmp_path)
    read = files.read_run(tmp_path).calls
    codes = Counter(call.code for call in read)
    assert len(codes) == files.MOST_OUTCOMES + 1
    assert codes[files.OTHER_CODE] == 3000 - files.MOST_OUTCOMES
    assert {call.status for call in read} == {500}
    assert max(map(len, codes)) == files.LONGEST_NAME
    assert len({name for call in read for name in call.stages}) == files.MOST_STAGES


def test_a_code_is_never_a_formula(tmp_path):
    """In `calls.csv`, which a spreadsheet opens, nor more than one line."""
    hostile = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", 'a",b', "two\nlines", "\ud800"]
    made = [CallRecord("f", at, at, at, 500, code) for at, code in enumerate(hostile)]
    files.write_run(Run("", "", {}, 1, 0, 1, 0, {}, {}, made), tmp_path)
    with (tmp_path / "calls.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(hostile)
    assert all(row["code"][0] not in "=+-@" and "\n" not in row["code"] for row in rows)
    assert rows[0]["latency_ms"] == "0.000"


def test_the_old_file_stays_where_the_new_one_fails(tmp_path):
    """Nothing half-written, nothing left behind."""
    files.write_run(make_run(seconds=1), tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(TypeError):
        files.write_run(replace(make_run(seconds=1), notes=[object()]), tmp_path)  # type: ignore[list-item]
    assert (tmp_path / "run.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calls.csv", "run.json"]


def written() -> dict[str, Any]:
    """The content of a file with two calls."""
    made = [CallRecord("f", 0.5, 0.6, 0.7, 200, "", True), CallRecord("f", 1.5, 1.6, 1.7, 500, "x")]
    content: dict[str, Any] = json.loads(
        files._encode(Run("http://x", "steady", {"f": 1.0}, 2.0, 0.0, 1, 0.0, {}, {}, made))
    )
    return content


def changed(**columns: object) -> str:
    """A file of which columns of calls, which come first, are others."""
    calls = written()["calls"]
    return but(calls={**columns, **{name: calls[name] for name in calls if name not in columns}})


def but(**keys: object) -> str:
    """A file of which keys, which come first, are others."""
    return json.dumps(
        {**keys, **{name: value for name, value in written().items() if name not in keys}}
    )


@pytest.mark.parametrize(
    ("text", "where", "values"),
    [
        ("", "0", ["0 bytes"]),
        (json.dumps(written())[:150], "0", ["in the middle", "150 bytes"]),
        (json.dumps(written())[:-1], "0", ["in the middle"]),
        ("function,intended_s\nf,0.5\n", "0", ["line 1", "no JSON"]),
        ('{"wakeful_run": NaN}', "0", ["no JSON"]),
        ("[" * 100_000, "0", ["JSON"]),
        ("[]", "wakeful_run", ["another program"]),
        ('{"metrics": {"http_reqs": 1}}', "wakeful_run", ["another program", "run.json"]),
        (but(wakeful_run=0), "wakeful_run", ["0", "1"]),
        (but(wakeful_run=2), "wakeful_run", ["2", "1"]),
        (but(wakeful_run=True), "wakeful_run", ["true"]),
        (but(wakeful_run="1"), "wakeful_run", ["'1'"]),
        (but(seconds="60"), "seconds", ["number"]),
        (but(more=1), "more", ["Extra"]),
        (but(prices={"gold": 1.0}), "prices.gold.[key]", ["cpu"]),
        (but(functions=[]), "0", ["calls.function", "0"]),
        (but(outcomes=[[200, ""]]), "0", ["calls.outcome", "1"]),
        (but(outcomes=[["200", ""]]), "outcomes[0][0]", ["integer"]),
        (changed(done_us=[1]), "calls", ["done_us", "1", "2"]),
        (changed(is_warm=[True]), "calls", ["is_warm", "1", "2"]),
        (changed(stages_us={"model": [1, 2, 3]}), "calls", ["stages_us.model", "3", "2"]),
        (changed(sent_us=[1, 0.5]), "calls.sent_us[1]", ["integer"]),
        (changed(sent_us=[1, 10**20]), "calls.sent_us[1]", ["integer"]),
        (changed(outcome=[0, -1]), "calls.outcome[1]", ["greater"]),
    ],
)
def test_a_file_that_is_no_run_is_refused(tmp_path, text, where, values):
    """With what is wrong, where, and what to do."""
    problem = refused(tmp_path, text)[0]
    assert place(problem) == where
    expect_values(problem.message, *values)


def refused(folder, text: str) -> tuple[Problem, ...]:
    """The problems of a file that is read as a run."""
    (folder / "run.json").write_text(text)
    with pytest.raises(DeclarationError) as caught:
        files.read_run(folder / "run.json")
    return problems_in(caught.value)


def test_a_damaged_file_has_few_problems(tmp_path):
    """However many rows are wrong."""
    assert len(refused(tmp_path, changed(sent_us=["x"] * 5000))) == files.MOST_PROBLEMS


def test_a_file_that_is_not_there(tmp_path):
    """With the name that was probably meant."""
    files.write_run(make_run(seconds=1), tmp_path)
    with pytest.raises(DeclarationError) as caught:
        files.read_run(tmp_path / "runs.json")
    expect_values(caught.value, "runs.json", "'run.json'")


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    """Is not parsed; and more calls than fit are not written."""
    files.write_run(make_run(seconds=1), tmp_path)
    monkeypatch.setattr(files, "MOST_BYTES", 1000)
    with pytest.raises(DeclarationError) as caught:
        files.read_run(tmp_path)
    expect_values(caught.value, "MiB")
    monkeypatch.setattr(files, "MOST_CALLS", 10)
    with pytest.raises(ValueError, match="too many"):
        files.write_run(make_run(seconds=1), tmp_path / "other")
    assert not (tmp_path / "other").exists()
