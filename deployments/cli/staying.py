"""Staying in the foreground beside a Ray of ours, until we are told to go or it has gone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from deployments.cli.signals import INTERRUPTED, Signals

if TYPE_CHECKING:
    from deployments.home import Home

WATCH_S: Final = 0.2
"""Between two looks at Ray's process, and for a signal."""

GONE_S: Final = 1.0
"""For a `down` from elsewhere to finish once Ray has gone."""


@dataclass(frozen=True, slots=True)
class Words:
    """What is said at the end: while it is done, when it is done, and when Ray ended by itself."""

    doing: str
    done: str
    gone: str


def stay(home: Home, drain_s: float, signals: Signals, words: Words) -> int:
    """Blocks; the exit status."""
    from deployments.cli.progress import Progress
    from deployments.cluster import Cluster

    alive = Cluster(home).pulse()
    while alive() and not signals.count:
        time.sleep(WATCH_S)
    if signals.count:
        with Progress(words.doing) as progress:
            Cluster(home, progress).down(drain_s=drain_s, enough=lambda: signals.count > 1)
        click.echo(words.done)
        return INTERRUPTED if signals.count > 1 else 0
    time.sleep(GONE_S)
    if home.load() is None:
        click.echo("taken down from elsewhere.")
        return 0
    Cluster(home).down()
    click.echo(words.gone, err=True)
    return 1
