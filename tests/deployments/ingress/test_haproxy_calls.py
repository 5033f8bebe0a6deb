"""What clients of our HAProxy meet: the real program, on what Ray really writes."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from deployments.ingress.admin_socket import refuse_new
from deployments.ingress.haproxy.rules import (
    ARRIVED,
    CATALOGUE,
    CONSOLE,
    CROWDED,
    ONCE,
    OWN,
    UPLOAD_S,
)
from tests.deployments.ingress.haproxy.proxies import (
    BUFFER_BYTES,
    END,
    Replica,
    Running,
    before_two,
)
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """HAProxy before two replicas."""
    with before_two(tmp_path_factory.mktemp("h")) as running:
        yield running


@pytest.fixture
def proxy(shared: Running) -> Running:
    """The same, with nothing seen yet."""
    Replica.forget()
    return shared


@pytest.mark.parametrize(
    ("path", "status"),
    [("/%66", 200), ("/f/%69nfer", 200), ("/%66%2Fx", 404), ("/%2566", 404), ("/f%zz", 404)],
)
def test_an_encoded_path_goes_where_the_plain_one_goes(proxy, path, status):
    """HAProxy compares and passes on letters, whatever they came as."""
    answer = proxy.send(f"POST {path} HTTP/1.1\r\nhost: x".encode() + END)
    assert answer.split(b" ")[1] == str(status).encode()


@pytest.mark.parametrize(
    ("header", "is_kept"),
    [
        (b"x-request-id: mine ~!", True),
        (b"x-request-id: caf\xe9", False),
        (b"x-request-id: caf\xc3\xa9", False),
        (b"X-Request-Id: fine\r\nx-request-id: a\tb\x80", False),
        (b"x-session-id: caf\xe9", False),
        (b"X_Session-ID: caf\xe9", False),
        (b"x-session-id: caf", True),
        (b"serve_multiplexed_model_id: \xff", False),
        (b"Serve-Multiplexed_Model-Id: \xff", False),
        (b"serve-multiplexed-model-id: m1", True),
        (b"x-multiplexed: \xff\r\nx-session: \xff", True),
        (b"x-tenant: caf\xe9", True),
    ],
)
def test_serve_gets_no_id_that_it_cannot_decode(proxy, header, is_kept):
    """It would answer 500 for a request that is none of its business; other headers are a stage's,
    whatever they hold.
    """
    other = b"x-name: caf\xe9"
    answer = proxy.send(b"POST /f/heads HTTP/1.1\r\nhost: x\r\n" + header + b"\r\n" + other + END)
    assert answer.startswith(b"HTTP/1.1 200")
    got = [name.lower().encode() for name, _ in Replica.heads[-1]]
    asked = [line.partition(b":")[0].lower() for line in header.split(b"\r\n")]
    assert [name for name in got if name in asked] == (asked if is_kept else [])
    assert b"x-name" in got


def test_a_client_that_closes_its_side_is_told_so(proxy):
    """It counts as one that leaves: a client that is gone looks the same."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as caller:
        caller.sendall(b"POST /f HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab")
        caller.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: caller.recv(4096), b""))
    assert not answer or b"which counts as leaving" in answer


@pytest.mark.parametrize("size", [5, 64 * 1024])
def test_a_call_whose_replica_died_is_sent_to_the_other(proxy, size):
    """Whole, and as old as it is: the time of its arrival is that of the first attempt, whatever
    the caller claims.
    """
    body = "x" * size
    answer = httpx.post(f"{proxy.url}/f/die", content=body, headers={ARRIVED: "0-0-0"}, timeout=60)
    assert (answer.status_code, answer.text) == (200, body)
    (first, first_body), (second, second_body) = Replica.requests
    assert (first, first_body) == (second, second_body)
    assert abs(int(first.split("-")[0]) / 1e6 - time.time()) < 60


@pytest.mark.parametrize("deployment", [ONCE, "Shop"])
def test_a_call_is_not_sent_again_where_the_function_declines_it_or_is_not_ours(
    tmp_path, deployment
):
    """It may have been computed: 503, and the other replica gets nothing of it."""
    with before_two(tmp_path, deployment) as proxy:
        lost = httpx.post(f"{proxy.url}/f/die", content=b"x", timeout=60)
        assert (lost.status_code, lost.json()["code"]) == (503, "unavailable")
        assert len(Replica.requests) == 1


@pytest.mark.parametrize("count", [1, 4])
def test_a_call_that_is_not_sent_again_is_answered_on_a_connection_that_is_kept(tmp_path, count):
    """However many were answered on it before: HAProxy would close it without a word."""
    with before_two(tmp_path, ONCE) as proxy, httpx.Client(timeout=60) as client:
        for _ in range(count):
            assert client.post(f"{proxy.url}/f", content=b"x").status_code == 200
        Replica.requests.clear()
        lost = client.post(f"{proxy.url}/f/die", content=b"x")
        assert (lost.status_code, lost.json()["code"]) == (503, "unavailable")
        assert "it may have been computed" in lost.json()["error"]
        assert len(Replica.requests) == 1
        assert client.post(f"{proxy.url}/f", content=b"x").status_code == 200


def test_a_body_beyond_the_buffer_cannot_be_sent_again(proxy):
    """HAProxy has passed its beginning on and forgotten it: the error says that the replica
    died, and when to call again.
    """
    lost = httpx.post(f"{proxy.url}/f/die", content=b"x" * 200_000, timeout=60)
    assert (lost.status_code, lost.headers["retry-after"], lost.json()["code"]) == (
        503,
        "1",
        "unavailable",
    )


def test_a_body_beyond_the_buffer_has_no_answer_on_a_connection_that_is_kept(proxy):
    """What docs/errors.md says: HAProxy closes the client's connection, for it to call again."""
    with httpx.Client(timeout=60) as client:
        for _ in range(4):
            assert client.post(f"{proxy.url}/f", content=b"x").status_code == 200
        Replica.requests.clear()
        with pytest.raises(httpx.RemoteProtocolError):
            client.post(f"{proxy.url}/f/die", content=b"x" * 200_000)


@pytest.mark.parametrize(
    ("declared", "status"), [(BUFFER_BYTES + 1, b"413"), (10 << 30, b"413"), (9, b"")]
)
def test_a_body_that_says_it_is_longer_than_the_buffer_is_not_waited_for(proxy, declared, status):
    """A function refuses it by its head, before the client has sent it. A shorter one is not begun
    before it is whole.
    """
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=2) as client:
        head = f"POST /f/refused HTTP/1.1\r\nhost: t\r\ncontent-length: {declared}\r\n\r\n"
        client.sendall(head.encode())
        if status:
            assert client.recv(1000).split()[1] == status
        else:
            with pytest.raises(TimeoutError):
                client.recv(1000)
            client.sendall(bytes(declared))
            assert client.recv(1000).split()[1] == b"413"


def test_http_2_does_not_begin_by_its_first_bytes(proxy):
    """As in one process; in TLS it is agreed upon."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_an_upstream_that_failed_is_no_lost_replica(proxy):
    """A function's own 502 is passed on as it is, and HAProxy's is 503 without a trace of why."""
    lost = httpx.post(f"{proxy.url}/f/die", content=b"x" * 200_000, timeout=60)
    failed = httpx.post(f"{proxy.url}/f/up", content=b"", timeout=60)
    assert [failed.status_code, lost.status_code] == [502, 503]
    assert OWN not in lost.headers
    assert len(Replica.requests) == 2


def test_a_replica_hears_of_a_client_that_left(proxy):
    """While it computes: what its call costs may be spared."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as caller:
        caller.sendall(b"POST /f/watched HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx")
        wait_until(lambda: Replica.requests)
    assert Replica.given_up.wait(30)


def test_an_answer_that_has_begun_cannot_be_taken_back(proxy):
    """Its replica died in the middle of it; the caller sees that it is not whole."""
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{proxy.url}/f/half", content=b"", timeout=60)


@pytest.mark.parametrize("identity", ["mine", 'a"\\b', "x" * 36, "x" * 128])
def test_haproxys_own_answers_have_the_error_form(proxy, identity):
    """No replica: 503 with Retry-After; no such path: 404. Both with the caller's request id."""
    headers = {"x-request-id": identity}
    gone = httpx.post(f"{proxy.url}/g", content=b"", headers=headers, timeout=60)
    assert (gone.status_code, gone.headers["retry-after"], gone.json()["code"]) == (
        503,
        "1",
        "unavailable",
    )
    unknown = httpx.get(f"{proxy.url}/h", headers=headers, timeout=60)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    for answer in (gone, unknown):
        assert answer.json()["request_id"] == answer.headers["x-request-id"] == identity


@pytest.mark.parametrize("sent", [{}, {"x-request-id": ""}, {"x-request-id": "caf\xe9".encode()}])
def test_haproxys_own_answers_have_an_id_where_the_caller_has_none(proxy, sent):
    """One for the body and the header, and each answer one of its own."""
    answers = [
        httpx.post(f"{proxy.url}{path}", content=b"", headers=sent, timeout=60)
        for path in ("/g", "/h", "/h")
    ]
    ids = [answer.json()["request_id"] for answer in answers]
    assert [answer.headers["x-request-id"] for answer in answers] == ids
    assert len(set(ids)) == 3
    assert {len(one) for one in ids} == {36}


def test_an_id_in_haproxys_own_answers_is_bounded(proxy):
    """As in all others."""
    answer = httpx.get(f"{proxy.url}/h", headers={"x-request-id": "a" * 10_000}, timeout=60)
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "a" * 128


def test_a_drain_waits_for_calls_and_for_no_page(tmp_path):
    """A page of the console is open as long as its reader wants."""
    with before_two(tmp_path, CATALOGUE) as proxy, ExitStack() as stack:
        for line in (b"GET /console/events", b"POST /f/watched"):
            client = socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
            stack.enter_context(client)
            client.sendall(line + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        for name in (CONSOLE, "http-f"):
            wait_until(lambda name=name: f"fe=http_frontend be={name} " in proxy.tell("show sess"))
        assert refuse_new(proxy.folder / "s") == 1


def test_a_body_that_is_damaged_has_the_error_form(proxy):
    """A head that is damaged has HAProxy's own page (docs/errors.md): it is no request yet."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as caller:
        caller.sendall(
            b"POST /f HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n"
        )
        wait_until(lambda: "fe=http_frontend" in proxy.tell("show sess"))
        caller.sendall(b"no length\r\n")
        head, _, body = b"".join(iter(lambda: caller.recv(4096), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["code"] == "bad_request"
    assert proxy.send(b"no request\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_a_request_that_does_not_arrive_is_a_slow_upload(tmp_path):
    """In half a minute: 408, and no replica hears of it. A body has the error form; a head HAProxy's
    own page.
    """
    late = f"http-request {UPLOAD_S}s", f"time {UPLOAD_S}s"

    def hurried(text: str) -> str:
        assert [text.count(one) for one in late] == [1, 1]
        return text.replace(late[0], "http-request 1s").replace(late[1], "time 1s")

    with before_two(tmp_path, change=hurried) as proxy:
        assert proxy.send(b"POST /f HTTP/1.1\r\n").startswith(b"HTTP/1.1 408")
        head, _, body = proxy.send(
            b"POST /f HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx"
        ).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408")
        assert json.loads(body)["code"] == "slow_upload"
        assert Replica.requests == []


@pytest.mark.parametrize("crowded", [0, 1])
def test_a_client_refused_while_it_is_crowded_loses_its_connection(tmp_path, crowded):
    """There are so many in all, and others wait for one: callers of a function that refuses them
    must not have them all.
    """
    with (
        before_two(
            tmp_path,
            change=lambda text: text.replace(f"fe_conn gt {CROWDED}", f"fe_conn gt {crowded}"),
        ) as proxy,
        httpx.Client(timeout=60) as client,
    ):
        answers = [client.post(f"{proxy.url}{path}", content=b"") for path in ("/f", "/f/busy")]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert [answer.headers.get("connection") for answer in answers] == [
            None,
            None if crowded else "close",
        ]


@pytest.mark.full
def test_an_answer_that_nobody_takes_is_given_up_and_one_that_comes_late_is_not(tmp_path):
    """Silence of the function counts for nothing: the timeout is of a client that has something to
    take.
    """
    with before_two(tmp_path, timeout_client_s=1) as proxy:
        late = proxy.send(b"POST /f/late HTTP/1.1\r\nhost: x" + END)
        assert late.endswith(b"\r\n\r\nlate")
        slow = proxy.send(b"POST /f/slow HTTP/1.1\r\nhost: x" + END)
        assert slow.endswith(b"\r\n\r\nslow")
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as caller:
            caller.sendall(b"POST /f/large HTTP/1.1\r\nhost: x" + END)
            assert Replica.given_up.wait(30)
