"""Calls are read from JSON Lines; a damaged line is refused with its number, or left out."""

from __future__ import annotations

import pytest

from deployments.loadtest.calls.load_call import RecordedAnswer
from deployments.loadtest.calls.rows import read_calls
from deployments.loadtest.refusal import LoadTestRefused


def test_rows_of_one_function_and_calls_of_any(tmp_path):
    """Empty lines are none."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a"}\n\n{"text": "b"}\n')
    assert [(one.function, one.body) for one in read_calls(rows, "f", should_skip=False)] == [
        ("f", {"text": "a"}),
        ("f", {"text": "b"}),
    ]
    calls = tmp_path / "calls.jsonl"
    calls.write_text(
        '{"function": "g", "body": [1], "headers": {"x-a": "b"}, "answer": null}\n'
        '{"function": "h", "body": {}}\n'
    )
    first, second = read_calls(calls, "", should_skip=False)
    assert first[:4] == ("g", [1], {"x-a": "b"}, RecordedAnswer(None))
    assert second[:4] == ("h", {}, {}, None)
    assert (first.source.path, first.line, second.line) == (calls, 1, 2)


@pytest.mark.parametrize(
    ("line", "function", "reason"),
    [
        ('{"text": ', "f", "unexpected end"),
        ('"a"', "f", "an object"),
        ("7", "f", "an object"),
        ('{"text": "a"}', "", "`function` and `body`"),
        ('{"function": "f", "body": {}, "anwser": 1}', "", "'anwser'"),
        ('{"function": "f", "body": {}, "headers": {"a": 1}}', "", "`headers`"),
        ("[" * 5000, "f", ""),
    ],
)
def test_a_damaged_line(tmp_path, line, function, reason):
    """Is refused with its number and reason, and left out where that is asked for."""
    good = '{"a": 1}' if function else '{"function": "f", "body": {}}'
    file = tmp_path / "calls.jsonl"
    file.write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(LoadTestRefused) as refused:
        read_calls(file, function, should_skip=False)
    assert f"{file}:2: " in refused.value.message
    assert reason in refused.value.message
    assert "--skip-bad" in refused.value.message
    assert len(read_calls(file, function, should_skip=True)) == 2


@pytest.mark.parametrize("content", ["", "\n\n", "{\n"])
def test_a_file_without_calls_is_refused(tmp_path, content):
    """Also where all that it has is left out."""
    file = tmp_path / "calls.jsonl"
    file.write_text(content)
    with pytest.raises(LoadTestRefused, match="has no calls"):
        read_calls(file, "f", should_skip=True)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    """With its name."""
    with pytest.raises(LoadTestRefused, match=r"nothing\.jsonl cannot be read: No such file"):
        read_calls(tmp_path / "nothing.jsonl", "f", should_skip=True)
