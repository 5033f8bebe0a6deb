"""What keys do to the live table."""

from __future__ import annotations

import functools

import pytest

from deployments.cli.operations.live.keyboard import MOST_SEARCHED, Choice, press, read_keys
from deployments.cli.operations.live.rows import SORT_KEYS, RowKey

ROWS = [RowKey("", name) for name in "abcdefghij"]


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (b"q", ["q"]),
        (b"\x1b", ["escape"]),
        (b"\x1b[A\x1bOB\x1b[5~x", ["up", "down", "page_up", "x"]),
        (b"\x1b[200~paste\x1b[201~", list("paste")),
        (b"\x1b[1;5C", []),
        ("é☃".encode(), ["é", "☃"]),
        (b"\xff\x80\x00\x07", []),
        (b"\r\x7f", ["enter", "erase"]),
        (b"", []),
    ],
)
def test_bytes_to_keys(typed, keys):
    """Sequences of terminals, characters, and what is neither."""
    assert read_keys(typed) == keys


def pressed(choice: Choice, *keys: str) -> Choice:
    """One after the other."""
    return functools.reduce(lambda so_far, key: press(so_far, key, ROWS, page=4), keys, choice)


@pytest.mark.parametrize(
    ("keys", "selected"),
    [
        (["down"], "b"),
        (["down", "j", "up"], "b"),
        (["up"], "a"),
        (["end"], "j"),
        (["end", "page_up"], "g"),
        (["page_down", " "], "g"),
        (["G", "down", "g", "k"], "a"),
    ],
)
def test_a_row_is_selected(keys, selected):
    """By steps and pages, never beyond an end; a page shows one row of that before."""
    assert pressed(Choice(), *keys).selected == RowKey("", selected)


def test_what_is_selected_is_gone():
    """Then the first row is where keys begin; without rows they do nothing."""
    assert pressed(Choice(selected=RowKey("", "z")), "down").selected == RowKey("", "b")
    assert press(Choice(), "down", [], 4).selected is None


def test_a_search_is_typed():
    """Letters are no keys meanwhile; arrows still are."""
    typing = pressed(Choice(), "/", "q", "r", "x", "erase", " ", "down")
    assert (typing.search, typing.is_typing, typing.has_ended) == ("qr ", True, False)
    assert typing.selected == RowKey("", "b")
    done = pressed(typing, "enter")
    assert (done.search, done.is_typing) == ("qr ", False)
    assert pressed(done, "escape").search == ""
    assert pressed(typing, "escape") == pressed(Choice(selected=typing.selected))
    assert pressed(typing, "page_up", "left").search == "qr "
    assert len(pressed(Choice(is_typing=True), *"x" * 100).search) == MOST_SEARCHED


def test_the_column_to_sort_by():
    """Arrows go round; another column is sorted in its own direction."""
    names = list(SORT_KEYS)
    assert pressed(Choice(sort=names[0]), "<").sort == names[-1]
    assert pressed(Choice(sort=names[-1]), "right").sort == names[0]
    assert pressed(Choice(), "r").is_reversed
    assert not pressed(Choice(), "r", ">").is_reversed


def test_the_end():
    """`q` ends it, and what is no key does nothing."""
    assert pressed(Choice(), "q").has_ended
    assert pressed(Choice(), "x", "enter", "erase", "redraw") == Choice()
