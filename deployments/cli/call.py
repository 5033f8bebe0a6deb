"""``wakeful call``: call a function and print its answer."""

from __future__ import annotations

import json
import sys
from typing import Final

import click

TIMEOUT_S: Final = 600.0
"""The function's own deadline is shorter; this one is for a server that says nothing at all."""


@click.command(short_help="Call a function.")
@click.argument("function")
@click.argument("body", metavar="JSON")
@click.option("--url", help="Where Wakeful is served, such as http://127.0.0.1:8000; by default what is up on this machine.")
@click.pass_context
def call(ctx: click.Context, function: str, body: str, url: str | None) -> None:
    """Call FUNCTION with JSON, an object or an array of them; `-` reads it from standard input.

    Prints the answer, or the error with exit status 1.
    """
    import httpx

    text = sys.stdin.read() if body == "-" else body
    try:
        json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"that is no JSON: {error}.", param_hint="JSON") from None
    target = f"{url.rstrip('/')}/v2/models/{function}" if url else _url(function)
    try:
        answer = httpx.post(target, content=text.encode(), headers={"content-type": "application/json"}, timeout=TIMEOUT_S)
    except httpx.HTTPError as error:
        raise click.ClickException(f"{target}: {error}") from error
    click.echo(answer.text.rstrip("\n"), err=not answer.is_success)
    ctx.exit(0 if answer.is_success else 1)


def _url(function: str) -> str:
    """Where the function is, by what was written down when it was brought up; no Ray is asked."""
    from deployments.cli.options import pick
    from deployments.home import Home
    from runtime.errors import NotFound

    up = Home().load()
    if up is None:
        raise NotFound("nothing is up here. Say with `--url` where it is, or `wakeful up` first.")
    prefixes = {entry.name: entry.route_prefix for entry in up.functions}
    return up.url + prefixes[pick(function, list(prefixes))]
