"""How a command stays in the foreground: it counts signals, and waits for the end of a cluster.

Signals are counted, so that no work is interrupted at an arbitrary line: it polls the count.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from deployments.cli.terminal import Progress

if TYPE_CHECKING:
    from deployments.ray_support.state_dir import StateDir

INTERRUPTED: Final = 130
"""Exit status of a command whose wait was interrupted."""


class SignalCounter:
    """Counts signals that ask for the end.

    Mutable state: ``count``.
    """

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Counts a signal."""
        self.count += 1


@contextmanager
def count_signals() -> Iterator[SignalCounter]:
    """Within, Ctrl-C, SIGTERM and the end of the terminal are counted and do nothing else."""
    signals = SignalCounter()
    with handle_signals(signals, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield signals


@contextmanager
def handle_signals(
    handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals
) -> Iterator[None]:
    """Within, these signals call the handler. The end of the terminal stays ignored where it is, as
    under ``nohup``.
    """
    before = {
        number: signal.signal(number, handler)
        for number in numbers
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


WATCH_S: Final = 0.2
"""Between two checks of Ray's processes and of the signals."""

GONE_S: Final = 30.0
"""Longest wait for a `down` from another terminal to finish once Ray has ended."""


@dataclass(frozen=True, slots=True)
class StatusWords:
    """What is printed while the cluster is ended, afterwards, and when Ray ended by itself."""

    doing: str
    done: str
    lost: str


def stay_attached(
    state_dir: StateDir, drain_s: float, signals: SignalCounter, words: StatusWords
) -> int:
    """Waits until a signal asks for the end, and then ends the cluster, or until Ray has ended;
    returns the exit status. Blocking.
    """
    from deployments.cluster.cluster import Cluster
    from deployments.ray_support.state_dir import StateDirBusy

    is_alive = Cluster(state_dir).liveness_check()
    while is_alive() and not signals.count:
        time.sleep(WATCH_S)
    if signals.count:
        with Progress(words.doing) as progress:
            Cluster(state_dir, progress).down(
                drain_s=drain_s, should_stop=lambda: signals.count > 1
            )
        click.echo(words.done)
        return INTERRUPTED if signals.count > 1 else 0
    until = time.monotonic() + GONE_S
    while state_dir.load() is not None:
        try:
            was_up = Cluster(state_dir).down()
        except StateDirBusy:  # a `down` from another terminal has more to do than to end Ray
            if time.monotonic() > until:
                raise
            time.sleep(WATCH_S)
            continue
        if was_up:  # else that `down` had its last moment between our look and our lock
            click.echo(words.lost, err=True)
            return 1
    click.echo("taken down from elsewhere.")
    return 0
