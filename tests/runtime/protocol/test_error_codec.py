"""An error from one process to another: the same error, with the status that its stage gave it."""

from __future__ import annotations

import pytest

from runtime.errors import Overloaded, RequestError, SequenceUnknown, UpstreamError, WakefulError
from runtime.protocol.json_text import dumps, loads
from runtime.protocol.row_codec import decode_error, encode_error


@pytest.mark.parametrize(
    "error",
    [
        RequestError("no.", where="text", status=422),
        RequestError("no.", status=429, retry_after_s=3.0),
        RequestError("no."),
        UpstreamError("down."),
        SequenceUnknown("gone."),
        Overloaded("full.", retry_after_s=1.0),
    ],
)
def test_an_error_stays_what_it_is(error: WakefulError) -> None:
    """Its code, status, place and what Retry-After says; by its class where there is one of that
    status.
    """
    again = decode_error(encode_error(error))
    assert again is not None
    assert encode_error(again) == encode_error(error)
    assert isinstance(again, type(error)) or error.status == 429


def test_half_a_character_is_told():
    """A file's name may have one, and JSON carries none: the row's neighbours would be lost."""
    error = RequestError("no file a\udc80", where="\udcff")
    assert loads(dumps(error.body("r"))) == {
        "error": r"no file a\udc80",
        "code": "bad_request",
        "where": r"\udcff",
        "request_id": "r",
    }
