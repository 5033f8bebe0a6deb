from __future__ import annotations

import pytest

from runtime.system.messages import list_names, quote_names, suggest_name
from tests.problems import expect_values


@pytest.mark.parametrize(
    ("name", "text"),
    [("image", "'image'"), ("a\n\x1b[31m", r"'a\n\x1b[31m'"), ("x" * 100, f"'{'x' * 64}…'")],
)
def test_a_name_is_shown_escaped_and_cut(name: str, text: str) -> None:
    """A caller's name reaches a message without control characters and at most 64 characters of it."""
    assert quote_names(name) == text


@pytest.mark.parametrize(
    ("name", "meant"),
    [("INT322", "'INT32'?"), ("int32", "'INT32'?"), ("zzz", ""), ("I" * 1_000_000, "")],
)
def test_the_nearest_known_name_is_offered(name: str, meant: str) -> None:
    """A suggestion ignores case, says nothing when nothing is near, and takes no longer for a long
    name.
    """
    text = suggest_name(name, ["FP32", "INT32"])
    assert (meant in text, bool(text)) == (True, bool(meant))


def test_known_names_are_listed_up_to_a_limit() -> None:
    """A list of names stays readable however many there are."""
    listed = list_names(["a", "b", "c"], limit=2)
    expect_values(listed, "'a', 'b'", "1")
    assert "'c'" not in listed
    assert list_names([]) == "nothing"
