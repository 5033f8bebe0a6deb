"""``wakeful run``: serve a file in this process, without Ray."""

from __future__ import annotations

import os
from pathlib import Path

import click

from deployments.cli.options import file_argument, read, secrets_option


@click.command(short_help="Serve a file's functions in this process, without Ray.")
@file_argument
@secrets_option
@click.option("--host", help="Address to serve on; before WAKEFUL_HOST, that before the file's.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to serve on; before WAKEFUL_PORT, that before the file's.")
def run(file: Path, secrets: Path | None, host: str | None, port: int | None) -> None:
    """Serve the functions of FILE in this process, at the same URLs, without Ray.

    For development, tests and small devices. Functions are loaded at the start, and those without min_replicas sleep when idle and
    wake for their next call. Stays until Ctrl-C or SIGTERM, which drain.
    """
    import logging

    from deployments import ports
    from deployments.output import Hiding
    from runtime import local
    from runtime.check import linked
    from runtime.library import State
    from runtime.settings import Settings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a function has the threads it declares; a tokenizer's pool is the host's
    logging.getLogger("wakeful.wake").setLevel(logging.INFO)
    settings = Settings.read(secrets=secrets)
    shown = logging.StreamHandler()
    shown.setFormatter(Hiding(settings.secrets.hide))
    logging.basicConfig(handlers=[shown])
    declared = linked(read(file, settings), settings)
    host = host or settings.host or declared.http_host
    port = port or settings.port or declared.http_port
    ports.require_free(host, port, fix="Stop that, or take another with `--port`.")

    def told(name: str, state: State) -> None:
        after = f" in {state.load_s:.2f} s" if state.load_s else ""
        click.echo(f"{name} is {state.state}{after}{f': {state.reason}' if state.reason else ''}", err=bool(state.reason))

    click.echo(f"loading {len(declared.functions)} functions, then serving on http://{host}:{port}; Ctrl-C drains and ends it.")
    local.serve(declared, settings, host, port, told)
