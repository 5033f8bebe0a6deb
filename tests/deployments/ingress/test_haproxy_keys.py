"""HAProxy asks for keys: the real program, on the configuration that Ray really writes."""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.ingress.haproxy.access import make_files
from deployments.ingress.haproxy.rules import SECRET
from deployments.ray_support.secret_store import edge_secret
from runtime.declaration.access.keys import digest_of, make_key
from tests.deployments.ingress.haproxy.proxies import Replica, Running
from tests.deployments.ingress.keyed import (
    KEYED,
    PREFIXES,
    SECRET_OF_CALLS,
    Keys,
    ask,
    proxied,
    status_of,
)
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.slow

KEYS = Keys()
KEYS.add("all", scopes=frozenset({"call", "look", "operate"}))
KEYS.add("calls")
KEYS.add("looks", scopes=frozenset({"look"}))
KEYS.add("operates", scopes=frozenset({"operate"}))
KEYS.add("a", functions=frozenset({"a"}))
KEYS.add("a-all", functions=frozenset({"a"}), scopes=frozenset({"call", "look", "operate"}))
KEYS.add("a-looks", functions=frozenset({"a"}), scopes=frozenset({"look"}))
KEYS.add("nested", functions=frozenset({"nested", "heads"}))
KEYS.add("expired", expires_at=time.time() - 1)
KEYS.add("former", until=time.time() - 1)
KEYS.add("rotated", until=time.time() + 86_400)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With all of these keys."""
    with proxied(tmp_path_factory.mktemp("keys"), KEYS.known) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    Replica.forget()


def header(name: str) -> str:
    """The line of a key's client."""
    return f"x-api-key: {KEYS.sent[name]}"


# Whether a key is known.


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 401),
        (["x-api-key: {all}"], 200),
        (["X-API-Key: {all}"], 200),
        (["authorization: Bearer {all}"], 200),
        (["Authorization: bearer {all}"], 200),
        (["authorization: Bearer {all}", "x-api-key: {all}"], 200),
        (["authorization: Basic d2s6d2s=", "x-api-key: {all}"], 200),
        (["authorization: Bearer {all}", "x-api-key: {calls}"], 401),
        (["authorization: Bearer {all}", "x-api-key: nonsense"], 401),
        (["authorization: Bearer {all}", "x-api-key:"], 401),
        (["authorization: Bearer nonsense", "x-api-key: {all}"], 401),
        (["x-api-key: {all}", "x-api-key: {all}"], 401),
        (["x-api-key: {all}", "x-api-key: nonsense"], 401),
        (["x-api-key: nonsense", "x-api-key: {all}"], 401),
        (["authorization: Bearer {all}", "authorization: Bearer {calls}"], 401),
        (["authorization: Bearer nonsense", "authorization: Bearer {all}"], 401),
        (["authorization: {all}"], 401),
        (["authorization: Basic {all}"], 401),
        (["authorization: Bearer"], 401),
        (["x-api-key:"], 401),
        (["x-api-key: {all}x"], 401),
        (["x-api-key: {all}, {all}"], 401),
        (["x-api-key: {digest}"], 401),
        (["cookie: x-api-key={all}"], 401),
        (["x-api-key: {expired}"], 401),
        (["x-api-key: {former}"], 401),
        (["x-api-key: {rotated}"], 200),
        (["x-wakeful-key: all", "x-wakeful-functions: *", "x-wakeful-scopes: call"], 401),
        (["x-wakeful-edge: {edge}"], 401),
        (["x-wakeful-internal: wrong"], 401),
        (["x-wakeful-internal: {secret}"], 200),
        (["content-type: application/vnd.wakeful.rows"], 401),
    ],
)
def test_a_call_is_answered_by_its_key(tmp_path: Path, proxy: Running, lines, status):
    """And refused before its body is read, if it has none, one that is not known, or two."""
    values = {
        **KEYS.sent,
        "digest": digest_of(KEYS.sent["all"]).upper(),
        "edge": edge_secret(SECRET_OF_CALLS),
        "secret": SECRET_OF_CALLS,
    }
    with_fresh_address(proxy)
    answer = ask(proxy, "/f/a", *(line.format_map(values) for line in lines))
    assert status_of(answer) == status
    assert len(Replica.requests) == (status == 200)
    if status == 401:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"\r\nwww-authenticate: Bearer" in head
        assert (json.loads(body)["code"], json.loads(body)["where"]) == ("unauthorized", "")
        assert not any(key.encode() in answer for key in KEYS.sent.values())


def with_fresh_address(proxy: Running) -> None:
    """Forget which guesses came from here."""
    proxy.tell("clear table wakeful_guesses")


def test_a_target_in_the_query_is_no_key(proxy: Running):
    """Queries stand in logs."""
    answer = ask(proxy, f"/f/a?x-api-key={KEYS.sent['all']}&key={KEYS.sent['all']}")
    assert status_of(answer) == 401


def test_that_it_lives_is_said_without_a_key(proxy: Running):
    """Nothing else is, below it or by another method."""
    assert status_of(ask(proxy, "/v2/health/live", method="GET")) == 404  # no catalogue is here
    assert status_of(ask(proxy, "/-/healthz", method="GET")) == 503  # Ray has said nothing yet
    for target in ("/v2/health/live/", "/v2/health/ready", "/v2/health/live/x", "/-/routes"):
        assert status_of(ask(proxy, target, method="GET")) == 401
    assert status_of(ask(proxy, "/v2/health/live", method="POST")) == 401


def test_errors_of_tasks_have_openais_form(proxy: Running):
    """Whose clients raise them as theirs."""
    for lines, status, code, kind in (
        ([], 401, "unauthorized", "invalid_request_error"),
        ([header("looks")], 403, "forbidden", "invalid_request_error"),
    ):
        answer = ask(proxy, "/v1/embeddings", *lines)
        assert status_of(answer) == status
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert (error["code"], error["type"], error["param"]) == (code, kind, None)


def test_a_refusal_has_the_requests_id(proxy: Running):
    """As any error."""
    answer = ask(proxy, "/f/a", "x-request-id: mine")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["request_id"] == "mine"
    for target in ("/f/a", "/v1/embeddings"):
        assert b"\r\nx-request-id: mine\r\n" in ask(proxy, target, "x-request-id: mine")


def test_a_preflight_needs_no_key(proxy: Running):
    """Browsers send none with it; any other OPTIONS does."""
    preflight = ask(proxy, "/f/a", "access-control-request-method: POST", method="OPTIONS")
    assert status_of(preflight) == 405  # no page may call here
    assert status_of(ask(proxy, "/f/a", method="OPTIONS")) == 401


# What a key opens.

FORMS = [
    ("POST", "{}", []),
    ("GET", "{}", []),
    ("HEAD", "{}", []),
    ("PUT", "{}", []),
    ("OPTIONS", "{}", []),
    ("DELETE", "{}/ready", []),
    ("POST", "{}/infer", []),
    ("POST", "{}/infer", ["x-sequence-id: 7", "x-sequence-start: 1"]),
    ("GET", "{}/", []),
    ("GET", "{}/ready", []),
    ("GET", "{}?a=b", []),
    ("GET", "{}/versions/1/config", []),
    ("GET", "//f//{}", []),
    ("GET", "/f/./{}", []),
    ("POST", "/f/a/../{}", []),
    ("POST", "{};a=b", []),
    ("POST", "{}%2finfer", []),
    ("POST", "{}%00", []),
    ("POST", "http://h{}", []),
    ("POST", "http://h{}/infer", []),
    ("POST", "{}", ["host: /f/a"]),
    ("POST", "{}", ["x-original-url: /f/a", "x-rewrite-url: /f/a", "x-http-method-override: GET"]),
]
"""Of a function's path; `{}` is the function's, `/f/...` stays."""


@pytest.mark.parametrize(("method", "form", "lines"), FORMS)
def test_what_a_key_does_not_open_is_what_does_not_exist(proxy: Running, method, form, lines):
    """Byte for byte, and no process hears of it."""
    answers = set()
    for path in ("/f/ab", "/f/no", "/f/AB", "/f/%61b", "/f/a%62", "/f/%6E%6f"):
        target = form.replace("/f/a/../{}", f"/f/../f/x/{path[3:]}").format(path)
        target = target.replace("//f//", "/f//").replace("/f/./", "/f/.")
        answers.add(ask(proxy, target, header("a"), *lines, method=method))
    assert len(answers) == 1
    (answer,) = answers
    assert status_of(answer) == (400 if b"400 Bad" in answer else 404)
    if method != "HEAD" and status_of(answer) == 404:
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "not_found"
    assert Replica.requests == []


@pytest.mark.parametrize(
    ("key", "target", "status"),
    [
        ("a", "/f/a", 200),
        ("a", "/f/%61", 200),
        ("a", "/f/a/infer", 200),
        ("a", "/f/a/versions/1/infer", 200),
        ("a", "/f/a?b=c", 200),
        ("a", "/f/a/", 200),
        ("a", "http://h/f/a", 200),
        ("a", "/f/a/b", 404),
        ("a", "/f/a/b/infer", 404),
        ("a", "/f/a/%62", 404),
        ("a", "/f/ab", 404),
        ("a", "/f/A", 404),
        ("a", "/f/other", 404),
        ("a", "/f", 404),
        ("a", "/f/", 404),
        ("a", "/", 403),
        ("a", "/nowhere", 404),
        ("a", "/v2/models", 404),
        ("a", "/v2/models/none", 404),
        ("a", "/v2/models/stats", 403),
        ("nested", "/f/a/b", 200),
        ("nested", "/f/a/b/c/d", 200),
        ("nested", "/f/a", 404),
        ("nested", "/f/a/bc", 404),
        ("calls", "/f/other", 200),
        ("calls", "/f/ab", 200),
        ("calls", "/f/undeclared", 200),
        ("looks", "/f/a", 404),
        ("looks", "/f/undeclared", 404),
        ("looks", "/f/other", 404),
        ("operates", "/f/a", 404),
        ("a-looks", "/f/a", 404),
        ("all", "/f/a", 200),
    ],
)
def test_a_key_opens_its_functions_and_no_other(proxy: Running, key, target, status):
    """By the longest prefix that is declared, also where one is below another, or begins alike; what
    is not declared, or not ours, is for keys of all functions.
    """
    assert status_of(ask(proxy, target, header(key))) == status
    assert len(Replica.requests) == (status == 200)


def found_by(target: str) -> str | None:
    """The function that a process finds at a path, as ``runtime.library.registry`` does."""
    path = re.sub(
        r"%([0-9A-Fa-f]{2})",
        lambda code: (
            chr(int(code[1], 16))
            if re.fullmatch(r"[A-Za-z0-9._~-]", chr(int(code[1], 16)))
            else code[0]
        ),
        target.partition("?")[0],
    )
    while path:
        if path in PREFIXES:
            return PREFIXES[path]
        path = path.rpartition("/")[0]
    return None


@pytest.mark.parametrize("count", [150, pytest.param(5000, marks=pytest.mark.full)])
def test_no_path_leads_past_the_key(proxy: Running, count: int):
    """Of words that prefixes have and that clients use to get around them, in any order; the few in
    each run of many.
    """
    chance = random.Random(0)
    words = ["a", "b", "ab", "f", "other", "nested", "infer", "ready", "versions", "1"]
    words += ["..", ".", "", "%61", "%2e%2e", "%2E.", "%2f", "%5c", ";a", "a;b", "A", "%c3%a4"]
    words += ["a%20", "~", "%7e", "%25%36%31", "a%00", "..%2f", "*", "a&b", "a,b", "a|b"]
    with closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)) as client:
        for _ in range(count):
            rest = "/".join(chance.choices(words, k=chance.randint(0, 4)))
            target = f"/f/{rest}" + chance.choice(["", "", "/", "?a", "?/f/a"])
            client.request("POST", target, b"", KEYS.headers("a"))
            answer = client.getresponse()
            answer.read()
            assert answer.status == (200 if found_by(target) == "a" else 404), target


LOOK = ["/", "/docs", "/docs/docs.js", "/openapi.json", "/metrics", "/functions/a", "/v2"]
LOOK += ["/console/session", "/console/events?function=a", "/console/functions/a"]
LOOK += ["/v2/health/ready", "/v2/repository/index", "/v2/models/stats", "/-/routes", "/-/Routes"]
OPERATE = ["/v2/repository/models/a/load", "/v2/repository/models/a/capture"]
CALL = ["/v1/embeddings", "/v1/models"]


@pytest.mark.parametrize("target", LOOK + OPERATE + CALL)
def test_a_fixed_route_takes_its_scope(proxy: Running, target: str):
    """Another one is 403: that the route is there is no secret. Here nothing answers them, but HAProxy
    where it has passed them on.
    """
    wanted = "looks" if target in LOOK else "operates" if target in OPERATE else "calls"
    for name in ("looks", "operates", "calls", "all"):
        answer = ask(proxy, target, header(name), method="GET")
        is_open = name in (wanted, "all")
        assert (status_of(answer) == 403) is not is_open, name
        if not is_open and not target.startswith("/v1/"):
            body = json.loads(answer.partition(b"\r\n\r\n")[2])
            assert body["code"] == "forbidden"


@pytest.mark.parametrize("target", ["/-/routes", "/-/Routes", "/-/", "/-/other"])
def test_rays_own_routes_are_for_keys_of_all_functions(proxy: Running, target: str):
    """They name every application, to whatever calls them; HAProxy answers itself."""
    hidden = b"no function or route answers here"
    for name in ("a-looks", "a-all"):
        answer = ask(proxy, target, header(name), method="GET")
        assert (status_of(answer), hidden in answer) == (404, True), name
    for line in (header("looks"), header("all"), f"{SECRET}: {SECRET_OF_CALLS}"):
        assert hidden not in ask(proxy, target, line, method="GET")


@pytest.mark.parametrize(
    "target",
    ["/functions/{}", "/v2/repository/models/{}/load", "/console/functions/{}"],
)
def test_a_route_that_names_a_function_is_closed_with_it(proxy: Running, target: str):
    """As if the function were not there; another key's is passed on."""
    answers = {
        ask(proxy, target.format(name), header("a-all")) for name in ("ab", "no", "a%2fb", "A")
    }
    assert len(answers) == 1
    assert status_of(answers.pop()) == 404
    passed = ask(proxy, target.format("a"), header("a-all"))
    assert b"the catalogue at / lists" in passed  # HAProxy's own, of no application


CONSOLE_ACTION = "/console/functions/{}/wake"


def test_the_console_takes_its_scopes(proxy: Running):
    """Its page and files none, since they ask for a key; what it shows `look`, what it does
    `operate`, and each the function that is named.
    """
    for target in ("/console", "/console/assets/app.js"):
        for line in ((), (header("calls"),), ("x-api-key: wrong",)):
            assert b"the catalogue at / lists" in ask(proxy, target, *line, method="GET")
        assert status_of(ask(proxy, target, method="POST")) == 401
    for target in ("/console/session", "/console/events", "/console/assets", "/consoles"):
        assert status_of(ask(proxy, target, method="GET")) == 401
    for name, status in (("looks", 403), ("calls", 403)):
        assert status_of(ask(proxy, CONSOLE_ACTION.format("a"), header(name))) == status, name
    for name in ("operates", "all", "a-all"):
        answer = ask(proxy, CONSOLE_ACTION.format("a"), header(name))
        assert b"the catalogue at / lists" in answer, name
    for name in ("ab", "no", "a%2fb"):
        answer = ask(proxy, CONSOLE_ACTION.format(name), header("a-all"))
        assert b"the catalogue at / lists" not in answer
        assert status_of(answer) == 404


def test_what_may_look_sees_a_function_and_does_not_call_it(proxy: Running):
    """Its metadata; only of functions that it has."""
    for name, target, status in (
        ("a-looks", "/f/a", 200),
        ("a-looks", "/f/a/ready", 200),
        ("a-looks", "/f/ab", 404),
        ("looks", "/f/ab", 200),
        ("operates", "/f/ab", 404),
        ("looks", "/f/other", 404),
    ):
        assert status_of(ask(proxy, target, header(name), method="GET")) == status, (name, target)


# What is behind it hears.


def test_a_process_hears_whose_call_it_is_and_never_the_key(proxy: Running):
    """Whatever the client says of it."""
    lies = ["x-wakeful-key: all", "X-Wakeful-Functions: *", "x-wakeful-scopes: operate"]
    lies += ["x-wakeful-edge: e", "x-wakeful-passed: 1", "x-wakeful-sequence: 1"]
    lies += ["forwarded: for=me", "x-wakeful-timeout-seconds: 9", "x-wakeful-function: ab"]
    for line in (header("nested"), f"authorization: Bearer {KEYS.sent['nested']}"):
        Replica.forget()
        assert status_of(ask(proxy, "/f/heads", line, *lies)) == 200
        (head,) = Replica.heads
        ours = {name.lower(): value for name, value in head if "wakeful" in name.lower()}
        ours.pop("x-wakeful-call")
        assert ours == {
            "x-wakeful-key": "nested",
            "x-wakeful-edge": edge_secret(SECRET_OF_CALLS),
        }
        assert {"forwarded", "authorization", "x-api-key"}.isdisjoint(
            name.lower() for name, _ in head
        )


def test_what_shows_functions_hears_which_the_key_opens(tmp_path: Path):
    """Metadata of functions that call others, and routes of ours; what is open without a key hears that
    none is.
    """
    routes = {f"/f/heads/{target}": f"@{target}" for target in ("look", "call", "operate")}

    def open_one(text: str) -> str:
        assert text.count("path_beg /console/assets/") == 1
        return text.replace("path_beg /console/assets/", "path_beg /f/heads/open")

    with proxied(tmp_path, KEYS.known, {**PREFIXES, **routes}, change=open_one) as proxy:
        for lines, opened in (
            ([], "-"),
            (["x-wakeful-functions: *"], "-"),
            (["x-api-key: wrong"], "-"),
            ([header("a")], "-"),
            ([header("nested")], "heads,nested"),
            ([f"{SECRET}: {SECRET_OF_CALLS}", "x-wakeful-functions: b"], "b"),
        ):
            Replica.forget()
            assert status_of(ask(proxy, "/f/heads/open", *lines, method="GET")) == 200
            (head,) = Replica.heads
            assert [value for name, value in head if name == "x-wakeful-functions"] == [opened]
        for name, opened, targets in (
            ("all", "*", ["", *routes]),
            ("a-all", "a", list(routes)),
            ("nested", "heads,nested", ["", "/f/heads/call"]),
        ):
            for target in targets:
                Replica.forget()
                answer = ask(proxy, target or "/f/heads", header(name), method="GET")
                assert status_of(answer) == 200
                (head,) = Replica.heads
                assert ("x-wakeful-functions", opened) in head


def test_a_password_of_a_functions_own_is_passed_on(proxy: Running):
    """Where the key is in the other header."""
    assert status_of(ask(proxy, "/f/heads", header("nested"), "authorization: Basic eDp5")) == 200
    (head,) = Replica.heads
    assert ("authorization", "Basic eDp5") in head


def test_a_function_says_for_which_key_it_calls(proxy: Running):
    """It has the secret, and what it says is believed."""
    lines = [f"{SECRET}: {SECRET_OF_CALLS}", "x-wakeful-key: a", "x-wakeful-function: heads"]
    assert status_of(ask(proxy, "/f/heads", *lines)) == 200
    (head,) = Replica.heads
    ours = {name: value for name, value in head if "wakeful" in name and "call" not in name}
    assert ours == {
        SECRET: SECRET_OF_CALLS,
        "x-wakeful-key": "a",
        "x-wakeful-function": "heads",
        "x-wakeful-edge": edge_secret(SECRET_OF_CALLS),
    }


def test_of_one_id_each_key_has_a_sequence(proxy: Running):
    """HAProxy remembers them apart."""
    written = proxy.folder / "sequences.1"
    for name in ("a", "a-all"):
        lines = [header(name), "x-sequence-id: 7", "x-sequence-start: 1"]
        assert status_of(ask(proxy, "/f/a", *lines)) == 200
    digests = [line.split()[1] for line in written.read_text().splitlines()]
    assert len(digests) == len(set(digests)) == 2
    assert {len(digest) for digest in digests} == {64}


def test_a_wrong_key_is_in_no_log(tmp_path: Path):
    """Nor is a right one: of HAProxy's own, at its target and on its standard error."""
    keys = Keys()
    keys.add("k")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
        target.bind(("127.0.0.1", 0))
        host, port = target.getsockname()
        wrong = make_key()
        with proxied(
            tmp_path, keys.known, deployed=replace(KEYED, logs=True), log_target=f"{host}:{port}"
        ) as proxy:
            for key, status in ((keys.sent["k"], 200), (wrong, 401)):
                for line in (f"x-api-key: {key}", f"authorization: Bearer {key}"):
                    assert status_of(ask(proxy, "/f/a", line)) == status
            ask(proxy, "/f/last", f"x-api-key: {keys.sent['k']}")
            lines = []
            target.settimeout(30)
            while not lines or b"/f/last" not in lines[-1]:
                lines.append(target.recv(65536))
            said = b"".join(lines) + (tmp_path / "haproxy.log").read_bytes()
            said += proxy.tell("show map; show table wakeful_guesses; show sess all").encode()
    assert len(lines) > 4
    for key in (keys.sent["k"], wrong):
        assert key.encode() not in said


def test_a_body_is_not_read_of_what_is_refused(proxy: Running):
    """It is answered while the body is on its way."""
    with_fresh_address(proxy)
    for lines, status in (([], 401), ([header("a")], 404)):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as caller:
            head = ["POST /f/ab HTTP/1.1", "host: h", *lines, "content-length: 1000"]
            caller.sendall("\r\n".join([*head, "", "some of it"]).encode())
            assert status_of(caller.recv(4096)) == status


def test_without_keys_nothing_is_answered(tmp_path: Path):
    """HAProxy has just started on a machine that has joined, say: not 401, which clients take for the
    last word.
    """
    make_files(tmp_path)
    with proxied(tmp_path, None) as proxy:
        for line in (header("all"), "x-none: 1", f"authorization: Bearer {KEYS.sent['all']}"):
            answer = ask(proxy, "/f/a", line)
            assert status_of(answer) == 503
            assert b"retry-after: 1" in answer
        assert status_of(ask(proxy, "/v2/health/live", method="GET")) == 404
        wait_until(lambda: status_of(ask(proxy, "/f/a", f"{SECRET}: {SECRET_OF_CALLS}")) == 200)
