"""A head that two programs could read as two requests is refused; one that is only unusual is not."""

from __future__ import annotations

import pytest

from runtime.http.transport.head_rules import find_ambiguity
from tests.problems import expect_values

HOST = (b"host", b"a.example")
CHUNKED = (b"transfer-encoding", b"chunked")


@pytest.mark.parametrize(
    ("version", "target", "headers"),
    [
        ("1.1", b"/", [HOST]),
        ("1.1", b"/", []),
        ("1.0", b"/", [HOST]),
        ("1.1", b"*", [HOST]),
        ("1.1", b"/", [HOST, CHUNKED]),
        ("1.1", b"/", [HOST, (b"transfer-encoding", b" Chunked\t")]),
        ("1.1", b"http://a.example/x", [HOST]),
        ("1.1", b"HTTP://A.Example:80/x", [HOST]),
        ("1.1", b"http://a.example?x", [(b"host", b"A.example:80")]),
        ("1.1", b"http://a.example", []),
        ("1.1", b"/x?to=http://b.example/", [HOST]),
        ("1.1", b"a.example:443", [HOST]),
    ],
)
def test_what_can_be_read_in_one_way_alone(
    version: str, target: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    """However it is spelt."""
    assert find_ambiguity(version, target, headers) is None


@pytest.mark.parametrize(
    ("version", "target", "headers", "words"),
    [
        ("2.0", b"/", [HOST], "HTTP/1.1"),
        ("0.9", b"/", [], "HTTP/1.1"),
        ("1.2", b"/", [HOST], "HTTP/1.1"),
        ("1.1", b"/", [HOST, HOST], "`host`"),
        ("1.1", b"/", [HOST, (b"host", b"b.example")], "`host`"),
        ("1.0", b"/", [HOST, CHUNKED], "HTTP/1.0"),
        ("1.1", b"/", [HOST, CHUNKED, CHUNKED], "`chunked`"),
        ("1.1", b"/", [(b"transfer-encoding", b"gzip, chunked")], "`chunked`"),
        ("1.1", b"/", [(b"transfer-encoding", b"identity")], "`chunked`"),
        ("1.1", b"/", [(b"transfer-encoding", b"")], "`chunked`"),
        ("1.1", b"http://b.example/", [HOST], "`host`"),
        ("1.1", b"http://a.example:8080/", [HOST], "`host`"),
        ("1.1", b"http://b.example@a.example/", [HOST], "`host`"),
        ("1.1", b"http://a.example#/", [HOST], "`host`"),
    ],
)
def test_what_could_be_read_in_two_ways(
    version: str, target: bytes, headers: list[tuple[bytes, bytes]], words: str
) -> None:
    """It is said which part."""
    expect_values(find_ambiguity(version, target, headers) or "", words)
