"""Clients that call all the time while something is done to what they call, and what they were
answered.
"""

from __future__ import annotations

import http.client
import json
import threading

from tests.deployments.projects import wait_until


class Callers:
    """Steady clients of some functions, on connections that are kept, that never try again: two of
    each, which pause between calls, since what they take is taken from the update that they watch;
    the longer, the more functions there are.

    Args:
        ms: what a call takes of a core; those that are to be promoted pause less.

    Attributes:
        answers: what each function answered: status, and the version and the process that did.
    """

    def __init__(self, port: int, names: tuple[str, ...], ms: int) -> None:
        self.answers: dict[str, list[tuple[int, int, int]]] = {name: [] for name in names}
        self._over = threading.Event()
        self._pause_s = 0.02 if ms else 0.05 * max(1, len(names) / 4)
        self._threads = [
            threading.Thread(target=self._call, args=(port, name, ms))
            for name in names
            for _ in range(2)
        ]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: all(self.answers.values()))
        return self

    def __exit__(self, *of: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def last(self, name: str) -> tuple[int, int]:
        """The version and the process that answered last."""
        return self.answers[name][-1][1:]

    def said(self, name: str) -> set[tuple[int, int]]:
        """All versions and processes that have answered."""
        return {answer[1:] for answer in self.answers[name]}

    def lost(self) -> list[tuple[int, int, int]]:
        """What was not answered with 200; 0 where a connection broke."""
        return [
            answer for answers in self.answers.values() for answer in answers if answer[0] != 200
        ]

    def _call(self, port: int, name: str, ms: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not self._over.wait(self._pause_s):
            try:
                connection.request(
                    "POST",
                    f"/v2/models/{name}",
                    json.dumps({"ms": ms}),
                    {"content-type": "application/json"},
                )
                response = connection.getresponse()
                body = json.loads(response.read())
                self.answers[name].append(
                    (response.status, body.get("version", 0), body.get("pid", 0))
                )
            except (OSError, http.client.HTTPException):
                connection.close()
                self.answers[name].append((0, 0, 0))
        connection.close()
