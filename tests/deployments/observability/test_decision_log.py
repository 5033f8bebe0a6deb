"""The file of decisions."""

from __future__ import annotations

import json

from deployments.observability import logs
from deployments.observability.logs import DecisionLog, read_decisions


def test_a_line_each_and_a_bounded_file(tmp_path, monkeypatch):
    """When it is full it becomes the file before; older ones go."""
    monkeypatch.setattr(logs, "MAX_BYTES", 500)
    kept = DecisionLog(tmp_path / "decisions.jsonl")
    for number in range(20):
        kept.write("f", f"{number} → {number + 1}: why", replicas=number)
    lines = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    assert lines[-1]["why"] == "19 → 20: why"
    assert {path.name for path in tmp_path.iterdir()} == {"decisions.jsonl", "decisions.jsonl.1"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1200


def test_the_latest_of_a_function_are_read_again(tmp_path, monkeypatch):
    """Over both files, without those of others; none where nothing was decided."""
    assert read_decisions(tmp_path, "f") == []
    monkeypatch.setattr(logs, "MAX_BYTES", 500)
    kept = DecisionLog(tmp_path / "decisions.jsonl")
    for number in range(20):
        kept.write("fg"[number % 2], str(number))
    assert [entry["why"] for entry in read_decisions(tmp_path, "f", most=3)] == ["14", "16", "18"]


def test_a_line_that_was_cut_is_skipped(tmp_path):
    """A full disk may cut one, and the next is written right behind it."""
    kept = DecisionLog(tmp_path / "decisions.jsonl")
    kept.write("f", "first")
    with (tmp_path / "decisions.jsonl").open("a") as file:
        file.write('{"at": 1, "func\n7\n{}\n')
    kept.write("f", "last")
    assert [entry["why"] for entry in read_decisions(tmp_path, "f")] == ["first", "last"]


def test_what_others_decisions_say_is_theirs(tmp_path):
    """Also where they have a line of this one's in their text, or what other programs take for the
    end of a line.
    """
    kept = DecisionLog(tmp_path / "decisions.jsonl")
    kept.write("g", 'as "function": "f" says', function_of='"function": "f"')
    kept.write("f", "it fails:\u2028 café", of={"function": "g"})
    assert [entry["why"] for entry in read_decisions(tmp_path, "f")] == ["it fails:\u2028 café"]
    assert [entry["of"] for entry in read_decisions(tmp_path, "f")] == [{"function": "g"}]
    assert [entry["function"] for entry in read_decisions(tmp_path, "g")] == ["g"]


def test_a_file_of_any_bytes_has_no_decisions(tmp_path):
    """A disk may have lost some."""
    (tmp_path / "decisions.jsonl").write_bytes(b'"function": "f" \xff\n\xff"function": "f"')
    assert read_decisions(tmp_path, "f") == []
