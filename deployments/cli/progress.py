"""How a command shows what takes longer than a second: lines on standard error, the current one with a spinner on a terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console

NEXT: Final = {
    "starting": "starting Ray",
    "ray": "connecting to Ray",
    "serve": "starting Ray Serve",
    "serving": "deploying, and starting HAProxy where it is not there yet",
    "deployed": "waiting for the functions",
    "draining": "draining: requests in flight are answered",
    "comparing": "comparing models, files and code with the cluster's",
    "joining": "joining",
    "vacating": "leaving: others take over what this machine serves",
    "drained": "ending Ray's processes",
}
"""What goes on after an event."""

LISTED: Final = 20
"""Changed functions said by name."""


class Progress:
    """Called with the events of ``Cluster``; a context, so that the spinner ends with the command's work."""

    def __init__(self, first: str) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._status = self._console.status(f"{first} …")
        self._since = time.monotonic()
        self._console.print(f"[dim]{first}[/]") if not self._console.is_terminal else None

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._status.stop()

    def __call__(self, event: str, details: dict[str, Any]) -> None:
        """Something happened."""
        match event:
            case "leftovers":
                self._say(f"ended {details['count']} processes that an earlier cluster had left")
            case "state" if details["state"] in ("ready", "asleep", "failed"):
                self._say(f"{details['name']} is {details['state']}")
            case "probe" if not (details["cached"] or details["error"] or details["skipped"]):
                self._say(f"{details['name']} loads, and holds {details['memory_bytes'] / 1e6:.0f} MB")
            case "changed":
                for name, what in list(details["news"].items())[:LISTED]:
                    self._say(f"{name}: {what}")
                if (more := len(details["news"]) - LISTED) > 0:
                    self._say(f"and {more} functions more")
            case "updating":
                self._say(f"former versions answer until the new ones are warm: {', '.join(details['names'])}")
            case "deleted":
                self._say(f"{details['name']}'s deployment is deleted")
        if event in NEXT:
            self._status.update(f"{NEXT[event]} …")
            if not self._console.is_terminal:
                self._say(NEXT[event])

    def _say(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._since:5.1f} s[/]  {text}")
