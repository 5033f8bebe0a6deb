"""What HAProxy gets in place of our configuration: Ray's with the edges that protect."""

from __future__ import annotations

import pytest

from deployments.ingress.haproxy.lacks import CLOSED
from deployments.ingress.haproxy.protection import EMPTY, HTTP, close, protect
from deployments.ingress.haproxy.rules import EDGE, KEPT
from deployments.ingress.haproxy.syntax import Section, parse
from tests.deployments.ingress.haproxy.ray_files import RELEASES, ray_file


def binds(text: str) -> dict[str, list[str]]:
    """What each section listens at."""
    return {
        one.head: [words[1] for words in one.words() if words[0] == "bind"]
        for one in parse(text)
        if any(words[0] == "bind" for words in one.words())
    }


def process(text: str) -> Section:
    """The section of HAProxy itself."""
    return next(one for one in parse(text) if one.kind == "global")


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    ("case", "is_ours", "host", "expected"),
    [
        ("shop", False, "", ["127.0.0.1:9101", "127.0.0.1:8123", "127.0.0.1:8404"]),
        ("shop", True, "", ["127.0.0.1:9101", "127.0.0.1:8123", "127.0.0.1:8404"]),
        ("shop", True, "0.0.0.0", ["127.0.0.1:9101", "0.0.0.0:8123", "127.0.0.1:8404"]),
        (
            "shop",
            True,
            "10.0.0.5",
            ["127.0.0.1:9101", "127.0.0.1:8123", "10.0.0.5:8123", "127.0.0.1:8404"],
        ),
        ("public", False, "", [":9101", "*:8123", "*:8404"]),
        ("public", True, "", ["127.0.0.1:9101", "*:8123", "127.0.0.1:8404"]),
        (
            "grpc",
            True,
            "",
            ["127.0.0.1:9101", "127.0.0.1:8123", "127.0.0.1:9123", "127.0.0.1:8404"],
        ),
    ],
)
def test_what_clients_do_not_call_is_for_this_machine(release, case, is_ours, host, expected):
    """If HTTP or the cluster is; the address of HTTP that HAProxy alone has is its own."""
    text = protect(ray_file(release, case), is_ours=is_ours, host=host)
    assert [bind for one in binds(text).values() for bind in one] == expected
    assert "stats socket /hap/s mode 600 level admin expose-fd listeners" in process(text).lines


@pytest.mark.parametrize(
    ("backend", "is_empty"),
    [
        ("", True),
        ("http-request set-header a b", True),
        ("server r0 10.0.0.4:8000", False),
        ("server-template r 3 10.0.0.4:8000", False),
        ("http-request return status 404", False),
    ],
)
def test_no_routes_are_listed_while_an_application_has_no_servers(backend, is_empty):
    """Other sections, which may have none for ever, are no applications."""
    text = f"""\
frontend http_frontend
    bind *:8123
    use_backend http-f if {{ path_beg /f }}
    use_backend %[var(txn.other)]
backend http-f
    {backend}
backend sessions
    stick-table type ip size 1k
backend http-g
    server r1 10.0.0.5:8000
listen pages
    bind *:8404
"""
    (http,) = [one for one in parse(protect(text, is_ours=True)) if one.head == HTTP]
    assert (EMPTY in http.lines) is is_empty


def without_said(section: Section) -> tuple[str, ...]:
    """Its lines, without the one by which HAProxy says that its ports are closed."""
    return tuple(line for line in section.lines if line != f"set-var {KEPT} str({CLOSED})")


def test_processes_know_what_came_through_it_though_it_is_not_ours():
    """Where other machines reach them, they answer nothing else."""
    text = protect(ray_file("ray_2_60", "shop"), is_ours=True, edge="c0ffee")
    (http,) = [one for one in parse(text) if one.head == "frontend http_frontend"]
    assert http.lines[0] == f"http-request set-header {EDGE} c0ffee"
    assert text.count(EDGE) == 1


def test_all_else_is_as_it_was():
    """Each directive, in its order; and one more, that says so much."""
    before = ray_file("ray_2_60", "router")
    after = protect(before, is_ours=True)
    changed = {
        line
        for one, other in zip(parse(before), parse(after), strict=True)
        for line, now in zip(one.lines, without_said(other), strict=True)
        if line != now
    }
    assert changed == {
        "bind :9101",
        "bind *:8404",
        "stats socket /hap/s mode 666 level admin expose-fd listeners",
    }


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("*:80", "127.0.0.1:80"),
        (":::80", "127.0.0.1:80"),
        ("ipv4@*:80", "127.0.0.1:80"),
        ("ipv6@[::]:80", "127.0.0.1:80"),
        ("0.0.0.0:80-82", "127.0.0.1:80-82"),
        ("*:80,10.0.0.4:81,:82", "127.0.0.1:80,10.0.0.4:81,127.0.0.1:82"),
        ("10.0.0.4:80", "10.0.0.4:80"),
        ("unix@/hap/w", "unix@/hap/w"),
        ("fd@7", "fd@7"),
        ("*:none", "*:none"),
    ],
)
def test_any_address_is_that_of_this_machine_however_it_is_written(address, local):
    """Options behind it stay, and what clients call is left alone."""
    section = Section("listen", "pages", (f"bind {address} name x",))
    assert close(section, is_local=True).lines == (f"bind {local} name x",)
    for called in (section, Section("frontend", "grpc_frontend", section.lines)):
        assert close(called, is_local=called is not section) == called


def test_it_asks_for_little():
    """Of a file that is not known: sections of other names, one that has no bound of connections."""
    text = """\
global
    stats socket /hap/s level admin mode 660
    stats socket /hap/t level user
frontend web
    bind 127.0.0.1:8123
    bind unix@/hap/w mode 666
frontend exporter
    bind *:9101 name "a  b"
    bind [::]:9102
listen pages
    bind 10.0.0.4:8404
"""
    after = protect(text, is_ours=True)
    assert without_said(process(after)) == (
        "stats socket /hap/s level admin mode 600",
        "stats socket /hap/t level user mode 600",
        "maxconn 4096",
    )
    assert list(binds(after).values()) == [
        ["127.0.0.1:8123", "unix@/hap/w"],
        ["127.0.0.1:9101", "127.0.0.1:9102"],
        ["10.0.0.4:8404"],
    ]
    assert protect("no configuration\n", is_ours=True) == ""
