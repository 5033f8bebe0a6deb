"""``wakeful top``: the state of every function, live on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from deployments.cli.options import url_option, with_key
from deployments.cli.traffic.server_answers import tls_options
from runtime.system.messages import did_you_mean

if TYPE_CHECKING:
    from deployments.cli.operations.live.following import Watch, WatchedServer
    from deployments.cli.operations.live.keyboard import Choice
    from deployments.ingress.tls.clients import ClientFiles

SETTLED_S: Final = 10.0
"""Longest wait for what servers say, where the table is printed once."""


@click.command(short_help="Show every function, live.")
@click.option(
    "--once", is_flag=True, help="Print the table once, and end; so does a pipe in any case."
)
@click.option(
    "--sort",
    metavar="COLUMN",
    default="calls/s",
    show_default=True,
    help="What rows are sorted by at first, by the head of its column.",
)
@click.option("--search", metavar="WORDS", default="", help="Show only what has all these words.")
@url_option
@tls_options
@click.pass_context
def top(
    ctx: click.Context, once: bool, sort: str, search: str, url: str | None, trust: ClientFiles
) -> None:
    """Show the state of every function as it changes: of `up` and each `run` on this machine, or of
    the server at --url. It wakes no function.

    Above the functions stand the machines, with the memory and GPUs that functions have, and which
    promises are off. Calls a second are those of the last five seconds; p50, p95, errors and the
    small lines are of the last minute. The key in WAKEFUL_KEY is sent, if there is one; it needs
    the scope `look`.

    Keys: q ends it, / searches, the arrows to left and right choose the column to sort by, r
    reverses it, the arrows up and down select a function, of which the last lines say more.
    """
    from rich.console import Console

    from deployments.cli.operations.live.following import Watch, WatchedServer, local_servers
    from deployments.cli.operations.live.keyboard import MOST_SEARCHED, Choice
    from deployments.cli.operations.live.rows import SORT_KEYS
    from deployments.ray_support.state_dir import StateDir

    if sort not in SORT_KEYS:
        near = did_you_mean(sort, SORT_KEYS) or f"; there are: {', '.join(SORT_KEYS)}."
        raise click.BadParameter(f"no column is named {sort!r}{near}", param_hint="--sort")
    state_dir = StateDir()
    named = None
    if url is not None:
        named = WatchedServer(url, "the server", tuple(with_key({}).items()), is_local=False)

    def find() -> list[WatchedServer]:
        return local_servers(state_dir) if named is None else [named]

    choice = Choice(sort=sort, search=search[:MOST_SEARCHED])
    watch = Watch(find, trust)
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty() and not Console().is_dumb_terminal
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a locale without blocks and arrows
    if once or not is_terminal:
        ctx.exit(0 if asyncio.run(_print_once(watch, choice)) else 1)
    asyncio.run(_show(watch, choice))


async def _show(watch: Watch, choice: Choice) -> None:
    from deployments.cli.operations.live.screen import show_live

    async with watch:
        await show_live(watch, choice)


async def _print_once(watch: Watch, choice: Choice) -> bool:
    """Print what servers say; returns whether each has said it."""
    from deployments.cli.operations.live.rows import arrange, rows_of
    from deployments.cli.operations.live.table import (
        COLUMNS,
        blocks_for,
        head_lines,
        make_table,
    )
    from deployments.cli.terminal import print_table

    async with watch:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLED_S):
                while not watch.is_settled:
                    watch.has_changed.clear()
                    await watch.has_changed.wait()
        servers = dict(watch.readings)
    if not servers:
        click.echo("nothing is up.")
        return True
    every = [row for url, (_, reading) in servers.items() for row in rows_of(url, reading)]
    for line in head_lines(servers, every, time.strftime("%H:%M:%S")):
        click.echo(line.plain)
    click.echo()
    rows = arrange(every, choice.sort, is_reversed=choice.is_reversed, search=choice.search)
    print_table(make_table(rows, COLUMNS, blocks=blocks_for(sys.stdout.encoding)))
    return all(reading.is_whole for _, reading in servers.values())
