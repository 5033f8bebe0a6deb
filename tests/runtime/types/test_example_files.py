"""Files in an example, as plain data."""

from __future__ import annotations

import pytest

from runtime.types.example_files import file_named_by, find_files, replace_files


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"!file": "a.png"}, "a.png"),
        ({"!file": "a.png", "b": 1}, None),
        ({"!file": 1}, None),
        ({"file": "a.png"}, None),
        ("!file a.png", None),
        (None, None),
    ],
)
def test_a_file_is_a_mapping_of_one_key(value, path):
    """Anything else is a value."""
    assert file_named_by(value) == path


def test_files_are_found_at_any_depth():
    """With their places; the rest stays as it is."""
    example = {"a": {"!file": "1"}, "b": [1, {"c": {"!file": "2"}}], "d": None}
    assert list(find_files(example)) == [(("a",), "1"), (("b", 1, "c"), "2")]
    assert replace_files(example, lambda place, path: path * 2) == {
        "a": "11",
        "b": [1, {"c": "22"}],
        "d": None,
    }
    assert list(find_files({"!file": "whole.json"})) == [((), "whole.json")]
    assert list(find_files(None)) == []
