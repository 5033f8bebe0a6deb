"""HAProxy's language as far as it is read here."""

from __future__ import annotations

import pytest

from deployments.ingress.haproxy.syntax import (
    Section,
    is_loopback,
    parse,
    quote_word,
    split_address,
    words_of,
    write,
)

TEXT = """\
# of another program
global
    maxconn 10

    # a comment
  stats socket /s mode 666
defaults
    mode http
frontend\tweb
\tbind :80
    http-request return status 200 string "two  blanks # and no comment"
backend b c
"""


def test_a_file_is_sections_of_lines():
    """Comments and indentation are gone, all else is as it was, blanks in quotes included."""
    assert parse(TEXT) == (
        Section("global", "", ("maxconn 10", "stats socket /s mode 666")),
        Section("defaults", "", ("mode http",)),
        Section(
            "frontend",
            "web",
            ("bind :80", 'http-request return status 200 string "two  blanks # and no comment"'),
        ),
        Section("backend", "b c", ()),
    )


def test_what_is_written_is_read_again():
    """The same sections."""
    sections = parse(TEXT)
    assert parse(write(sections)) == sections
    assert [one.head for one in sections] == ["global", "defaults", "frontend web", "backend b c"]


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "no section\n"])
def test_a_file_without_a_section_has_none(text):
    """HAProxy would refuse the line."""
    assert parse(text) == ()


@pytest.mark.parametrize("letter", ["\u00a0", "\u2028", "\x0b", "\x85"])
def test_only_haproxys_blanks_end_a_word_or_a_line(letter):
    """A path may have letters that Python takes for blanks."""
    (section,) = parse(f"backend b\n    acl a path /x{letter}y\n")
    assert [words_of(line) for line in section.lines] == [["acl", "a", "path", f"/x{letter}y"]]


@pytest.mark.parametrize(
    ("address", "host", "port", "near"),
    [
        (":9101", "", "9101", False),
        ("*:8404", "*", "8404", False),
        ("127.0.0.1:80", "127.0.0.1", "80", True),
        ("localhost:80", "localhost", "80", True),
        ("[::1]:80", "[::1]", "80", True),
        ("::1:80", "::1", "80", True),
        ("fd00::2:80", "fd00::2", "80", False),
        ("10.127.0.1:80", "10.127.0.1", "80", False),
        ("unix@/s", "", "unix@/s", False),
    ],
)
def test_an_address_is_a_host_and_a_port(address, host, port, near):
    """Also of IPv6, with brackets or without."""
    assert split_address(address) == (host, port)
    assert is_loopback(host) is near


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("/tmp/wakeful-0/runs/7/s", "/tmp/wakeful-0/runs/7/s"),
        ("unix@/tmp/a b/w", "'unix@/tmp/a b/w'"),
        ("/tmp/it's #1", "'/tmp/it'\\''s #1'"),
        ("", ""),
    ],
)
def test_a_path_is_one_word(text, word):
    """Whatever letters it has; a plain one stays plain."""
    assert quote_word(text) == word
