"""What a body is, by its content type."""

from __future__ import annotations

import pytest

from runtime.errors import UnsupportedMediaType
from runtime.http.bodies.rows import BodyKind, choose_kind


@pytest.mark.parametrize(
    ("content_type", "accepts", "expected"),
    [
        ("", (), BodyKind.JSON),
        ("", ("*/*",), BodyKind.JSON),
        ("application/json", ("*/*",), BodyKind.JSON),
        ("Application/JSON; charset=utf-8", ("image/png",), BodyKind.JSON),
        ("image/png", ("image/jpeg", "image/png"), BodyKind.RAW),
        ("IMAGE/PNG", ("image/png",), BodyKind.RAW),
        ("image/png; q=1", ("image/*",), BodyKind.RAW),
        # what curl --data-binary says of every file
        ("application/x-www-form-urlencoded", ("*/*",), BodyKind.RAW),
        ("application/x-www-form-urlencoded", ("image/png",), BodyKind.FORM),
        ("application/x-www-form-urlencoded", (), BodyKind.FORM),
        ("application/x-ndjson", (), BodyKind.LINES),
        ("application/x-ndjson", ("application/*",), BodyKind.RAW),
        ("multipart/form-data; boundary=x", ("*/*",), BodyKind.MULTIPART),
        ("multipart/form-data; boundary=x", (), BodyKind.MULTIPART),
        ("multipart/mixed; boundary=x", ("*/*",), None),
        ("imagery/png", ("image/*",), None),
        ("image/png", (), None),
        ("image/png", ("audio/*",), None),
    ],
)
def test_a_content_type_decides(
    content_type: str, accepts: tuple[str, ...], expected: BodyKind | None
):
    """None is 415."""
    if expected is None:
        with pytest.raises(UnsupportedMediaType):
            choose_kind(content_type.encode(), accepts)
    else:
        assert choose_kind(content_type.encode(), accepts) is expected


TAKEN = "application/x-ndjson and forms; with curl: -H"


@pytest.mark.parametrize(
    ("accepts", "message"),
    [
        ((), f"the call takes application/json, {TAKEN} 'content-type: application/json'."),
        (
            ("image/png", "image/jpeg"),
            f"the call takes application/json, image/png, image/jpeg, {TAKEN} 'content-type: image/png'"
            " --data-binary @FILE sends a file as it is.",
        ),
        (
            ("image/*",),
            f"the call takes application/json, image/*, {TAKEN} 'content-type: image/...'"
            " --data-binary @FILE sends a file as it is.",
        ),
    ],
)
def test_a_refusal_says_what_to_send(accepts: tuple[str, ...], message: str):
    """In curl's words."""
    with pytest.raises(UnsupportedMediaType) as refused:
        choose_kind(b"text/html", accepts)
    assert (str(refused.value), refused.value.where) == (message, "content-type")
