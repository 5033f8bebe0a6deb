"""`wakeful call` with files and forms, against a server that says what came."""

from __future__ import annotations

import json
import sys
import threading
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import click
import httpx
import pytest
from click.testing import CliRunner

from deployments.cli import main
from deployments.cli.call import FormPart, read_part

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


PRINTED = threading.Semaphore(0)
"""Released when the first item of a stream is printed."""


class Echo(BaseHTTPRequestHandler):
    """Answers with the type and the parts of what came; with a picture at `/v2/models/draw`."""

    def do_POST(self):
        """One call."""
        body, kind = self.rfile.read(int(self.headers["content-length"])), "application/json"
        sent = self.headers["content-type"]
        content = json.dumps({"type": sent, "body": body.decode("latin-1")}).encode()
        if sent.startswith("multipart/"):
            head = f"content-type: {sent}\r\n\r\n".encode()
            parts = BytesParser(policy=HTTP).parsebytes(head + body).iter_parts()
            content = json.dumps(
                [
                    [
                        part.get_param("name", header="content-disposition"),
                        part.get_filename(),
                        part["content-type"],
                        part.get_payload(decode=True).decode("latin-1"),
                    ]
                    for part in parts
                ]
            ).encode()
        if self.path.endswith("/draw"):
            content, kind = PNG, "image/png"
        if self.path.endswith("/drip"):
            self.drip(body)
            return
        self.send_response(400 if b"wrong" in body else 200)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(content)

    def drip(self, body):
        """Two items, the second once the first is printed; or an error, or nothing, behind it."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        if b"breaks" in body:
            self.send_header("content-length", "1000")
        self.end_headers()
        self.wfile.write(b"data: 1\n\n")
        self.wfile.flush()
        assert PRINTED.acquire(timeout=30)
        if b"breaks" in body:
            return
        last = b"event: error\ndata: {}\n\n" if b"fails" in body else b"event: done\ndata: {}\n\n"
        self.wfile.write(last)

    def log_message(self, *_):
        """Nothing is printed."""


@pytest.fixture
def echo():
    """The address of a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def call(tmp_path, monkeypatch, echo):
    """Runs it in a folder with some files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("x.png", "a;b.png", "odd.unheardof"):
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "note.txt").write_text("größer\n", encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n{"a": 2}\n')

    def run(*arguments, function="f", **more):
        return CliRunner().invoke(main, ["call", function, *arguments, "--url", echo], **more)

    return run


def test_a_form_is_sent_as_curl_sends_it(call):
    """Files with their names and types, texts of files, values; a field as often as it is given."""
    result = call(
        *("-F", "image=@x.png", "-F", "image=@x.png;type=image/x-odd;filename=y"),
        *("-F", "text=<note.txt", "--form", "k=3", "-F", 'b=@"a;b.png"', "-F", "empty="),
    )
    assert result.exit_code == 0, result.output
    png, text = PNG.decode("latin-1"), "größer\n".encode().decode("latin-1")
    assert json.loads(result.stdout) == [
        ["image", "x.png", "image/png", png],
        ["image", "y", "image/x-odd", png],
        ["text", None, None, text],
        ["k", None, None, "3"],
        ["b", "a;b.png", "image/png", png],
        ["empty", None, None, ""],
    ]


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["@x.png"], "image/png"),
        (["@x.png", "--type", "image/x-odd"], "image/x-odd"),
        (["@x.png", "-H", "content-type: image/x-odd"], "image/x-odd"),
        (["@odd.unheardof", "--type", "application/octet-stream"], "application/octet-stream"),
        (["@rows.jsonl"], "application/x-ndjson"),
        (["@note.txt"], "text/plain"),
        (['{"a": 1}'], "application/json"),
        (['{"a": 1}', "--type", "text/plain"], "text/plain"),
    ],
)
def test_a_file_is_sent_as_what_it_is(call, arguments, kind):
    """By what is said, by its name; JSON stays JSON."""
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["type"] == kind


@pytest.mark.parametrize("argument", ["-", "@-"])
def test_standard_input_is_sent(call, argument):
    """As JSON, or as what is said of it."""
    assert json.loads(call(argument, input='{"a": 1}').stdout)["type"] == "application/json"
    result = call(argument, "--type", "image/png", input=PNG)
    assert json.loads(result.stdout) == {"type": "image/png", "body": PNG.decode("latin-1")}
    result = call("-F", "image=@-", input=PNG)
    assert json.loads(result.stdout)[0][3] == PNG.decode("latin-1")


def test_an_answer_is_written_as_it_came(call, tmp_path):
    """Byte for byte; an error is printed, and no file is written."""
    result = call('{"a": 1}', "-o", "out.png", function="draw")
    assert (result.exit_code, result.output) == (0, "")
    assert (tmp_path / "out.png").read_bytes() == PNG
    result = call('{"wrong": 1}', "-o", "none.png", function="f")
    assert result.exit_code == 1
    assert "wrong" in result.stderr
    assert not (tmp_path / "none.png").exists()
    result = call('{"a": 1}', "-o", "none/out.png", function="draw")
    assert result.exit_code == 1
    assert "none/out.png" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["@odd.unheardof"],
        ["@none.png"],
        ["-F", "image"],
        ["-F", "=x"],
        ["-F", "image=@none.png"],
        ["-F", "image=@x.png;kind=a"],
        ["-F", "image=@a;b.png"],
        ["-F", "a=1", "{}"],
        ["-F", "a=1", "--type", "image/png"],
        ["-F", "a=1", "-H", "content-type: image/png"],
        ["-o", ".", "{}"],
    ],
)
def test_what_cannot_be_sent_is_a_mistake_on_the_command_line(call, arguments):
    """Without a traceback, and before anything is sent."""
    result = call(*arguments)
    assert (result.exit_code, type(result.exception)) == (2, SystemExit), result.output


def test_a_part_is_read_as_curl_reads_it(tmp_path):
    """Equals signs of a value are its own."""
    (tmp_path / 'a"b.png').write_bytes(b"x")
    assert read_part("a=b=c;d") == FormPart("a", b"b=c;d")
    path = str(tmp_path / 'a\\"b.png')
    assert read_part(f'a=@"{path}"; type=x/y') == FormPart("a", b"x", 'a"b.png', "x/y")


@pytest.mark.parametrize(
    ("body", "status", "last"),
    [("{}", 0, "event: done"), ('"fails"', 1, "event: error"), ('"breaks"', 1, "broke off")],
)
def test_a_stream_is_printed_as_it_comes(call, monkeypatch, body, status, last):
    """The first item before the second is there; its error, or its break, is the command's."""
    echo = click.echo

    def print_and_tell(text, **more):
        echo(text, **more)
        if text.startswith("data: 1"):
            PRINTED.release()

    monkeypatch.setattr("deployments.cli.call.click.echo", print_and_tell)
    done = call(body, function="drip")
    assert done.exit_code == status
    assert done.output.startswith("data: 1\n\n")
    assert last in done.output


def test_a_stream_that_is_no_terminals_is_printed_as_it_came(call, monkeypatch):
    """With the ends of its lines, one that comes in two pieces too."""
    pieces = ("data: a\r\nb\r", "\ndata: 2\r\n\r\n", "data: 3\r")

    def ask(*_, show, **__):
        for piece in pieces:
            show(piece)
        return httpx.Response(200, headers={"content-type": "text/event-stream"})

    monkeypatch.setattr("deployments.cli.call.ask_server", ask)
    assert call("{}").stdout_bytes.decode() == "".join(pieces)


def test_a_stream_is_kept_whole(call, tmp_path):
    """Where it is to be."""
    PRINTED.release()
    assert call("{}", "-o", "out", function="drip").exit_code == 0
    assert (tmp_path / "out").read_bytes().startswith(b"data: 1\n\nevent: done")
