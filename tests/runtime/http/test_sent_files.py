"""Files that were sent in another way than the function takes them: what a client is told."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.declaration.function_spec import FunctionSpec
from runtime.http.bodies.sent_files import url_of
from tests.problems import expect_values
from tests.sleepers import HANDS, Served, obedient, run, serving

PREFIX = "/v2/models/look"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20
FORM = {"content-type": "application/x-www-form-urlencoded"}
LINE = "curl http://test/v2/models/look -F image=@FILE"


def look(image: bytes, k: int = 1) -> int:
    """The bytes of a picture."""
    return len(image) * k


def read(text: str) -> int:
    """No bytes."""
    return len(text)


def stream(image: bytes) -> Iterator[dict[str, int]]:
    """Piece by piece."""
    yield {"bytes": len(image)}


def declared(name: str = "look", **args: Any) -> FunctionSpec:
    """A function of that stage."""
    graph = [{"stage": "s", "python": f"{__name__}:{name}"}]
    return FunctionSpec.from_args("look", PREFIX, {"graph": graph, **args})


def posted(root: Path, spec: FunctionSpec, *requests: dict[str, Any]) -> list[httpx.Response]:
    """The answers to these, one after the other; the first wakes it."""

    async def work(served: Served) -> list[httpx.Response]:
        return [
            await served.client.post(
                request.pop("to", PREFIX),
                **{**request, "headers": {"host": "test", **request.get("headers", {})}},
            )
            for request in requests
        ]

    answers: list[httpx.Response] = run(serving(root, spec), work)
    return answers


@pytest.mark.parametrize(
    ("spec", "request_", "status", "values"),
    [
        # as `--data-binary @x.png` sends it
        (declared(), {"content": PNG, "headers": FORM}, 415, ["a PNG picture", "a form", LINE]),
        (
            declared(accepts=["image/*"]),
            {"content": PNG, "headers": FORM},
            415,
            ["a PNG picture", LINE, "-H 'content-type: image/png' --data-binary @FILE"],
        ),
        (
            declared(accepts=["audio/wav"]),
            {"content": PNG, "headers": FORM},
            415,
            ["a PNG picture", LINE, "-H 'content-type: audio/wav' --data-binary @FILE"],
        ),
        (declared(), {"content": b"x" * 5000, "headers": FORM}, 415, ["text", "a form", LINE]),
        (declared(), {"content": PNG * 300, "headers": FORM}, 415, ["a PNG picture", LINE]),
        (declared(), {"content": bytes(range(256)), "headers": FORM}, 415, ["binary data", LINE]),
        # as `-F file=@x.png` does
        (
            declared(),
            {"files": {"file": ("x.png", PNG)}},
            400,
            ["'file' is a PNG picture", "image, k", LINE],
        ),
        (declared(), {"files": {"imgae": ("x.png", PNG)}}, 400, ["'image'", LINE]),
        # as `-H 'content-type: image/png'` does
        (
            declared(),
            {"content": PNG, "headers": {"content-type": "image/png"}},
            415,
            ["'image/png'", "image (bytes), k (integer, optional)", LINE, "`accepts: [image/png]`"],
        ),
        # without a type, as JSON, as lines
        (declared(), {"content": PNG}, 415, ["a PNG picture", "without a content type", LINE]),
        (
            declared(),
            {"content": b"%PDF-1.7\n", "headers": {"content-type": "application/json"}},
            415,
            ["a PDF", "JSON", LINE],
        ),
        (
            declared(),
            {"content": PNG, "headers": {"content-type": "application/x-ndjson"}},
            415,
            ["a PNG picture", "lines of JSON", LINE],
        ),
        (
            declared(),
            {"content": gzip.compress(b'{"image": ""}'), "headers": {}},
            415,
            ["a gzip archive", "content-encoding: gzip"],
        ),
        # to the other routes
        (
            declared(),
            {"to": f"{PREFIX}/infer", "content": PNG},
            415,
            ["a PNG picture", "Open Inference Protocol", LINE],
        ),
        (declared("stream"), {"content": PNG, "headers": FORM}, 415, ["a PNG picture", LINE]),
        (
            declared("stream"),
            {"to": f"{PREFIX}/generate_stream", "content": PNG},
            415,
            ["a PNG picture", LINE],
        ),
        # a function that takes no file
        (
            declared("read"),
            {"content": PNG, "headers": FORM},
            415,
            ["a PNG picture", "text (text)", """-d '{"text": "text"}'"""],
        ),
        (
            declared("read"),
            {"files": {"text": ("x.png", PNG)}},
            400,
            ["'text' is a PNG picture"],
        ),
    ],
)
def test_a_client_is_told_what_it_sent_and_what_to_type(
    tmp_path, spec: FunctionSpec, request_: dict[str, Any], status: int, values: list[str]
):
    """Whether the function is awake or not; what is refused by its type alone wakes none, and a
    function that was never loaded does not say its fields.
    """
    wake = {"json": {"image": "AAEC", "text": "a"}}
    asleep, _, awake = posted(tmp_path, spec, dict(request_), wake, dict(request_))
    assert (awake.status_code, asleep.status_code) == (status, status)
    assert asleep.json()["code"] == awake.json()["code"]
    expect_values(awake.json()["error"], *values)


def test_what_is_refused_by_its_type_wakes_nothing(tmp_path):
    """And says how a file is sent all the same."""
    hand = HANDS["sent files"]

    async def work(served: Served) -> httpx.Response:
        return await served.client.post(
            "/v2/models/sleeper", content=PNG, headers={"content-type": "image/png", "host": "test"}
        )

    answer = run(serving(tmp_path, obedient("sleeper", "sent files")), work)
    assert (answer.status_code, hand.loads) == (415, 0)
    expect_values(answer.json()["error"], "'image/png'", "-F FIELD=@FILE")


FILES = [
    PNG,
    b"\xff\xd8\xff\xe0" + bytes(99),
    b"RIFF\x24\0\0\0WAVEfmt " + bytes(99),
    b"%PDF-1.7\n%\xe2\xe3\n=&=&",
    gzip.compress(b"a=1&b=2"),
    bytes(range(256)) * 9,
    b"\0=&\0=\n\n{}",
]

TYPES = [
    "",
    "application/json",
    "application/x-ndjson",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b",
    "image/png",
    "x/y",
    "\xe9/?",
]


def test_any_file_sent_in_any_way_is_refused_in_words(tmp_path):
    """Or answered, where the function accepts it; nothing is an error of ours, and what a known
    kind of file was read as otherwise is told with the kind.
    """
    specs = {
        "plain": declared(),
        "accepts": declared(accepts=["image/*"]),
        "reads": declared("read"),
        "streams": declared("stream"),
    }
    named = [
        spec.model_copy(update={"name": name, "route_prefix": f"/v2/models/{name}"})
        for name, spec in specs.items()
    ]

    async def work(served: Served) -> list[tuple[str, bytes, str, httpx.Response]]:
        return [
            (
                kind,
                body,
                name,
                await served.client.post(
                    f"/v2/models/{name}{route}",
                    content=body,
                    headers={b"content-type": kind.encode("latin-1")} if kind else {},
                ),
            )
            for name in specs
            for route in ("", "/infer", "/generate")
            for kind in TYPES
            for body in FILES
        ]

    for kind, body, name, answer in run(serving(tmp_path, *named), work):
        assert answer.status_code in (200, 400, 404, 415), (kind, body, name, answer.text)
        if answer.status_code == 415:
            message = answer.json()["error"]
            assert "curl " in message or "MIME" in message, message
            assert "UTF-8" not in message
        if answer.status_code == 200:
            assert "error" not in answer.text
            assert (name, kind) == ("accepts", "image/png"), answer.text


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {"image": "AAEC"}},
        {"files": {"image": ("x.png", PNG)}},
        {"data": {"image": "a=b"}},
    ],
)
def test_a_call_that_is_right_is_answered(tmp_path, request_):
    """Nothing is looked at."""
    (answer,) = posted(tmp_path, declared(), request_)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("host", "scheme", "url"),
    [
        (b"127.0.0.1:8000", b"", "http://127.0.0.1:8000/v2/models/f"),
        (b"[::1]:8000", b"http", "http://[::1]:8000/v2/models/f"),
        (b"api.example", b"https", "https://api.example/v2/models/f"),
        (b"", b"", "/v2/models/f"),
        (b"a b", b"", "/v2/models/f"),
        (b"$(rm -rf .)", b"", "/v2/models/f"),
        (b"a;b", b"", "/v2/models/f"),
        (b"x" * 300, b"", "/v2/models/f"),
        (b"a", b"javascript", "http://a/v2/models/f"),
    ],
)
def test_an_address_is_one_that_a_shell_can_be_given(host: bytes, scheme: bytes, url: str):
    """Whatever a client says that it asked."""
    assert url_of(host, scheme, "/v2/models/f") == url
