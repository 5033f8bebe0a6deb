"""Calls by functions in other processes, over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from runtime.errors import RequestError
from runtime.protocol.row_codec import CONTENT_TYPE, decode_rows, encode_rows
from tests import sleepers
from tests.sleepers import Served

HEADERS = {"content-type": CONTENT_TYPE.decode(), "x-request-id": "id-7"}


def body(*rows: Any) -> bytes:
    return b"".join(encode_rows(rows))


def post(tmp_path, *bodies: bytes, **args: Any) -> list[httpx.Response]:
    """The answers of the bare model y = 2 x to each body."""

    async def work(served: Served) -> list[httpx.Response]:
        return [
            await served.client.post("/v2/models/double", content=one, headers=HEADERS)
            for one in bodies
        ]

    return sleepers.run(sleepers.serving(tmp_path, sleepers.double(tmp_path, **args)), work)  # type: ignore[no-any-return]


def row(*values: float) -> dict[str, Any]:
    return {"x": np.array(values, np.float32)}


def test_rows_are_answered_in_their_form_and_a_bad_one_alone(tmp_path) -> None:
    """With the request's id and the time that it took, as every call."""
    (answer,) = post(tmp_path, body(row(1, 2, 3), row(1, 2), row(4, 5, 6)))
    assert (answer.status_code, answer.headers["content-type"], answer.headers["x-request-id"]) == (
        200,
        CONTENT_TYPE.decode(),
        "id-7",
    )
    assert "total;dur=" in answer.headers["server-timing"]
    first, bad, last = decode_rows(answer.content, 10)
    assert isinstance(first, dict)
    assert isinstance(last, dict)
    assert (first["y"].tolist(), last["y"].tolist()) == ([2, 4, 6], [8, 10, 12])
    assert isinstance(bad, RequestError)
    assert bad.where == "[1].x"


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"", 400, "malformed_body"),
        (b'{"x": [1, 2, 3]}', 400, "malformed_body"),
        (body(row(1, 2, 3))[:-1], 400, "malformed_body"),
        (body(RequestError("no row")), 400, "malformed_body"),
        (body(*[row(1, 2, 3)] * 5), 413, "too_large"),
        (body({"x": np.zeros(200, np.float32)}), 413, "too_large"),
    ],
)
def test_what_concerns_all_rows_is_an_error_of_the_call(
    tmp_path, sent: bytes, status: int, code: str
) -> None:
    """In the error form, with its status; the next call is answered."""
    limits = {"max_rows": 4, "max_body_bytes": 500}
    refused, good = post(tmp_path, sent, body(row(1, 2, 3)), limits=limits)
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert good.status_code == 200


def test_no_rows_are_answered_with_none(tmp_path) -> None:
    """A list that a stage runs over may be empty, though no client sends one."""
    (answer,) = post(tmp_path, body())
    assert decode_rows(answer.content, 1) == []
