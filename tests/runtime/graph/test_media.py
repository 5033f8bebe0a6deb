"""Which bodies are taken as they are."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.errors import UnsupportedMediaType
from runtime.graph.graph import Port
from runtime.graph.request_fields import accepts_raw, media_issue, raw_field_of
from runtime.types.value_types import of_annotation


def fields(**annotations: Any) -> dict[str, Port]:
    """Fields of these types; a pair is a type and a default."""
    ports = {}
    for name, each in annotations.items():
        annotation, *default = each if isinstance(each, tuple) else (each,)
        ports[name] = Port(name, of_annotation(annotation), annotation, *default)
    return ports


@pytest.mark.parametrize(
    ("taken", "field"),
    [
        (fields(image=bytes), "image"),
        (fields(image=bytes, top=(int, 5)), "image"),
        (fields(top=(int, 5), image=bytes, mask=(bytes | None, None)), "image"),
        (fields(image=bytes, name=str), None),
        (fields(one=bytes, other=bytes), None),
        (fields(image=(bytes, b"")), None),
        (fields(text=str), None),
        (fields(parts=list[bytes]), None),
        ({}, None),
    ],
)
def test_the_one_required_field_of_bytes(taken: dict[str, Port], field: str | None):
    """Nothing else may be missing from such a call; and `accepts` without such a field is a
    fault.
    """
    assert raw_field_of(taken) == field
    assert media_issue((), taken) == ""
    assert bool(media_issue(("image/png",), taken)) == (field is None)


def test_the_error_names_what_is_in_the_way():
    """With the types."""
    assert media_issue(("image/png",), fields(image=bytes, name=str)).endswith(
        "this function must have 'image' (scalar BYTES []), 'name' (scalar BYTES []). Give the"
        " others defaults, or delete the key."
    )
    assert "must have none" in media_issue(("image/png",), {})


@pytest.mark.parametrize(
    ("content_type", "accepts", "expected"),
    [
        ("", (), False),
        ("", ("*/*",), False),
        ("application/json", ("*/*",), False),
        ("Application/JSON; charset=utf-8", ("image/png",), False),
        ("image/png", ("image/jpeg", "image/png"), True),
        ("IMAGE/PNG", ("image/png",), True),
        ("image/png; q=1", ("image/*",), True),
        # what curl --data-binary says of every file
        ("application/x-www-form-urlencoded", ("*/*",), True),
        ("imagery/png", ("image/*",), None),
        ("image/png", (), None),
        ("image/png", ("audio/*",), None),
        ("application/x-www-form-urlencoded", ("image/png",), None),
        ("multipart/form-data; boundary=x", ("*/*",), None),
    ],
)
def test_a_content_type_decides(content_type: str, accepts: tuple[str, ...], expected: bool | None):
    """None is 415."""
    if expected is None:
        with pytest.raises(UnsupportedMediaType):
            accepts_raw(content_type, accepts)
    else:
        assert accepts_raw(content_type, accepts) == expected


@pytest.mark.parametrize(
    ("accepts", "message"),
    [
        ((), "the call takes application/json; with curl: -H 'content-type: application/json'."),
        (
            ("image/png", "image/jpeg"),
            (
                "the call takes application/json, image/png, image/jpeg; with curl: -H"
                " 'content-type: image/png' --data-binary @FILE sends a file as it is."
            ),
        ),
        (
            ("image/*",),
            (
                "the call takes application/json, image/*; with curl: -H 'content-type: image/...'"
                " --data-binary @FILE sends a file as it is."
            ),
        ),
    ],
)
def test_a_refusal_says_what_to_send(accepts: tuple[str, ...], message: str):
    """In curl's words."""
    with pytest.raises(UnsupportedMediaType) as refused:
        accepts_raw("text/html", accepts)
    assert (str(refused.value), refused.value.where) == (message, "content-type")


def test_a_form_is_refused_even_where_everything_is_taken():
    """Its parts have a wrapping that no stage expects."""
    with pytest.raises(
        UnsupportedMediaType,
        match="forms are not read here; with curl: --data-binary @FILE instead of -F",
    ):
        accepts_raw("multipart/form-data; boundary=x", ("*/*",))
