"""The copies that HAProxy serves with: taken when they may be, kept when they may not, and given to
a HAProxy that runs.
"""

from __future__ import annotations

import json
import ssl
import stat
import time
from contextlib import contextmanager

import pytest

from deployments.ingress import admin_socket
from deployments.ingress.haproxy.syntax import quote_word
from deployments.ingress.haproxy.terms import TlsTerms
from deployments.ingress.tls import copies
from deployments.ingress.tls.copies import (
    CLIENTS,
    PAIR,
    STATE,
    CertificateWatch,
    TlsState,
    read_state,
    refresh,
    refuse_older,
)
from deployments.ingress.tls.files import MOST_BYTES
from deployments.ray_support.environment import BUFFER_BYTES
from tests.certificates import Authority, authority, client_file, write_files
from tests.deployments.ingress.haproxy.proxies import free, started
from tests.deployments.projects import wait_until

NOW = time.time()
DAY = 86_400.0


@contextmanager
def serving(folder, files):
    """A HAProxy that ends TLS with the copies of these files, and says whose certificate its client
    has.
    """
    refresh(files, folder, time.time())
    port = free()
    options = " ".join(TlsTerms.of(folder, files).options())
    text = f"""\
global
    stats socket {quote_word(folder / "s")} mode 600 level admin
    tune.bufsize {BUFFER_BYTES}
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
frontend http_frontend
    bind 127.0.0.1:{port} {options}
    http-request return status 200 content-type text/plain lf-string "%[ssl_c_s_dn(cn)]"
"""
    with started(folder, text, port) as running:
        wait_until(lambda: admin_socket.process_id(folder / "s") == running.pid)
        yield running


def certificate_at(port, **options):
    """The certificate that a new client is shown, and is served with."""
    import socket

    context = authority().context(**options)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        shown = client.getpeercert(binary_form=True)
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert client.recv(20).startswith(b"HTTP/1.1 200")
    return shown


def is_let_in(port, certificate):
    """Whether a client with this certificate is answered."""
    try:
        return bool(certificate_at(port, certificate=certificate))
    except (ssl.SSLError, ConnectionError):
        return False


class Looking:
    """A watch that looks when it is told to, and what it has said."""

    def __init__(self, folder, monkeypatch):
        monkeypatch.setattr(copies, "LOOK_S", 0.0)
        monkeypatch.setattr(copies, "AGAIN_S", 0.0)
        self.said = []
        self._watch = CertificateWatch(folder)

    def look(self, files, times=2):
        """Two looks take what has changed; on a busy machine HAProxy may not answer one."""
        for _ in range(times):
            wait_until(lambda: self._watch.look(files, self.said.append))

    def look_at_none(self, files):
        """Where no HAProxy answers."""
        return [self._watch.look(files, self.said.append) for _ in range(2)]

    @property
    def taken(self):
        """Lines that say that HAProxy has others."""
        return [line for line in self.said if "new files are taken" in line]

    def until(self, files, condition):
        """Looks until it is so."""
        self.look(files)
        wait_until(lambda: condition() or (self.look(files, 1) and False))


def test_files_are_copied_once_they_may_be_served_with(tmp_path):
    """Readable by this user alone, with what is known of them."""
    issued = authority().issue("api.example", days=30)
    files = write_files(tmp_path / "files", issued, authority().pem)
    state, has_changed = refresh(files, tmp_path, NOW)
    assert has_changed
    assert (state.subject, state.refused) == ("api.example", "")
    assert NOW + 29 * DAY < state.ends_at < NOW + 31 * DAY
    assert read_state(tmp_path) == state
    for name in (PAIR, CLIENTS, STATE):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert refresh(files, tmp_path, NOW) == (state, False)
    assert state.lines(NOW) == []


def test_files_that_do_not_belong_together_leave_the_copies_as_they_are(tmp_path):
    """And it is said why, until they do."""
    files = write_files(tmp_path / "files", authority().issue("one"))
    before, _ = refresh(files, tmp_path, NOW)
    kept = (tmp_path / PAIR).read_bytes()
    files.cert.write_bytes(authority().issue("two").cert)
    state, has_changed = refresh(files, tmp_path, NOW)
    assert not has_changed
    assert (state.subject, state.ends_at) == (before.subject, before.ends_at)
    assert "not the key" in state.refused
    assert (tmp_path / PAIR).read_bytes() == kept
    assert "those before serve on" in state.lines(NOW)[0]
    write_files(tmp_path / "files", authority().issue("three"))
    state, has_changed = refresh(files, tmp_path, NOW)
    assert (state.subject, state.refused, has_changed) == ("three", "", True)


def test_without_a_first_pair_there_is_no_copy(tmp_path):
    """HAProxy is not started then."""
    files = write_files(tmp_path / "files", authority().issue())
    files.key.unlink()
    state, _ = refresh(files, tmp_path, NOW)
    assert (state.sha1, state.ends_at) == ("", 0.0)
    assert "No such file" in state.refused
    assert not (tmp_path / PAIR).exists()


@pytest.mark.parametrize(
    ("before", "after", "is_refused"),
    [
        (0.0, 99.0, False),
        (99.0, 98.0, False),
        (101.0, 99.0, True),
        (102.0, 101.0, False),
        (100.5, 100.0, True),
        (100.0, 100.0, False),
    ],
)
def test_one_that_has_ended_does_not_take_the_place_of_one_that_holds(before, after, is_refused):
    """Where both have ended, the newer one is as good."""
    assert bool(refuse_older(before, after, 100.0)) is is_refused


def test_a_certificate_that_ends_soon_is_told_of(tmp_path):
    """Also after its end."""
    state = TlsState("a", NOW + 13 * DAY, "AB")
    assert "ends on" in state.lines(NOW)[0]
    assert "ended on" in state.lines(NOW + 14 * DAY)[0]
    assert state.lines(NOW - 2 * DAY) == []


@pytest.mark.parametrize("text", ["", "x", "[]", '{"other": 1}', '{"clients": null}'])
def test_a_state_that_cannot_be_read_is_none(tmp_path, text):
    """It may be of another version."""
    (tmp_path / STATE).write_text(text)
    assert read_state(tmp_path) is None


def test_haproxy_takes_files_that_change(tmp_path, monkeypatch):
    """Without a connection being closed, and two looks after they did."""
    files = write_files(tmp_path / "files", first := authority().issue("one"))
    looking = Looking(tmp_path, monkeypatch)
    with serving(tmp_path, files) as running:
        looking.until(files, lambda: certificate_at(running.port) == first.der)
        write_files(tmp_path / "files", second := authority().issue("two"))
        looking.until(files, lambda: certificate_at(running.port) == second.der)
        assert "'two'" in looking.taken[-1]
        # a chain that changes leaves the certificate as it was
        files.cert.write_bytes(second.cert + authority().pem)
        shown = f"show ssl cert {tmp_path / PAIR}"
        looking.until(files, lambda: "Chain" in running.tell(shown))
        assert len(looking.taken) == 2
        looking.look(files, 5)
        assert len(looking.taken) == 2


def test_haproxy_takes_the_longest_files_that_are_read(tmp_path, monkeypatch):
    """A chain, and authorities of clients."""
    first, second = authority().issue("one"), authority().issue("two")
    room = (MOST_BYTES - len(second.cert) - len(second.key)) // len(authority().pem)
    files = write_files(tmp_path / "files", first, Authority("Another").pem)
    own = client_file(tmp_path, authority().issue("c"))
    looking = Looking(tmp_path, monkeypatch)
    with serving(tmp_path, files) as running:
        looking.look(files)
        assert not is_let_in(running.port, own)
        write_files(
            tmp_path / "files",
            second._replace(cert=second.cert + authority().pem * room),
            authority().pem * (MOST_BYTES // len(authority().pem)),
        )
        looking.until(files, lambda: is_let_in(running.port, own))
        assert certificate_at(running.port, certificate=own) == second.der
    assert (tmp_path / PAIR).stat().st_size > MOST_BYTES - 2 * len(authority().pem)


def test_haproxy_keeps_what_it_has_while_files_are_wrong(tmp_path, monkeypatch):
    """As in a renewal that is half done; it is said once."""
    files = write_files(tmp_path / "files", first := authority().issue())
    looking = Looking(tmp_path, monkeypatch)
    with serving(tmp_path, files) as running:
        looking.look(files)
        second = authority().issue()
        files.key.write_bytes(second.key)
        looking.look(files, 4)
        assert certificate_at(running.port) == first.der
        assert [line for line in looking.said if "not the key" in line] == looking.said
        assert len(looking.said) == 1
        files.cert.write_bytes(second.cert)
        looking.until(files, lambda: certificate_at(running.port) == second.der)
        assert read_state(tmp_path).refused == ""


def test_files_that_were_wrong_and_are_as_before_are_told_of(tmp_path, monkeypatch):
    """A copy over the wrong file, taken back."""
    files = write_files(tmp_path / "files", first := authority().issue())
    looking = Looking(tmp_path, monkeypatch)
    with serving(tmp_path, files):
        looking.look(files)
        files.key.write_bytes(b"")
        looking.look(files)
        files.key.write_bytes(first.key)
        looking.look(files)
        assert "served again" in looking.said[-1]


def test_a_haproxy_that_was_started_with_older_copies_is_given_the_newer(tmp_path, monkeypatch):
    """It may have read them before they changed."""
    files = write_files(tmp_path / "files", authority().issue())
    looking = Looking(tmp_path, monkeypatch)
    with serving(tmp_path, files) as running:
        looking.look(files)
        older = (tmp_path / PAIR).read_text()
        write_files(tmp_path / "files", newer := authority().issue())
        looking.look(files)
        assert admin_socket.set_certificate(tmp_path / "s", tmp_path / PAIR, older) == ""
        assert certificate_at(running.port) != newer.der
        looking.until(files, lambda: certificate_at(running.port) == newer.der)


def test_authorities_of_clients_change_too(tmp_path, monkeypatch):
    """A client of one that is taken away is refused at its next connection."""
    other = Authority("Another")
    own, theirs = (
        client_file(tmp_path, one.issue("c"), f"{name}.pem")
        for one, name in ((authority(), "own"), (other, "theirs"))
    )
    files = write_files(tmp_path / "files", authority().issue(), authority().pem)
    looking = Looking(tmp_path, monkeypatch)
    with serving(tmp_path, files) as running:
        looking.look(files)
        assert is_let_in(running.port, own)
        assert not is_let_in(running.port, theirs)
        files.client_ca.write_bytes(other.pem + authority().pem)
        looking.until(files, lambda: is_let_in(running.port, theirs))
        assert is_let_in(running.port, own)
        files.client_ca.write_bytes(other.pem)
        looking.until(files, lambda: not is_let_in(running.port, own))
        assert is_let_in(running.port, theirs)


def test_a_haproxy_that_does_not_answer_is_no_fault(tmp_path, monkeypatch):
    """It is being started again; files are copied meanwhile."""
    files = write_files(tmp_path / "files", authority().issue("one"))
    looking = Looking(tmp_path, monkeypatch)
    assert looking.look_at_none(files) == [False, False]
    assert read_state(tmp_path).subject == "one"
    assert looking.said == []


def test_authorities_are_not_given_again_where_haproxy_does_not_say_which_it_has(
    tmp_path, monkeypatch
):
    """It is ending, or busy: nothing has changed, and nothing is said."""
    files = write_files(tmp_path / "files", authority().issue("one"), authority().pem)
    state, _ = refresh(files, tmp_path, NOW)
    monkeypatch.setattr(admin_socket, "read_certificates", lambda *_: frozenset({state.sha1}))
    monkeypatch.setattr(admin_socket, "read_authorities", lambda *_: None)
    monkeypatch.setattr(admin_socket, "set_certificate", lambda *_: pytest.fail("given again"))
    looking = Looking(tmp_path, monkeypatch)
    assert looking.look_at_none(files) == [False, False]
    assert looking.said == []


def test_a_folder_that_cannot_be_written_is_told_of(tmp_path, monkeypatch):
    """Once, and tried again each time."""
    files = write_files(tmp_path / "files", authority().issue("one"))
    looking = Looking(tmp_path / "gone", monkeypatch)
    for _ in range(3):
        looking.look_at_none(files)
    (said,) = looking.said
    assert "cannot be copied" in said
    (tmp_path / "gone").mkdir()
    looking.look_at_none(files)
    assert read_state(tmp_path / "gone").subject == "one"


def test_what_haproxy_refuses_is_taken_back(tmp_path):
    """The next attempt begins anew."""
    files = write_files(tmp_path / "files", first := authority().issue())
    with serving(tmp_path, files) as running:
        name = tmp_path / PAIR
        key = authority().issue().key.decode()
        assert admin_socket.set_certificate(tmp_path / "s", name, first.cert.decode() + key)
        assert admin_socket.set_certificate(tmp_path / "s", name, "x\n")
        assert admin_socket.set_certificate(tmp_path / "s", tmp_path / "other", "x\n")
        good = name.read_text()
        assert admin_socket.set_certificate(tmp_path / "s", name, good) == ""
        assert certificate_at(running.port) == first.der
    assert admin_socket.set_certificate(tmp_path / "s", name, good) == "it does not answer"
    assert admin_socket.read_certificates(tmp_path / "s", name) is None
    assert json.loads((tmp_path / STATE).read_text())["refused"] == ""


def test_the_longest_files_fit_haproxys_buffer(tmp_path, monkeypatch):
    """One command has a chain as long as is taken, whatever is in the folder's name."""
    folder = tmp_path / "it's; 1"
    folder.mkdir()
    files = write_files(tmp_path / "files", issued := authority().issue(), authority().pem)
    looking = Looking(folder, monkeypatch)
    with serving(folder, files):
        looking.look(files)
        size = len(authority().pem)
        files.cert.write_bytes(issued.cert + authority().pem * ((60 << 10) // size))
        files.client_ca.write_bytes(
            b"".join(Authority(f"{n}").pem for n in range((60 << 10) // size))
        )
        looking.until(files, lambda: looking.taken)
