"""HAProxy ends TLS before replicas: which handshakes it takes, and that HTTP/2 is answered as
HTTP/1.1 is.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import stat
import subprocess
import warnings
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest

from deployments.ingress.haproxy import access
from deployments.ingress.haproxy.protection import protect
from deployments.ingress.haproxy.rules import KEY, SECRET
from deployments.ingress.haproxy.terms import Deployed, TlsTerms
from deployments.ingress.haproxy_config import binary, configure
from deployments.ingress.tls.copies import refresh
from deployments.ray_support.haproxy_names import INNER_SOCKET
from runtime.declaration.access.keys import AccessKey
from tests.certificates import Authority, authority, client_file, write_files
from tests.deployments.ingress.haproxy.proxies import (
    OURS,
    Replica,
    at,
    before_two,
    free,
    replaced,
    replicas,
    started,
    written,
)
from tests.deployments.ingress.keyed import PREFIXES, SECRET_OF_CALLS, Keys
from tests.deployments.projects import wait_until
from tests.hostile.h2_vectors import H2_VECTORS

HALF_OPEN = 200


@contextmanager
def tls_before_two(folder, client_ca=None, change=lambda text: text, **options):
    """Our HAProxy with TLS before two replicas.

    Args:
        change: of the text of its configuration.
    """
    files = write_files(folder / "files", authority().issue(), client_ca)
    state, _ = refresh(files, folder, 0.0)
    assert state.sha1
    deployed = Deployed(is_ours=True, tls=files, **options)
    with replicas() as ports:
        port = free()
        text = config_of(folder, port, ports, deployed)
        with started(folder, change(text), port, ports) as running:
            wait_until((folder / INNER_SOCKET).exists)
            with inner_client(folder) as client:

                def answers():
                    with contextlib.suppress(httpx.TransportError):  # its times may be short
                        secret = {SECRET: deployed.secret}
                        return client.post("/f", headers=secret).status_code == 200

                wait_until(answers)
            Replica.forget()
            yield running


def config_of(folder, port, ports, deployed):
    """What our program gives HAProxy."""
    file = folder / "haproxy.cfg"
    file.write_text(written(folder, port, at(ports)))
    assert configure(file, binary(), deployed, lambda prefix: False).lines
    return file.read_text()


def inner_client(folder):
    """A client of this user's own."""
    transport = httpx.HTTPTransport(uds=str(folder / INNER_SOCKET))
    return httpx.Client(transport=transport, base_url="http://localhost", timeout=60)


def client_of(running, *, http2=False, certificate=None):
    """A client that trusts the authority."""
    return httpx.Client(
        base_url=f"https://localhost:{running.port}",
        verify=authority().context(certificate=certificate),
        http2=http2,
        timeout=60,
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """It runs for all tests that need no other."""
    with tls_before_two(tmp_path_factory.mktemp("tls")) as running:
        yield running


@pytest.fixture
def running(shared):
    """Its replicas have seen nothing yet."""
    Replica.forget()
    return shared


def handshake(port, context, name="localhost"):
    """The version that comes of it."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname=name) as client,
    ):
        return client.version()


@pytest.mark.parametrize(
    ("version", "is_taken"),
    [
        (ssl.TLSVersion.TLSv1, False),
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
def test_versions_before_tls_1_2_are_refused(running, version, is_taken):
    """Though the client could."""
    context = authority().context()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the versions that are refused
        context.minimum_version = context.maximum_version = version
    if is_taken:
        assert handshake(running.port, context) == version.name.replace("_", ".")
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(running.port, context)


@pytest.mark.parametrize("ciphers", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "NULL"])
def test_ciphers_that_a_lost_key_would_open_are_refused(running, ciphers):
    """Of TLS 1.2."""
    context = authority().context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(running.port, context)


def test_renegotiation_is_refused(running):
    """It would be work for the server alone."""
    client = subprocess.run(
        ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{running.port}"],
        input=b"R\n",  # its command for that
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert b"RENEGOTIATING" in client.stdout + client.stderr
    assert b"no renegotiation" in client.stderr


def test_http_in_the_clear_gets_no_answer_and_reaches_nothing(running):
    """The connection is closed; a client of ours says what to write instead."""
    with contextlib.suppress(ConnectionError):
        assert running.send(b"POST /f HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n") == b""
    assert Replica.requests == []


@pytest.mark.parametrize(
    "sent",
    [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", bytes(range(256)) * 3, b"\x16\x03\x01\xff\xff"],
    ids=range(5),
)
def test_damaged_handshakes_leave_good_callers_alone(running, sent):
    """One after the other, and what is none."""
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", running.port), timeout=30) as client:
            client.sendall(sent)
    with client_of(running) as client:
        assert client.post("/f", content=b"good").text == "good"


@pytest.mark.slow
def test_half_open_handshakes_leave_good_callers_alone(running):
    """Many of them, which never end."""
    with contextlib.ExitStack() as stack:
        for number in range(HALF_OPEN):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            one.sendall((b"", b"\x16\x03\x01\x02\x00")[number % 2])
        for http2 in (False, True):
            with client_of(running, http2=http2) as client:
                for number in range(20):
                    assert client.post("/f", content=b"%d" % number).text == str(number)


def test_a_handshake_that_does_not_end_is_ended(tmp_path):
    """As soon as an answer that is not taken; one that a client begins and leaves, or none."""

    def hurry(text):
        changed, count = re.subn(r"timeout client \d+s", "timeout client 500ms", text)
        assert count == 1
        return changed

    with tls_before_two(tmp_path, change=hurry) as running, contextlib.ExitStack() as stack:
        held = []
        for sent in (b"", b"\x16", b"\x16\x03\x01\x02\x00"):
            client = socket.create_connection(("127.0.0.1", running.port), timeout=30)
            held.append(stack.enter_context(client))
            client.sendall(sent)
        for client in held:
            with contextlib.suppress(ConnectionError):
                assert client.recv(1) == b""


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (["x"], None)]
)
def test_the_client_says_which_http_it_speaks(running, offered, chosen):
    """By the handshake."""
    context = authority().context()
    context.set_alpn_protocols(offered)
    with (
        socket.create_connection(("127.0.0.1", running.port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        assert client.selected_alpn_protocol() == chosen


BIG = bytes(range(32, 126)) * 11_000

PREFLIGHT = {
    "origin": "https://a",
    "access-control-request-method": "POST",
    "x-request-id": "mine",
}

REQUESTS = [
    ("POST", "/f", {}, b"small"),
    ("POST", "/f", {}, b""),
    ("POST", "/f", {}, BIG),
    ("POST", "/f", {"x-request-id": "mine"}, b"x" * 60_000),
    ("POST", "/f/refused", {}, BIG[:1000]),
    ("POST", "/f/busy", {}, b"x"),
    ("POST", "/f/up", {}, b"x"),
    ("POST", "/f/die", {}, b"again"),
    ("POST", "/none", {"x-request-id": "mine"}, b"x"),
    ("GET", "/f", {}, None),
    ("HEAD", "/none", {"x-request-id": "mine"}, None),
    ("OPTIONS", "/f", PREFLIGHT, None),
    ("POST", "/%66", {}, b"by another spelling"),
]


@pytest.mark.parametrize(("method", "path", "headers", "body"), REQUESTS, ids=range(len(REQUESTS)))
def test_http2_is_answered_as_http1(running, method, path, headers, body):
    """Status, headers and body; a call is sent again, too."""
    answers = []
    for http2 in (False, True):
        Replica.forget()
        with client_of(running, http2=http2) as client:
            answer = client.request(method, path, headers=headers, content=body)
        assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        kept = {
            name: value
            for name, value in answer.headers.items()
            if name not in ("date", "server", "connection", "transfer-encoding")
        }
        answers.append((answer.status_code, kept, answer.content))
    assert answers[0] == answers[1]


@dataclass(frozen=True)
class Behind:
    """The replicas behind HAProxy; implements ``H2Server``."""

    port: int
    context: ssl.SSLContext
    path: str = "/f/heads/seen/1"

    def seen(self):
        """By what they were called with."""
        markers = [
            next(value for name, value in head if name.lower() == "x-marker")
            for head in Replica.heads
        ]
        bodies = [body.encode() for _, body in Replica.requests]
        return list(zip(markers, bodies, strict=True))


@pytest.mark.parametrize("vector", H2_VECTORS, ids=lambda one: one.name)
def test_frames_are_one_request_or_none(running, vector):
    """Whatever a replica could read in them, written as HTTP/1.1."""
    vector.check(Behind(running.port, authority().context()))


def test_many_streams_of_one_connection(running):
    """At once; each has its own answer."""

    async def call_all():
        context = authority().context()
        async with httpx.AsyncClient(verify=context, http2=True, timeout=60) as client:
            url = f"https://localhost:{running.port}/f"
            await client.post(url, content=b"first")  # the others share its connection
            for _ in range(10):
                bodies = [b"%d" % number * 1000 for number in range(4)]
                answers = await asyncio.gather(*(client.post(url, content=body) for body in bodies))
                assert [answer.content for answer in answers] == bodies
                assert {answer.http_version for answer in answers} == {"HTTP/2"}

    asyncio.run(call_all())


def test_replicas_hear_that_it_was_https(running):
    """As they write addresses into answers; whatever the client says."""
    with client_of(running) as client:
        client.post("/f/heads", content=b"", headers={"x-forwarded-proto": "http"})
    (heads,) = Replica.heads
    assert [value for name, value in heads if name.lower() == "x-forwarded-proto"] == ["https"]


def test_this_users_processes_need_no_certificate(tmp_path):
    """At a socket that other users cannot open; clients' certificates or not."""
    with tls_before_two(tmp_path, authority().pem) as running:
        assert stat.S_IMODE((tmp_path / INNER_SOCKET).stat().st_mode) == 0o600
        with inner_client(tmp_path) as client:
            assert client.post("/f", content=b"inner").text == "inner"
        with pytest.raises(httpx.TransportError), client_of(running) as client:
            client.post("/f", content=b"x")


def test_a_client_without_a_certificate_of_the_authority_gets_no_connection(tmp_path):
    """Whatever else it shows."""
    own = client_file(tmp_path, authority().issue("caller-1"))
    ended = client_file(
        tmp_path, authority().issue("caller-1", days=-1, begins_in_days=-9), "ended.pem"
    )
    theirs = client_file(tmp_path, Authority("Another").issue("caller-1"), "theirs.pem")
    with tls_before_two(tmp_path, authority().pem) as running:
        for http2 in (False, True):
            with client_of(running, http2=http2, certificate=own) as client:
                assert client.post("/f", content=b"x").text == "x"
        for certificate in (None, ended, theirs):
            with (
                pytest.raises(httpx.TransportError),
                client_of(running, certificate=certificate) as client,
            ):
                client.post("/f", content=b"x")


@pytest.mark.parametrize(
    ("common_name", "is_told"),
    [
        ("caller-1", True),
        ("two words", False),
        *(
            pytest.param(*case, marks=pytest.mark.full)  # as of the two above
            for case in (("a.b/c@d", True), ("ü", False), ("", False), ("x" * 64, True))
        ),
    ],
)
def test_the_name_of_a_certificate_is_its_common_name(tmp_path, common_name, is_told):
    """Where it is one that a key may have as its `subject`."""
    own = client_file(tmp_path, authority().issue(common_name))
    files = write_files(tmp_path / "files", authority().issue(), authority().pem)
    refresh(files, tmp_path, 0.0)
    with replicas() as ports:
        port = free()
        file = tmp_path / "haproxy.cfg"
        file.write_text(written(tmp_path, port, at(ports)))
        configure(file, binary(), Deployed(is_ours=True, tls=files), lambda prefix: False)
        told = "    http-request return status 200 content-type text/plain lf-string %[var(txn.wakeful_subject)]\n"
        head, found, rest = file.read_text().partition("    # Ray's: health")
        assert found
        with started(tmp_path, head + told + found + rest, port, ports) as running:
            for http2 in (False, True):
                with client_of(running, http2=http2, certificate=own) as client:
                    for _ in range(2):
                        answer = client.post("/f", content=b"x").text
                        assert answer == (common_name if is_told else "")


def test_without_keys_a_certificates_name_is_the_clients(tmp_path):
    """For the processes behind HAProxy, and of one id each client has a sequence; none says it by
    itself.
    """
    files = {
        name: client_file(tmp_path, authority().issue(name), f"{name}.pem")
        for name in ("caller-1", "caller-2", "two words")
    }
    forged = {"x-wakeful-key": "caller-2", "x-wakeful-functions": "none"}
    sequence = {"x-sequence-id": "7", "x-sequence-start": "1"}
    with tls_before_two(tmp_path, authority().pem) as running:
        for http2 in (False, True):
            for name, told in (
                ("caller-1", ["caller-1"]),
                ("caller-2", ["caller-2"]),
                ("two words", []),
            ):
                Replica.forget()
                with client_of(running, http2=http2, certificate=files[name]) as client:
                    client.post("/f/heads", content=b"", headers=forged | sequence)
                (head,) = Replica.heads
                ours = [(key.lower(), value) for key, value in head]
                assert [value for key, value in ours if key == "x-wakeful-key"] == told
                assert "x-wakeful-functions" not in dict(ours)
        lines = (tmp_path / "sequences.1").read_text().splitlines()
        assert len({line.split()[1] for line in lines}) == len(files)


NEW_KEYS, NO_KEYS, THE_KEYS = (False, True), (False, False), (True, True)


@pytest.mark.parametrize(
    ("certificate", "keys", "sent", "status", "told"),
    [
        (None, NO_KEYS, "x-sequence-id: 7\r\nx-sequence-start: 1", 200, None),
        (None, NEW_KEYS, "x-none: 1", 401, None),
        (None, NEW_KEYS, "x-wakeful-subject: caller-1", 401, None),
        (None, NEW_KEYS, "x-api-key: {k}", 200, "k"),
        ("caller-1", NO_KEYS, "x-wakeful-subject: caller-2", 200, "caller-1"),
        ("caller-1", NO_KEYS, "x-sequence-id: 7\r\nx-sequence-start: 1", 200, "caller-1"),
        ("caller-1", NEW_KEYS, "x-none: 1", 200, "certificate"),
        ("caller-1", THE_KEYS, "x-none: 1", 200, "certificate"),
        ("caller-1", THE_KEYS, "x-api-key: {k}", 200, "k"),
        ("caller-1", THE_KEYS, "x-api-key: wrong", 401, None),
        ("caller-2", NEW_KEYS, "x-wakeful-subject: caller-1", 401, None),
        ("two words", NEW_KEYS, "x-wakeful-subject: caller-1", 401, None),
        ("caller-2", THE_KEYS, "x-wakeful-subject: caller-1", 401, None),
    ],
)
def test_a_call_of_an_old_connection_is_answered_by_the_newest_process(
    tmp_path, certificate, keys, sent, status, told
):
    """Ray starts HAProxy anew at each change of replicas, and where keys are turned on. Whose
    certificate it was is passed on, and is a key as it was before; what a client says of it is not.
    """
    known = Keys()
    known.add("k")
    known.known.append(AccessKey("certificate", subject="caller-1"))
    access.write_files(tmp_path, access.access_maps(known.known, PREFIXES))
    client_ca = None if certificate is None else authority().pem
    had_keys, has_keys = keys
    context = authority().context(
        certificate=client_file(tmp_path, authority().issue(certificate or "any"))
    )
    options = {"asks_for_keys": had_keys, "secret": SECRET_OF_CALLS}
    with (
        tls_before_two(tmp_path, client_ca, **options) as running,
        socket.create_connection(("127.0.0.1", running.port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        files = write_files(tmp_path / "files", authority().issue(), client_ca)
        newest = Deployed(is_ours=True, tls=files, asks_for_keys=has_keys, secret=SECRET_OF_CALLS)
        with replaced(running, config_of(tmp_path, running.port, running.ports, newest)):
            head = ["POST /f/heads HTTP/1.1", "host: h", sent.format_map(known.sent)]
            client.sendall("\r\n".join([*head, "content-length: 0", "", ""]).encode())
            assert client.recv(4096).startswith(f"HTTP/1.1 {status} ".encode())
    assert len(Replica.heads) == (status == 200)
    names = [value for head in Replica.heads for name, value in head if name == KEY]
    assert names == ([] if told is None else [told])


def test_a_haproxy_that_is_not_ours_gets_rays_rules_with_tls(tmp_path):
    """Never HTTP in the clear: where it takes neither, none is started."""
    files = write_files(tmp_path / "files", authority().issue())
    refresh(files, tmp_path, 0.0)
    with replicas() as ports:
        port = free()
        text = written(tmp_path, port, at(ports))
        text = protect(text, is_ours=True, tls=TlsTerms.of(tmp_path, files))
        with started(tmp_path, text, port, ports) as running:
            assert handshake(running.port, authority().context()) == "TLSv1.3"
            with contextlib.suppress(ConnectionError):
                assert b"HTTP" not in running.send(b"GET /f HTTP/1.1\r\nhost: a\r\n\r\n")
            with inner_client(tmp_path) as client:
                assert client.get("/f").status_code in (200, 503)


def test_without_tls_nothing_of_it_is_there(tmp_path):
    """HTTP in the clear has no rule more than before."""
    with before_two(tmp_path, deployed=OURS) as running:
        text = (tmp_path / "haproxy.cfg").read_text()
        assert "ssl" not in text
        assert INNER_SOCKET not in {path.name for path in tmp_path.iterdir()}
        assert running.send(b"GET /f HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
