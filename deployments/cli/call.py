"""``wakeful call``: call a function, with JSON, a file or a form, and print or keep its answer."""

from __future__ import annotations

import contextlib
import io
import json
import mimetypes
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from deployments.cli.options import (
    KEY_HEADERS,
    FunctionPlace,
    complete_function,
    header_option,
    locate,
    url_option,
    with_key,
)
from deployments.cli.traffic.server_answers import ask_server, is_streamed, tls_options

if TYPE_CHECKING:
    from deployments.ingress.tls.clients import ClientFiles

CALL_TIMEOUT_S: Final = 600.0
"""The function's own deadline is shorter; this one is for a server that does not answer at all."""

JSON: Final = "application/json"

_LINES: Final = {".ndjson": "application/x-ndjson", ".jsonl": "application/x-ndjson"}
"""By the ending of a file's name, which ``mimetypes`` does not know."""

_PART: Final = re.compile(r'(?P<path>"(?:[^"\\]|\\.)*"|[^;]*)(?P<options>(?:;[^;]*)*)', re.DOTALL)
"""Behind the ``@`` or ``<`` of a part: a path, and what is said of it."""


_FAILED: Final = "event: error\n"
"""In the last event of a stream that failed."""


@dataclass(frozen=True, slots=True)
class FormPart:
    """A part of a form, as curl's ``-F`` writes it.

    Attributes:
        filename: None: it is a value, and no file.
        media_type: None: none is said.
    """

    name: str
    content: bytes
    filename: str | None = None
    media_type: str | None = None


@click.command(short_help="Call a function.")
@click.argument("function", shell_complete=complete_function)
@click.argument("body", metavar="[JSON|@FILE]", required=False)
@click.option(
    "--form",
    "-F",
    "form",
    multiple=True,
    metavar="FIELD=VALUE",
    help="A field of a form, as curl has it: FIELD=@FILE sends the content of a file, FIELD=<FILE "
    "its text; may be repeated.",
)
@click.option(
    "--type",
    "media_type",
    metavar="TYPE",
    help="Content type of the body, such as image/png; by default JSON, or by the file's name.",
)
@header_option("A header to send, such as 'x-sequence-id: a'; may be repeated.")
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the answer into FILE, as it comes.",
)
@url_option
@tls_options
@click.pass_context
def call(
    ctx: click.Context,
    function: str,
    body: str | None,
    form: tuple[str, ...],
    media_type: str | None,
    headers: dict[str, str],
    output: Path | None,
    url: str | None,
    trust: ClientFiles,
) -> None:
    """Call FUNCTION with JSON, an object or an array of them, with a file, or with a form.

    `@FILE` reads the body from a file, `@-` or `-` from standard input: JSON, or a file of the type
    that its name says, which the function accepts. `-F image=@photo.png` puts a file into a field.
    The key in WAKEFUL_KEY is sent with it, if there is one.

    Prints the answer, one that streams as it comes, or the error with exit status 1. An answer that
    is a file is printed as it is, but not on a terminal, unless `-o -` says so.
    """
    from urllib.parse import quote

    from deployments.cli.terminal import print_answer, print_text

    sent = dict(headers)
    if form and (body is not None or media_type is not None):
        raise click.UsageError("-F makes the body, and its type. Leave the other out.")
    if form and "content-type" in sent:
        raise click.UsageError(
            "-F writes the content type, with the form's boundary. Leave it out."
        )
    request: dict[str, Any]
    if form:
        request = form_request([read_part(text) for text in form])
    elif body is None:
        raise click.UsageError(
            'nothing to send. Give JSON, such as \'{"text": "two words"}\', @FILE, or -F '
            "FIELD=@FILE."
        )
    else:
        content = _body(body)
        kind = media_type or sent.get("content-type") or _media_type_of(body, content)
        request = {"content": content}
        sent.setdefault("content-type", kind)
    path = f"/v2/models/{quote(function, safe='')}"
    place = locate(function) if url is None else FunctionPlace(url, path, {})
    keyed = with_key(sent)
    if KEY_HEADERS.isdisjoint(keyed):
        keyed |= place.headers
    shown = ""
    # a line's end may come in two pieces
    newlines = io.IncrementalNewlineDecoder(None, translate=sys.stdout.isatty())

    def show(text: str) -> None:
        nonlocal shown
        shown = shown[-len(_FAILED) :] + text
        print_text(newlines.decode(text), nl=False)

    answer = ask_server(
        place.url + place.prefix,
        timeout_s=CALL_TIMEOUT_S,
        is_local=url is None,
        inner=place.inner,
        trust=trust,
        show=show if output is None else None,
        headers=keyed,
        **request,
    )
    print_text(newlines.decode("", final=True), nl=False)
    if output is not None and answer.is_success:
        _write(output, answer.content)
    elif not is_streamed(answer):
        print_answer(answer)
    ctx.exit(0 if answer.is_success and _FAILED not in shown else 1)


def read_part(text: str) -> FormPart:
    """A part as curl's ``-F`` writes it: ``image=@photo.png;type=image/png``, ``note=<note.txt``,
    ``k=3``.

    Raises:
        BadParameter: it is none, or its file cannot be read.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(
            f"{text!r} is not FIELD=VALUE or FIELD=@FILE.", param_hint="--form"
        )
    if not value.startswith(("@", "<")):
        return FormPart(name, value.encode(errors="surrogateescape"))
    found = _PART.fullmatch(value, 1)
    assert found is not None
    path = found["path"]
    if path.startswith('"') and path.endswith('"') and len(path) > 1:
        path = re.sub(r"\\(.)", r"\1", path[1:-1])
    options = dict(_option(option, text) for option in found["options"].split(";")[1:])
    content = _read(path, "--form")
    if value.startswith("<"):
        return FormPart(name, content)
    return FormPart(
        name,
        content,
        options.get("filename", Path(path).name),
        options.get("type", mimetypes.guess_type(path)[0] or "application/octet-stream"),
    )


def _option(text: str, part: str) -> tuple[str, str]:
    key, equals, value = text.strip().partition("=")
    if not equals or key not in ("type", "filename"):
        raise click.BadParameter(
            f"{text.strip()!r} in {part!r} is not type=TYPE or filename=NAME. A path with ';' "
            'stands in double quotes: FIELD=@"a;b.png".',
            param_hint="--form",
        )
    return key, value.strip('"')


def form_request(parts: list[FormPart]) -> dict[str, Any]:
    """What ``httpx`` sends as a form of these parts, in their order."""
    return {
        "files": [
            (
                part.name,
                (part.filename, part.content)
                if part.media_type is None
                else (part.filename, part.content, part.media_type),
            )
            for part in parts
        ]
    }


def _media_type_of(argument: str, content: bytes) -> str:
    """The content type of a body that nothing else is said of: JSON if it is JSON, else by the name
    of its file.

    Raises:
        BadParameter: it is no JSON, and its name says no type.
    """
    try:
        json.loads(content)
    except (ValueError, RecursionError) as error:
        path = argument[1:] if argument.startswith("@") and argument != "@-" else ""
        known = _LINES.get(Path(path).suffix.lower()) or mimetypes.guess_type(path)[0]
        if known and known != JSON:
            return known
        if not path and _is_file(argument):
            raise click.BadParameter(
                f"that is no JSON, and there is a file of that name: write @{argument}",
                param_hint="JSON",
            ) from None
        raise click.BadParameter(
            f'that is no JSON: {error}. An object is written \'{{"text": "two words"}}\', in the '
            "quotes of a shell; @FILE reads a file, with --type TYPE if its name does not say what "
            "it is.",
            param_hint="JSON",
        ) from None
    return JSON


def _is_file(argument: str) -> bool:
    with contextlib.suppress(OSError, ValueError):  # too long for a path, or with a NUL in it
        return Path(argument).is_file()
    return False


def _body(argument: str) -> bytes:
    if argument == "-":
        argument = "@-"
    if not argument.startswith("@"):
        return argument.encode(errors="surrogateescape")
    return _read(argument[1:], "JSON")


def _read(path: str, hint: str) -> bytes:
    """The content of a file, or of standard input (``-``)."""
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{path!r} cannot be read: {error}.", param_hint=hint) from None


def _write(path: Path, content: bytes) -> None:
    if str(path) == "-":
        sys.stdout.buffer.write(content)
        return
    try:
        path.write_bytes(content)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}.") from error
