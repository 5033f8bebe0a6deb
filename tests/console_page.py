"""A page of the console that a test reads from outside of its server, without a browser."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx

PATIENCE_S = 30.0


class OpenPage:
    """One open stream.

    Attributes:
        events: all that came, names and data.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        self.events: list[tuple[str, Any]] = []
        self._lines = lines

    def next(self) -> tuple[str, Any]:
        """The next event.

        Raises:
            EOFError: the stream has ended.
        """
        name = ""
        for line in self._lines:
            key, _, value = line.partition(": ")
            if key == "event":
                name = value
            elif key == "data":
                self.events.append((name, json.loads(value)))
                return self.events[-1]
        raise EOFError("the stream has ended")

    def until(self, name: str, holds: Callable[[Any], bool] = bool) -> Any:
        """The data of the next event of that name of which something holds."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            found, data = self.next()
            if found == name and holds(data):
                return data
        raise AssertionError(f"no such {name} came: {self.events[-5:]}")

    def ever(self, name: str, holds: Callable[[Any], bool]) -> Any:
        """The data of an event of that name of which something holds; it may have come already."""
        came = (data for found, data in self.events if found == name and holds(data))
        return next(came, None) or self.until(name, holds)

    def until_state(self, function: str, state: str) -> Any:
        """The entry of a function, once it is shown in that state."""

        def shown(data: Any) -> list[Any]:
            return [
                one for one in data["functions"] if (one["name"], one["state"]) == (function, state)
            ]

        return shown(self.until("functions", lambda data: bool(shown(data))))[0]

    def until_end(self) -> None:
        """Reads until the stream ends."""
        try:
            while True:
                self.next()
        except EOFError:
            return


@contextmanager
def open_page(url: str, function: str = "", **headers: str) -> Iterator[OpenPage]:
    """A page of the server at this URL."""
    path = f"{url}/console/events{f'?function={function}' if function else ''}"
    with httpx.stream("GET", path, headers=headers, timeout=PATIENCE_S) as response:
        assert response.status_code == 200, response.read()
        yield OpenPage(response.iter_lines())


@contextmanager
def followed_page(url: str, function: str) -> Iterator[OpenPage]:
    """A page that connects again when it is told to, or the server has no room for it, as a browser
    does.
    """
    stack = ExitStack()

    def lines() -> Iterator[str]:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            stack.close()
            path = f"{url}/console/events?function={function}"
            stream = httpx.stream("GET", path, timeout=PATIENCE_S)
            response = stack.enter_context(stream)
            if response.status_code == 200:
                yield from response.iter_lines()
            else:
                assert response.status_code == 503, response.read()
                time.sleep(0.1)

    with stack:
        yield OpenPage(lines())


def press(url: str, function: str, verb: str, **headers: str) -> httpx.Response:
    """What a button of the page does, with the page's token."""
    session = httpx.get(f"{url}/console/session", headers=headers, timeout=PATIENCE_S).json()
    return httpx.post(
        f"{url}/console/functions/{function}/{verb}",
        headers={"x-console-token": session["token"], **headers},
        timeout=PATIENCE_S,
    )
