"""What a body is, by its content type, and the rows in it."""

from __future__ import annotations

import pytest

from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import TooLarge, UnsupportedMediaType, WakefulError
from runtime.execution.function import Function
from runtime.http.bodies.offloading import LARGE_BYTES
from runtime.http.bodies.rows import (
    STEP_BYTES,
    BodyKind,
    choose_kind,
    read_rows,
    reading_size,
    row_call_size,
)
from runtime.settings import Settings
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
        ((), ["'text/html'", "application/json, application/x-ndjson"]),
        (
            ("image/png", "image/jpeg"),
            ["'text/html'", "application/json, image/png, image/jpeg, application/x-ndjson"],
        ),
        (("image/*",), ["'text/html'", "application/json, image/*, application/x-ndjson"]),
    ],
)
def test_a_refusal_says_what_came_and_what_is_taken(accepts: tuple[str, ...], values: list[str]):
    """What to type is told where the function is known (`test_sent_files`)."""
    found = refused(accepts)
    assert found.where == "content-type"
    expect_values(found, *values)


def refused(accepts: tuple[str, ...]) -> UnsupportedMediaType:
    """The error of a page of HTML."""
    with pytest.raises(UnsupportedMediaType) as caught:
        choose_kind(b"text/html", accepts)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "size", "is_large"),
    [
        (BodyKind.JSON, LARGE_BYTES - 1, False),
        (BodyKind.JSON, LARGE_BYTES, True),
        (BodyKind.LINES, LARGE_BYTES, True),
        (BodyKind.MULTIPART, LARGE_BYTES, True),
        (BodyKind.FORM, LARGE_BYTES // 8 - 1, False),
        (BodyKind.FORM, LARGE_BYTES // 8, True),
        (BodyKind.RAW, 1 << 30, False),
    ],
)
def test_what_takes_long_to_read(kind: BodyKind, size: int, is_large: bool):
    """By bytes of JSON; nothing is read of a body that is a field as it is."""
    assert (reading_size(kind, size) >= LARGE_BYTES) is is_large


def test_of_a_call_by_a_function_its_head_is_read():
    """As long as it says it is, which may be more than there is."""
    head = (300).to_bytes(4, "little")
    assert row_call_size(b"WKR2" + head + bytes(1000)) == 300
    assert row_call_size(b"WKR2" + head) == 8


def double(n: int) -> int:
    """Twice as many."""
    return 2 * n


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop."""
    return "asyncio"


@pytest.fixture
async def function(tmp_path, anyio_backend):
    """It takes three rows."""
    graph = {"graph": [{"stage": "s", "python": f"{__name__}:double"}]}
    spec = FunctionSpec.from_args("double", "/double", {**graph, "limits": {"max_rows": 3}})
    function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(tmp_path)}))
    yield function
    await function.close(1)


ROW = b'{"n": 1}'


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", []),
        (b"\n \r\n\t\n", []),
        (ROW, ["1"]),
        (b"\n".join([ROW] * 3), ["1"] * 3),
        (b"\n\n \n".join([ROW] * 3) + b"\n\n", ["1"] * 3),
        (b"\r\n".join([ROW] * 3), ["1"] * 3),
        (b"\n" * STEP_BYTES + ROW + b"\n" * (2 * STEP_BYTES + 1) + ROW, ["1"] * 2),
        (b" " * (STEP_BYTES - 1) + ROW, ["1"]),
        (ROW + b"\n{\n\n" + ROW, ["1", "[1]", "1"]),
        (b"\n1\n{\n", ["[0]", "[1]"]),
    ],
)
async def test_each_line_that_is_not_blank_is_a_row(function, body, found):
    """Blank ones are none, at the bound on rows as well; a wrong one has its own error."""
    rows = read_rows(function, body, BodyKind.LINES)
    assert [row.where if isinstance(row, WakefulError) else str(row["n"]) for row in rows] == found


@pytest.mark.anyio
@pytest.mark.parametrize("more", [b"", ROW, b"{", b"1\n" * 1000])
async def test_more_lines_than_rows_are_refused(function, more):
    """Whatever is in them; before any is read."""
    with pytest.raises(TooLarge) as refused:
        read_rows(function, b"\n".join([ROW, b"{", ROW, b"\n" + ROW, more]), BodyKind.LINES)
    expect_values(refused.value, "3 of limits.max_rows")


@pytest.mark.anyio
async def test_reading_lines_ends_when_its_time_is_over(function):
    """Between lines, and in a blank that is long."""

    class OverError(Exception):
        pass

    def over() -> None:
        raise OverError

    for body in (ROW, b"\n" * STEP_BYTES):
        with pytest.raises(OverError):
            read_rows(function, body, BodyKind.LINES, b"", over)
