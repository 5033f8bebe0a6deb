"""What a body is, by its content type."""

from __future__ import annotations

import pytest

from runtime.errors import UnsupportedMediaType
from runtime.http.bodies.rows import BodyKind, choose_kind
from tests.problems import expect_values


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


@pytest.mark.parametrize(
    ("accepts", "values"),
    [
        ((), ["application/json, application/x-ndjson", "'content-type: application/json'"]),
        (
            ("image/png", "image/jpeg"),
            [
                "application/json, image/png, image/jpeg, application/x-ndjson",
                "-H 'content-type: image/png' --data-binary @FILE",
            ],
        ),
        (
            ("image/*",),
            [
                "application/json, image/*, application/x-ndjson",
                "-H 'content-type: image/...' --data-binary @FILE",
            ],
        ),
    ],
)
def test_a_refusal_says_what_to_send(accepts: tuple[str, ...], values: list[str]):
    """In curl's words."""
    found = refused(accepts)
    assert found.where == "content-type"
    expect_values(found, *values)


def refused(accepts: tuple[str, ...]) -> UnsupportedMediaType:
    """The error of a page of HTML."""
    with pytest.raises(UnsupportedMediaType) as caught:
        choose_kind(b"text/html", accepts)
    return caught.value
