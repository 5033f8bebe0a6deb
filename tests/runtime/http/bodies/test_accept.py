"""Whether a client gets a file as it is, by what it accepts."""

from __future__ import annotations

import pytest

from runtime.http.bodies.accept import prefers_file


@pytest.mark.parametrize(
    ("accept", "is_file"),
    [
        ([], True),
        ([""], True),
        (["*/*"], True),
        (["image/png"], True),
        (["image/*"], True),
        (["IMAGE/PNG"], True),
        (["application/json"], False),
        (["application/x-ndjson"], False),
        (["text/html"], False),  # neither: JSON can always be given
        (["image/jpeg"], False),
        (["application/json, text/plain, */*"], True),  # what libraries of browsers send
        (["image/png, application/json"], True),
        (["image/png;q=0.5, application/json"], False),
        (["image/png, application/json;q=0.9"], True),
        (["application/json", "image/png"], True),
        (["application/json;q=0.2, */*;q=0.1"], False),
        (["image/png;q=0, */*"], False),
        (["image/png;q=0"], False),
        (["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"], True),
        (["*/*;q=x"], True),  # a weight that is none asks for nothing
    ],
)
def test_when_the_file_is_sent(accept: list[str], *, is_file: bool):
    """Of a function that answers PNG."""
    assert prefers_file(accept, "image/png") is is_file


def test_a_file_may_be_json():
    """Its type is what JSON is asked for by; parameters decide nothing."""
    assert prefers_file(["application/json"], "application/json")
    assert prefers_file(["text/csv"], "Text/CSV; charset=utf-8")
