"""Pages of declared origins may call, by both transports; others, and without a word none, may not,
and are refused before anything is woken.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from runtime.declaration.config_file import read
from runtime.declaration.http_section import CorsSpec
from runtime.errors import DeclarationError
from runtime.http.cors import CorsPolicy, ForeignPages
from tests import browser
from tests.foreign_pages import APP, FAR, FOREIGN, OTHER
from wakeful.testing import ServedFunctions, serve

FILE = """\
http: {{cors: {{origins: [{origins}]{more}}}}}
applications:
  - name: greet
    args: {{graph: [{{stage: greet, python: "tests.basic_stages:greet"}}]}}
  - name: count
    args: {{graph: [{{stage: count, python: "tests.runtime.http.test_transports:count"}}]}}
"""


def declared(folder: Path, *origins: str, more: str = "") -> Path:
    """A file that lets these origins call."""
    path = folder / "serve_config.yaml"
    path.write_text(FILE.format(origins=", ".join(f'"{one}"' for one in origins), more=more))
    return path


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedFunctions]:
    """For one origin."""
    with serve(declared(tmp_path_factory.mktemp("cors"), APP)) as served:
        yield served


def preflight(client: httpx.Client, path: str, origin: str, asked: str = "") -> httpx.Response:
    """What a browser sends before a call with JSON."""
    headers = {"origin": origin, "access-control-request-method": "POST"}
    return client.options(
        path, headers={**headers, **({"access-control-request-headers": asked} if asked else {})}
    )


def allowed(response: httpx.Response) -> str | None:
    """The origin that may read it."""
    return response.headers.get("access-control-allow-origin")


def state(app: ServedFunctions, name: str) -> str:
    """Of a function, by the index."""
    functions = app.http.get("/").json()["functions"]
    return next(one["state"] for one in functions if one["name"] == name)


def test_a_preflight_wakes_nothing(app: ServedFunctions):
    """It is answered with what the page may do, for a path that exists or not."""
    for path in (app.count.path, f"{app.count.path}/infer", "/", "/nowhere"):
        answer = preflight(app.http, path, APP, "content-type, x-sequence-id")
        assert answer.status_code == 200
        assert allowed(answer) == APP
        assert answer.headers["access-control-allow-headers"] == "content-type, x-sequence-id"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-max-age"] == "600"
        assert answer.headers["vary"] == "origin"
    refused = preflight(app.http, app.count.path, OTHER, "content-type")
    assert allowed(refused) is None
    assert "access-control-allow-methods" not in refused.headers
    assert app.http.options(app.count.path, headers={"origin": APP}).status_code == 405
    assert state(app, "count") == "asleep"


def test_every_answer_has_the_headers(app: ServedFunctions):
    """Errors, streams, the index, and what is not there as well; again on a hot connection."""
    requests = [
        ("POST", app.greet.path, {"name": "bo"}, 200),
        ("POST", app.greet.path, {"name": "bo"}, 200),
        ("POST", app.greet.path, {}, 400),
        ("GET", app.greet.path, None, 200),
        ("GET", "/", None, 200),
        ("GET", "/nowhere", None, 404),
        ("PUT", app.greet.path, None, 405),
        ("POST", "/v2/models/count", {"x": 1.5}, 200),
    ]
    for method, path, body, status in requests:
        for origin in (APP, OTHER):
            answer = app.http.request(method, path, json=body, headers={"origin": origin})
            assert answer.status_code == (status if origin == APP else 403)
            assert allowed(answer) == (APP if origin == APP else None)
            is_index = path == "/" and origin == APP
            assert answer.headers["vary"] == ("accept, origin" if is_index else "origin")
            exposed = answer.headers.get("access-control-expose-headers", "")
            assert ("x-request-id" in exposed) == (origin == APP)


def test_a_connection_that_is_hot_answers_alike(app: ServedFunctions):
    """Byte for byte what the first one of a connection has, but for ids and times."""
    body = b'{"name": "bo"}'
    request = (
        f"POST {app.greet.path} HTTP/1.1\r\nhost: t\r\norigin: {APP}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body
    host, port = app.url.removeprefix("http://").split(":")
    heads = []
    with socket.create_connection((host, int(port)), 20) as connection:
        for _ in range(3):
            connection.sendall(request)
            data = b""
            while b"\r\n\r\n" not in data or not data.endswith(b"}"):
                data += connection.recv(65536)
            names = [line.split(b":")[0] for line in data.split(b"\r\n\r\n")[0].split(b"\r\n")]
            heads.append(sorted(name.lower() for name in names))
            assert f"access-control-allow-origin: {APP}".encode() in data
    assert heads[1] == heads[2]
    assert set(heads[0]) == set(heads[1])


def test_without_a_word_nobody_may(tmp_path: Path):
    """And a preflight, which is then a wrong method, wakes nothing either."""
    path = declared(tmp_path, APP)
    path.write_text(path.read_text().split("\n", 1)[1])
    with serve(path) as app:
        answer = preflight(app.http, app.count.path, APP)
        assert (answer.status_code, allowed(answer)) == (405, None)
        assert "vary" not in answer.headers
        assert state(app, "count") == "asleep"


@pytest.mark.parametrize(
    ("spec", "origin", "expected"),
    [
        ({"origins": ["*"]}, b"https://a", {b"access-control-allow-origin": b"*"}),
        ({"origins": ["*"]}, b"", {b"access-control-allow-origin": b"*"}),
        ({"origins": [APP]}, b"", {b"vary": b"origin"}),
        ({"origins": [APP]}, b"https://APP.example", {b"vary": b"origin"}),
        ({"origins": [APP]}, b"https://app.example.evil", {b"vary": b"origin"}),
        ({"origins": [APP]}, b"null", {b"vary": b"origin"}),
        (
            {"origins": [OTHER, APP], "credentials": True},
            APP.encode(),
            {
                b"access-control-allow-origin": APP.encode(),
                b"access-control-allow-credentials": b"true",
                b"vary": b"origin",
            },
        ),
    ],
    ids=str,
)
def test_an_origin_decides(spec: dict, origin: bytes, expected: dict[bytes, bytes]):
    """By the whole of it; one for all needs no `Vary`."""
    found = dict(CorsPolicy(CorsSpec.model_validate(spec)).headers_for(origin))
    found.pop(b"access-control-expose-headers", None)
    assert found == expected


@pytest.mark.parametrize(
    "spec",
    [
        {"origins": []},
        {"origins": ["app.example"]},
        {"origins": ["https://app.example/"]},
        {"origins": ["https://App.example"]},
        {"origins": ["https://*.example"]},
        {"origins": ["https://app.example:443"]},
        {"origins": ["http://app.example:80"]},
        {"origins": ["null"]},
        {"origins": ["https://a\r\nx: y"]},
        {"origins": ["*"], "credentials": True},
        {"origins": [APP], "max_age_s": -1},
    ],
    ids=str,
)
def test_what_is_no_policy_is_refused(spec: dict):
    """Above all an open one with credentials."""
    with pytest.raises(ValidationError):
        CorsSpec.model_validate(spec)


def test_a_wrong_policy_has_its_line(tmp_path: Path):
    """In `check`; and Ray reads the file, as it ignores what it does not know."""
    path = declared(tmp_path, "*", more=", credentials: true")
    with pytest.raises(DeclarationError) as refused:
        read(path)
    (problem,) = refused.value.problems
    assert (problem.line, problem.key) == (1, "http.cors")
    for origin in ("http://localhost:5173", "https://[::1]:8443", "capacitor://localhost"):
        assert read(declared(tmp_path, origin)).cors.origins == (origin,)


@pytest.mark.parametrize(("method", "path", "headers", "is_refused"), FOREIGN)
def test_what_a_page_of_another_site_sends_is_refused(method, path, headers, is_refused):
    """But links to pages; nothing is refused where every page may call."""
    fields = {name.encode(): value.encode() for name, value in headers.items()}
    named = ForeignPages(CorsSpec.model_validate({"origins": [APP]}))
    assert named.refuses(method, path, fields) is is_refused
    none = ForeignPages(None)
    is_named = headers.get("origin") == APP
    assert is_named or none.refuses(method, path, fields) is is_refused
    everyone = ForeignPages(CorsSpec.model_validate({"origins": ["*"]}))
    assert not everyone.refuses(method, path, fields)


def test_a_refused_page_wakes_nothing(tmp_path: Path):
    """Nor does it call what is awake, on a connection that is hot either."""
    with serve(declared(tmp_path, APP)) as app:
        refused = app.http.post(app.count.path, json={"x": 1}, headers=FAR)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert refused.json()["request_id"] == refused.headers["x-request-id"]
        assert state(app, "count") == "asleep"
        for _ in range(3):
            assert app.http.post(app.greet.path, json={"name": "bo"}).status_code == 200
            again = app.http.post(app.greet.path, json={"name": "bo"}, headers=FAR)
            assert again.status_code == 403
            allowed_page = {**FAR, "origin": APP}
            called = app.http.post(app.greet.path, json={"name": "bo"}, headers=allowed_page)
            assert (called.status_code, allowed(called)) == (200, APP)


PAGE = """<!doctype html><body>waiting<script>
fetch("%s", {method: "POST", headers: {"content-type": "application/json", "x-mine": "1"},
             body: JSON.stringify({name: "bo"})})
  .then(async answer => document.body.textContent =
        "read " + await answer.text() + " as " + answer.headers.get("x-request-id").length)
  .catch(error => document.body.textContent = "refused")
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(browser.CHROMIUM is None, reason="needs the Debian package chromium")
def test_a_browser_lets_the_page_read(tmp_path: Path):
    """A page of a declared origin, and one of another."""
    pages: dict[str, bytes] = {}

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages.get(self.path, b"")
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        with serve(declared(tmp_path, f"http://127.0.0.1:{port}")) as app:
            pages["/"] = (PAGE % f"{app.url}{app.greet.path}").encode()
            seen = []
            for host in ("127.0.0.1", "localhost"):
                with browser.opened(f"http://{host}:{port}/", tmp_path / host) as page:
                    page.wait_for("/^(read|refused)/.test(document.body?.textContent)")
                    seen.append(page.evaluate("document.body.textContent"))
        server.shutdown()
    assert "read {" in seen[0]
    assert "refused" in seen[1]
