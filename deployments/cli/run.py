"""``wakeful run``: serve a file in this process, without Ray.

``wakeful call``: call a function and print its answer.

``wakeful bench``: measure this machine, and Wakeful on it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import click

from deployments.cli.options import file_argument, hidden_packages, read, secrets_option


@click.command(short_help="Serve a file's functions in this process, without Ray.")
@file_argument
@secrets_option
@click.option("--host", help="Address to serve on; before WAKEFUL_HOST, that before the file's.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Port to serve on; before WAKEFUL_PORT, that before the file's.",
)
def run(file: Path, secrets: Path | None, host: str | None, port: int | None) -> None:
    """Serve the functions of FILE in this process, at the same URLs, without Ray.

    For development, tests and small devices. Functions are loaded at the start, and those without
    min_replicas sleep when idle and wake for their next call. Stays until Ctrl-C or SIGTERM, which
    drain.
    """
    import logging

    from deployments.ray_support import ports
    from deployments.rollout.project_folder import missing_build
    from runtime.graph.resolve import resolve
    from runtime.http import server
    from runtime.library.library import EntryState
    from runtime.settings import Settings
    from runtime.system.function_context import HidingFormatter

    # a function has the threads it declares; a tokenizer's pool is the host's
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("wakeful.wake", "wakeful.load"):
        logging.getLogger(name).setLevel(logging.INFO)
    settings = Settings.read(secrets=secrets, file=file)
    shown = logging.StreamHandler()
    shown.setFormatter(HidingFormatter(settings.secrets.hide))
    logging.basicConfig(handlers=[shown])
    declared = read(file, settings)
    for hidden in hidden_packages(file, settings):
        click.echo(f"warning: {hidden}", err=True)
    config = resolve(declared, settings, other_problems=missing_build(declared))
    host = host or settings.host or config.file.http_host
    port = port or settings.port or config.file.http_port
    ports.require_free(host, port, fix="Stop that, or take another with `--port`.")

    def on_loaded(name: str, state: EntryState) -> None:
        if state.state == "failed":  # the log has said why
            return
        after = f" in {state.load_s:.2f} s" if state.load_s else ""
        click.echo(
            f"{name} is {state.state}{after}{f': {state.reason}' if state.reason else ''}",
            err=bool(state.reason),
        )

    click.echo(
        f"loading {len(config.functions)} functions, then serving on http://{host}:{port}; "
        "Ctrl-C drains and ends it."
    )
    server.serve(config.functions, settings, host, port, on_loaded, assemblies=config.assemblies)


CALL_TIMEOUT_S: Final = 600.0
"""The function's own deadline is shorter; this one is for a server that does not answer at all."""


@click.command(short_help="Call a function.")
@click.argument("function")
@click.argument("body", metavar="JSON")
@click.option(
    "--header",
    "-H",
    "headers",
    multiple=True,
    metavar="NAME:VALUE",
    help="A header to send, such as 'x-sequence-id: a'; may be repeated.",
)
@click.option(
    "--url",
    help="Where Wakeful is served, such as http://127.0.0.1:8000; by default what is up on this "
    "machine.",
)
@click.pass_context
def call(
    ctx: click.Context, function: str, body: str, headers: tuple[str, ...], url: str | None
) -> None:
    """Call FUNCTION with JSON, an object or an array of them; `-` reads it from standard input.

    Prints the answer, or the error with exit status 1.
    """
    import httpx

    text = sys.stdin.read() if body == "-" else body
    try:
        json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"that is no JSON: {error}.", param_hint="JSON") from None
    sent = {
        "content-type": "application/json",
        **{name.lower(): value for name, value in map(_header, headers)},
    }
    target = f"{url.rstrip('/')}/v2/models/{function}" if url else _url(function)
    try:
        answer = httpx.post(target, content=text.encode(), headers=sent, timeout=CALL_TIMEOUT_S)
    except httpx.HTTPError as error:
        raise click.ClickException(f"{target}: {error}") from error
    click.echo(answer.text.rstrip("\n"), err=not answer.is_success)
    ctx.exit(0 if answer.is_success else 1)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if (
        not colon
        or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name.strip())
        or not value.isprintable()
    ):
        raise click.BadParameter(f"{text!r} is not NAME:VALUE.", param_hint="--header")
    return name.strip(), value.strip()


def _url(function: str) -> str:
    """The URL of a function that is up here, from the state folder; Ray is not asked."""
    from deployments.cli.options import pick
    from deployments.ray_support.state_dir import StateDir
    from runtime.errors import NotFound

    up = StateDir().load()
    if up is None:
        raise NotFound("nothing is up here. Say with `--url` where it is, or `wakeful up` first.")
    prefixes = {entry.name: entry.route_prefix for entry in up.functions if not entry.part_of}
    return up.url + prefixes[pick(function, list(prefixes))]


@click.command(
    short_help="Measure this machine, and Wakeful on it.",
    context_settings={
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "help_option_names": [],
    },
)
@click.pass_context
def bench(ctx: click.Context) -> None:
    """Measure throughput, latency, start and memory against the bare limit of this machine; `bench
    wake`: waking and falling asleep; `bench install`: what an installation weighs.

    The same as `python -m loadtests.bench`, `python -m loadtests.bench.wake` and `.install`, which
    take the arguments and show their own --help. In a clone of the repository alone.
    """
    if not (Path(__file__).parents[2] / "loadtests").is_dir():
        raise click.ClickException(
            "the benchmarks are not part of an installation. Run this in a clone of the repository,"
            " after `make setup`."
        )
    first = ctx.args[:1]
    module, *arguments = (
        [f"loadtests.bench.{first[0]}", *ctx.args[1:]]
        if first in (["wake"], ["install"])
        else ["loadtests.bench", *ctx.args]
    )
    ctx.exit(subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode)
