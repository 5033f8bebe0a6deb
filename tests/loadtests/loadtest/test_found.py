"""What a run that goes on takes of the one before, and how a command's output is read."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from loadtests.command import Bench
from loadtests.loadtest.found import TABLE, load_once, nothing_found, read_printed

OPTIONS = ["--find-capacity", "--seed", "3"]


def never(*_: object) -> dict[str, object]:
    """Is not to be called."""
    raise AssertionError


@pytest.mark.parametrize(
    ("resumes", "kept", "is_taken"),
    [
        pytest.param(True, OPTIONS, True, id="the same"),
        pytest.param(True, ["--rps", "9"], False, id="of other options"),
        pytest.param(True, None, False, id="none is there"),
        pytest.param(False, OPTIONS, False, id="a run that begins anew"),
    ],
)
def test_what_was_found_before_is_taken(tmp_path, resumes, kept, is_taken):
    """By a run that goes on, where it was made in the same way; else it is made, and kept."""
    file = tmp_path / "search-3.json"
    if kept is not None:
        file.write_text(json.dumps({"rate": 80.0, "options": kept}))
    bench = Bench(quick=False, port=1, folder=tmp_path, resumes=resumes)
    load = never if is_taken else lambda options: {"rate": 90.0}
    found = load_once(bench, "search-3", OPTIONS, load)
    assert found == {"rate": 80.0 if is_taken else 90.0, "options": OPTIONS}
    assert json.loads(file.read_text()) == found


@pytest.mark.parametrize(
    "text",
    [
        '{"rate": 1}',
        '12 s: {no JSON} of this\n{"rate": 1}\n',
        'step 1\n{\n "rate": 1\n}\nwritten: {here}\n',
    ],
)
def test_the_json_of_a_command_is_found_among_its_progress(text):
    """It begins a line."""
    assert read_printed(text) == {"rate": 1}


def test_output_without_json_is_refused():
    """With its end."""
    with pytest.raises(ValueError, match="a step"):
        read_printed("it was ended after a step")


def test_a_run_goes_on_in_a_folder_that_is_named():
    """Another has none of it."""
    refused = CliRunner().invoke(TABLE.as_command(), ["--resume"])
    assert refused.exit_code == 2
    assert "--keep" in refused.output


@pytest.mark.parametrize(
    ("printed", "why"),
    [
        ({"steps": [], "words": "Nothing was tried."}, "Nothing was tried."),
        ({"steps": [{}], "words": "80 calls a second hold."}, ""),
        ({"was_limited": "it was 2 s late"}, "it was 2 s late"),
        ({"was_limited": ""}, ""),
    ],
)
def test_what_proves_nothing_is_not_kept(printed, why):
    """A search that tried nothing, and a run in which the generator was the limit."""
    assert nothing_found(printed) == why
