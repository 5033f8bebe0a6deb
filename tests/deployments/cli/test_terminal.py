"""What commands do on a terminal; what they print where none shows it: whole lines, as they are."""

from __future__ import annotations

import io
import sys

import click
import httpx
import pytest

from deployments.cli import status
from deployments.cli.operations.wake_and_sleep import message_of
from deployments.cli.terminal import (
    Progress,
    new_table,
    print_answer,
    print_table,
    printable,
    printable_data,
)
from tests.problems import expect_values

NAME = "sentences-in-many-languages-" * 4


def test_a_pipe_gets_each_row_as_one_line(capsys):
    """Eighty columns would break a name, and a search for it would find nothing."""
    entry = {
        "name": NAME,
        "state": "ready",
        "tier": "host",
        "replicas": 0,
        "url": f"http://127.0.0.1:8000/v2/models/{NAME}",
        "reason": "",
    }
    status._print_table([entry])
    _, row = capsys.readouterr().out.splitlines()
    assert row.split() == [NAME, "ready", "host", "0", f"/v2/models/{NAME}"]


def test_cells_are_text(capsys):
    """What looks like rich's markup or like an emoji is neither."""
    table = new_table()
    table.add_column("licence")
    table.add_row("MIT [bold] :smile: [/x]")
    print_table(table)
    assert capsys.readouterr().out.splitlines()[1].rstrip() == "MIT [bold] :smile: [/x]"


def test_a_reason_is_printed_as_it_is(capsys):
    """One with a path in brackets ended `up`, as a closing tag without its opening one."""
    with Progress("starting") as progress:
        progress("late", {"why": "no [/run/haproxy.sock]"})
        progress("changed", {"news": {"classify": "accepts [image/*]"}})
        progress("untried", {"names": [NAME, NAME]})
    shown = [line.partition(" s  ")[2] for line in capsys.readouterr().err.splitlines()[1:]]
    assert shown[:2] == [
        "HAProxy is late: no [/run/haproxy.sock]",
        "classify: accepts [image/*]",
    ]
    assert len(shown) == 3
    assert shown[2].startswith(f"no answer is tried before the first call: {NAME}, {NAME}. ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ä – 1\u00a0000 \U0001f600\ttab\nline", "ä – 1\u00a0000 \U0001f600\ttab\nline"),
        ("\x1b]0;name\x07", "\ufffd]0;name\ufffd"),
        ("\x9b2J\x7f\x00\r\x0b\x0c", "\ufffd2J" + "\ufffd" * 5),
        ("a\u202eb\u2028\u2066", "a\ufffdb\ufffd\ufffd"),
        ("a,b\r\n1,2\r\nsecret\rshown", "a,b\n1,2\nsecret\ufffdshown"),
    ],
)
def test_what_a_server_says_commands_no_terminal(text, expected):
    """Letters, blanks and lines of any language stay, in plain data too."""
    assert printable(text) == expected
    assert printable_data({text: [text, 1, None, {"a": text}]}) == {
        expected: [expected, 1, None, {"a": expected}]
    }


def test_the_state_of_a_function_commands_no_terminal(capsys):
    """Nor do its reason and the decisions about it."""
    entry = {"name": "f", "state": "failed", "tier": "host", "replicas": 0, "url": "/f"}
    status._print_table([{**entry, "reason": "no \x1b[2J"}])
    status._print_decisions([{"at": 0, "why": "\x1b]0;x\x07"}])
    assert "\x1b" not in capsys.readouterr().out
    assert message_of('{"error": "\\u001b[2J"}') == message_of("\x1b[2J") == "\ufffd[2J"


@pytest.mark.parametrize(
    ("status", "kind", "content", "is_terminal", "printed"),
    [
        (200, "application/json", b'{"a":1}\n', True, b'{"a":1}\n'),
        (200, "text/plain", b"\x1b[2Ja\tb\n", True, b"\xef\xbf\xbd[2Ja\tb\n"),
        (200, "text/plain", b"\x07a\n", False, b"\x07a\n"),
        (200, "text/csv; charset=utf-8", b"a,b\n", True, b"a,b\n"),
        (200, "image/svg+xml", b"<svg/>", True, b"<svg/>\n"),
        (200, "", b"x", True, b"x\n"),
        (200, "image/png", b"\x89PNG\n", False, b"\x89PNG\n"),
        (200, "image/png", b"\x89PNG\n", True, None),
        (400, "application/json", b'{"error":"e"}', False, b""),
    ],
)
def test_what_a_call_prints(monkeypatch, status, kind, content, is_terminal, printed):
    """Text, and a file as it is, but not on a terminal; an error on standard error."""
    output = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(output, "isatty", lambda: is_terminal, raising=False)
    headers = {"content-type": kind} if kind else {}
    answer = httpx.Response(status, headers=headers, content=content)
    if printed is None:
        with pytest.raises(click.ClickException) as refused:
            print_answer(answer)
        expect_values(refused.value.message, "image/png", "5 bytes", "FILE")
        printed = b""
    else:
        print_answer(answer)
    output.flush()
    assert output.buffer.getvalue() == printed
