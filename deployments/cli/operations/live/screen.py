"""A terminal as the live table has it: its keys one by one and not shown, its other screen; and as
it was before, whatever ends the table.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from deployments.cli.operations.live.following import Watch
from deployments.cli.operations.live.keyboard import Choice, press, read_keys
from deployments.cli.operations.live.rows import arrange, rows_of
from deployments.cli.operations.live.table import (
    blocks_for,
    cut_head,
    fitting,
    foot_lines,
    head_lines,
    make_table,
    window,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType, ScreenContext

    from deployments.cli.operations.live.rows import RowKey

SHOW_S: Final = 0.25
"""Between two pictures that changes make; a key is shown at once."""

CLOCK_S: Final = 1.0
"""Between two where nothing changes: the time of day is among what is shown."""

MOST_TYPED_BYTES: Final = 1024
"""That are read at once."""

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def show_live(watch: Watch, choice: Choice) -> None:
    """Show the table on this terminal until a key or a signal ends it.

    Args:
        watch: entered.
        choice: what is chosen at first.
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    await _LiveScreen(console, watch, choice).run()


class _LiveScreen:
    """The table on a terminal.

    Mutable state: ``_choice``; ``_shown``, the rows in their order, as they were drawn last, with
    ``_page``, how many fit, and ``_first``, which of them is on top; ``_wake``, set where something
    has changed; ``_due``, set with it where that is to be seen at once; ``_is_suspended``, by
    Ctrl-Z.
    """

    def __init__(self, console: Console, watch: Watch, choice: Choice) -> None:
        self._console = console
        self._watch = watch
        self._choice = choice
        self._shown: list[RowKey] = []
        self._page = 1
        self._first = 0
        self._wake = watch.has_changed
        self._due = asyncio.Event()
        self._is_suspended = False
        self._blocks = blocks_for(console.encoding)

    async def run(self) -> None:
        """Until the end is chosen."""
        loop, keyboard = asyncio.get_running_loop(), sys.stdin.fileno()
        handlers = {
            **dict.fromkeys(ENDING, self._end),
            signal.SIGWINCH: self._draw_again,
            signal.SIGTSTP: self._suspend,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            while not self._choice.has_ended:
                with raw_keys(keyboard), self._console.screen() as screen:
                    loop.add_reader(keyboard, self._read, keyboard)
                    try:
                        await self._draw(screen)
                    finally:
                        loop.remove_reader(keyboard)
                if self._is_suspended:  # the shell has its terminal, and `fg` goes on here
                    self._is_suspended = False
                    os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    async def _draw(self, screen: ScreenContext) -> None:
        """Until the end is chosen, or the process is to be suspended."""
        drawn_at = 0.0
        while not (self._choice.has_ended or self._is_suspended):
            with contextlib.suppress(TimeoutError):  # changes make a picture only so often
                async with asyncio.timeout(max(0.0, drawn_at + SHOW_S - time.monotonic())):
                    await self._due.wait()
            self._wake.clear()
            self._due.clear()
            drawn_at = time.monotonic()
            screen.update(self._picture())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOCK_S):
                    await self._wake.wait()

    def _suspend(self) -> None:
        self._is_suspended = True
        self._draw_again()

    def _draw_again(self) -> None:
        self._due.set()
        self._wake.set()

    def _end(self) -> None:
        self._choice = replace(self._choice, has_ended=True)
        self._draw_again()

    def _read(self, keyboard: int) -> None:
        """Called where something was typed."""
        try:
            typed = os.read(keyboard, MOST_TYPED_BYTES)
        except OSError:  # the terminal is gone
            typed = b""
        if not typed:
            self._end()
        for key in read_keys(typed):
            self._choice = press(self._choice, key, self._shown, self._page)
        self._draw_again()

    def _picture(self) -> RenderableType:
        from rich.console import Group

        width, height = self._console.size
        servers, choice = self._watch.readings, self._choice
        every = [row for url, (_, reading) in servers.items() for row in rows_of(url, reading)]
        rows = arrange(every, choice.sort, is_reversed=choice.is_reversed, search=choice.search)
        self._shown = [row.key for row in rows]
        at = self._shown.index(choice.selected) if choice.selected in self._shown else 0
        head = cut_head(head_lines(servers, every, time.strftime("%H:%M:%S")), height)
        foot = foot_lines(choice, rows[at] if rows else None)
        self._page = max(1, height - len(head) - len(foot) - 1)
        self._first = window(len(rows), at, self._page, self._first)
        seen = rows[self._first : self._first + self._page]
        for line in (*head, *foot):
            line.no_wrap, line.overflow = True, "ellipsis"
        selected = rows[at].key if rows else None
        table = make_table(
            seen, fitting(width), blocks=self._blocks, choice=choice, selected=selected
        )
        empty = [""] * (self._page - len(seen))
        return Group(*head, table, *empty, *foot)


@contextlib.contextmanager
def raw_keys(keyboard: int) -> Iterator[None]:
    """Within, keys come one by one and are not shown; Ctrl-C and Ctrl-Z stay signals."""
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
