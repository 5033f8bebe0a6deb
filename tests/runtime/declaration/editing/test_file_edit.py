"""A function is added to a file as lines, and the rest of the file stays as it is."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from runtime.declaration.editing.file_edit import format_entry, with_application
from runtime.declaration.yaml_reader import parse
from runtime.errors import StoreError

ROOT = Path(__file__).parents[4]
ENTRY = {"name": "b", "args": {"model": f"hf:o/r@{'1' * 40}", "task": "embedding"}}
LINES = format_entry(ENTRY)
NUMBERS = {
    "name": "c",
    "args": {
        "graph": [
            {"stage": "a", "onnx": "a.onnx", "rows": False},
            {"stage": "b", "onnx": "b.onnx"},
        ],
        "batching": {"max_batch_size": 8, "batch_wait_timeout_s": 1e-06},
    },
}
INDENTED = [f"  {line}" for line in LINES]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["applications:", *INDENTED]),
        ("# ours\n", ["# ours", "applications:", *INDENTED]),
        ("applications:\n", ["applications:", *INDENTED]),
        (
            "http_options: {port: 1}\n",
            ["http_options: {port: 1}", "applications:", *INDENTED],
        ),
        (
            "applications: # all\n  - name: a  # first\n\n# tail\nhttp_options: {port: 1}\n",
            [
                *("applications: # all", "  - name: a  # first", *INDENTED),
                *("", "# tail", "http_options: {port: 1}"),
            ],
        ),
        (
            "applications:\n- name: a\n  args:\n    onnx: a.onnx\n    # inner\n# end",
            [
                *("applications:", "- name: a", "  args:", "    onnx: a.onnx", "    # inner"),
                *(*LINES, "# end"),
            ],
        ),
        (
            "applications:\n  - name: a\n\n  - name: c\n    args: {description: 'x'}",
            [
                *("applications:", "  - name: a", "", "  - name: c"),
                *("    args: {description: 'x'}", "", *INDENTED),
            ],
        ),
        (
            "applications:\n  - name: a\n    text: |\n      # no comment\n",
            ["applications:", "  - name: a", "    text: |", "      # no comment", *INDENTED],
        ),
    ],
)
def test_lines_are_inserted_behind_the_last_application(text, expected):
    """With its indentation, and an empty line where others have one."""
    assert with_application(text, ENTRY).splitlines() == expected


def test_the_shipped_file_stays_as_it_is():
    """But for the new lines."""
    text = (ROOT / "serve_config.yaml").read_text()
    changed = with_application(text, ENTRY)
    assert changed.startswith(text.rstrip("\n"))
    before, after = parse(text, "").data, parse(changed, "").data
    assert after == {**before, "applications": [*before["applications"], ENTRY]}


@pytest.mark.parametrize(
    "text", ["applications: [{name: a}]\n", "{applications: [{name: a}]}\n", "applications: {}\n"]
)
def test_where_lines_have_no_place_they_are_said(text):
    """For people to add."""
    with pytest.raises(StoreError, match=r"Add by hand:\n  - name: b\n") as raised:
        with_application(text, ENTRY)
    assert "task: embedding" in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "applications:\n  - name: 'a\n# no comment, but text'\n",
        "applications:\n  - name: 'a\n\n'\n",
    ],
)
def test_lines_that_would_become_text_are_not_inserted(text):
    """What the file would say is read before it is believed: here they would be within quotes."""
    with contextlib.suppress(StoreError):
        data = parse(with_application(text, ENTRY), "").data
        assert data["applications"] == [*parse(text, "").data["applications"], ENTRY]


@pytest.mark.parametrize("name", ["a", "on", "1e3", "012", "a.b-c", "No"])
def test_a_name_means_itself_to_every_reader(name):
    """In quotes where YAML 1.1 or 1.2 has another meaning for it."""
    document = parse(with_application("", {"name": name, "args": {"task": name}}), "")
    assert document.problems == ()
    assert document.data["applications"] == [{"name": name, "args": {"task": name}}]


def test_lists_numbers_and_claims_are_written() -> None:
    """A small number without an exponent, which YAML 1.1 reads as a text."""
    changed = with_application("applications:\n- name: a\n", NUMBERS)
    assert parse(changed, "").data == {"applications": [{"name": "a"}, NUMBERS]}
    assert "0.000001" in changed
