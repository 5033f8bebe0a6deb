"""``wakeful wake``, ``wakeful sleep`` and ``wakeful pin``: load a function, have it sleep, keep it
loaded. They call the server's repository routes, as Triton's clients do.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from deployments.cli.options import complete_function, place_of, url_option
from deployments.cli.traffic.server_answers import ask_server, tls_options

if TYPE_CHECKING:
    import httpx

    from deployments.ingress.tls.clients import ClientFiles

TIMEOUT_S: Final = 120.0
"""The server answers sooner, whatever becomes of the function."""


@click.command(short_help="Load a function that sleeps.")
@click.argument("function", shell_complete=complete_function)
@url_option
@tls_options
@click.pass_context
def wake(ctx: click.Context, function: str, url: str | None, trust: ClientFiles) -> None:
    """Load FUNCTION now, so that its next call does not wait.

    It sleeps again when it is idle for its delay; `wakeful pin` keeps it.
    """
    _act(ctx, function, "load", url, trust, "is awake")


@click.command(short_help="Have a function sleep.")
@click.argument("function", shell_complete=complete_function)
@url_option
@tls_options
@click.pass_context
def sleep(ctx: click.Context, function: str, url: str | None, trust: ClientFiles) -> None:
    """Have FUNCTION give its memory back now; its next call wakes it.

    Calls under way are answered first. A function that its declaration or a pin keeps awake is
    refused.
    """
    _act(ctx, function, "unload", url, trust, "sleeps")


@click.command(short_help="Keep a function loaded.")
@click.argument("function", shell_complete=complete_function)
@click.option("--off", is_flag=True, help="Let it sleep again, as it is declared.")
@url_option
@tls_options
@click.pass_context
def pin(ctx: click.Context, function: str, off: bool, url: str | None, trust: ClientFiles) -> None:
    """Load FUNCTION, and keep it loaded: it neither sleeps nor makes room for others.

    It stays pinned until `--off`, or as long as the server or cluster is up.
    """
    if off:
        _act(ctx, function, "unpin", url, trust, "is pinned no longer")
    else:
        _act(ctx, function, "pin", url, trust, "is awake, and pinned")


def repository_path(function: str, verb: str) -> str:
    """Of a route of the server that does something with a function."""
    from urllib.parse import quote

    return f"v2/repository/models/{quote(function, safe='')}/{verb}"


def ask_repository(
    function: str, verb: str, url: str | None, trust: ClientFiles, **request: Any
) -> httpx.Response:
    """What the server of a function answers at one of these routes.

    Args:
        url: of the server; None: it is this user's, on this machine.
        trust, request: as of ``ask_server``.

    Raises:
        NotFound, ClickException: as of ``place_of`` and ``ask_server``.
    """
    place = place_of(function, url)
    return ask_server(
        f"{place.url}/{repository_path(function, verb)}",
        timeout_s=TIMEOUT_S,
        is_local=url is None,
        inner=place.inner,
        trust=trust,
        headers=place.headers,
        **request,
    )


def _act(
    ctx: click.Context,
    function: str,
    verb: str,
    url: str | None,
    trust: ClientFiles,
    done: str,
) -> None:
    began = time.monotonic()
    answer = ask_repository(function, verb, url, trust)
    if answer.is_success:
        click.echo(f"{function} {done} ({time.monotonic() - began:.2f} s).")
        return
    click.echo(f"wakeful: {message_of(answer.text)}", err=True)
    ctx.exit(1)


def message_of(text: str) -> str:
    """The message of an error in our form, anything else as it is; both ``printable``."""
    import json

    from deployments.cli.terminal import printable

    try:
        return printable(str(json.loads(text)["error"]))
    except (ValueError, KeyError, TypeError):
        return printable(text.strip())
