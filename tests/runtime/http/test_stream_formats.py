"""Which form of a streamed answer a caller accepts."""

from __future__ import annotations

import pytest

from runtime.errors import NotAcceptable
from runtime.http.streaming import EVENTS, LINES, WHOLE, negotiate_format


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ([], EVENTS),
        ([""], EVENTS),
        (["*/*"], EVENTS),
        (["text/*"], EVENTS),
        (["text/event-stream"], EVENTS),
        (["TEXT/Event-Stream; charset=utf-8"], EVENTS),
        (["application/x-ndjson"], LINES),
        (["application/x-ndjson, */*"], LINES),
        (["*/*, application/x-ndjson"], LINES),
        (["*/*", "application/x-ndjson"], LINES),
        (["application/*"], LINES),
        (["application/json"], WHOLE),
        (["application/json, text/html"], WHOLE),
        (["application/json, text/plain, */*"], EVENTS),
        (["application/json, text/event-stream"], EVENTS),
        (["application/json, application/x-ndjson"], LINES),
        (["text/event-stream;q=0.5, application/x-ndjson"], LINES),
        (["text/event-stream;q=0.1, application/json;q=0.9"], WHOLE),
        (["application/json, */*;q=0.8"], WHOLE),
        (["*/*, text/event-stream;q=0"], LINES),
        (["text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"], EVENTS),
        (["text/event-stream;q=none"], EVENTS),
    ],
)
def test_the_form_that_the_caller_likes_best(accept, form):
    """By weight, then by name before wildcard, then streaming before whole."""
    assert negotiate_format(accept) is form


def test_an_endless_accept_is_read_in_part():
    """60,000 ranges took 24 ms of an event loop."""
    assert negotiate_format(["application/json," + "," * 60_000]) is WHOLE
    assert negotiate_format(["application/json"] + ["a/b"] * 60_000) is WHOLE
    assert negotiate_format(["application/json" + ";a=b" * 15_000]) is WHOLE
    with pytest.raises(NotAcceptable):
        negotiate_format(["a/b," * 100 + "application/json"])


@pytest.mark.parametrize("accept", ["text/html", "text/event-stream;q=0", "*/*;q=0", "image/*"])
def test_none_of_them(accept):
    """406, with those that there are."""
    with pytest.raises(
        NotAcceptable, match="text/event-stream, application/x-ndjson, application/json"
    ):
        negotiate_format([accept])
