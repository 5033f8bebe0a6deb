"""What commands show on a terminal: progress, tables, answers.

Progress is lines on standard error, the current one with a spinner on a terminal.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import click

from deployments.cli.options import LISTED, untried_line

if TYPE_CHECKING:
    import httpx
    from rich.table import Table


NEXT_STEPS: Final = {
    "starting": "starting Ray",
    "ray": "connecting to Ray",
    "serve": "starting Ray Serve",
    "serving": "deploying, and starting HAProxy where it is not there yet",
    "deployed": "waiting for the functions",
    "unanswered": "waiting for the catalogue, which does not answer",
    "interrupted": "interrupted: one version of everything is left; a second Ctrl-C does not wait",
    "draining": "draining: requests in flight are answered",
    "asking": "asking the cluster where it serves",
    "joining": "joining",
    "vacating": "leaving: others take over what this machine serves",
    "drained": "ending Ray's processes",
}
"""What begins after each event."""


_CONTROL: Final = (*range(9), *range(11, 32), *range(0x7F, 0xA0), *range(0xD800, 0xE000))
_LINES: Final = (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_COMMANDING: Final = dict.fromkeys((*_CONTROL, *_LINES), "\ufffd")
"""Control characters but the tab and the line feed, halves of pairs, other ends of a line, and what
turns its direction.
"""


def printable(text: str) -> str:
    """Return a text that a server has sent as a terminal may have it: what would move its cursor
    but to the next line, name its window or write into its clipboard is ``�``.
    """
    return text.replace("\r\n", "\n").translate(_COMMANDING)


def printable_data(data: Any) -> Any:
    """Plain data whose texts and keys are ``printable``."""
    if isinstance(data, str):
        return printable(data)
    if isinstance(data, dict):
        return {printable_data(key): printable_data(value) for key, value in data.items()}
    if isinstance(data, list):
        return [printable_data(one) for one in data]
    return data


def print_text(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print what a server has sent: ``printable`` on a terminal; elsewhere as ``click`` does."""
    is_terminal = (sys.stderr if err else sys.stdout).isatty()
    click.echo(printable(text) if is_terminal else text, err=err, nl=nl)


class StatusLine:
    """A line on standard error that says what goes on, with a spinner on a terminal. A context
    manager, so that the spinner ends with the command's work.

    Args:
        has_markup: rich's, in what is printed.
    """

    def __init__(self, first: str, *, has_markup: bool) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, markup=has_markup)
        self._status = self._console.status(first)

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._status.stop()

    def _show(self, text: str) -> None:
        """Beside the spinner; no markup, which a path or a reason may look like."""
        from rich.text import Text

        self._status.update(Text(text))


class Progress(StatusLine):
    """Prints the events of ``Cluster``, which calls it."""

    def __init__(self, first: str) -> None:
        super().__init__(f"{first} …", has_markup=True)
        self._since = time.monotonic()
        self._console.print(f"[dim]{first}[/]") if not self._console.is_terminal else None

    def __call__(self, event: str, details: dict[str, Any]) -> None:
        """Prints an event."""
        match event:
            case "leftovers":
                self._print(f"ended {details['count']} processes that an earlier cluster had left")
            case "state" if details["state"] in ("ready", "asleep", "failed"):
                self._print(f"{details['name']} is {details['state']}")
            case "probe" if not (details["cached"] or details["error"] or details["skipped"]):
                self._print(
                    f"{details['name']} loads, and holds {details['memory_bytes'] / 1e6:.0f} MB"
                )
            case "measuring":
                self._show(f"{details['name']}: {details['what']} …")
                self._print(f"{details['name']}: {details['what']}")
            case "untried":
                self._print(untried_line(details["names"]))
            case "changed":
                for name, what in list(details["news"].items())[:LISTED]:
                    self._print(f"{name}: {what}")
                if (more := len(details["news"]) - LISTED) > 0:
                    self._print(f"and {more} functions more")
            case "updating":
                self._print(
                    "former versions answer until the new ones are warm: "
                    + ", ".join(details["names"])
                )
            case "untried_ray":
                for line in details["lines"]:
                    self._print(line)
            case "late":
                self._print(f"HAProxy is late: {details['why']}")
            case "deleted":
                self._print(f"{details['name']}'s deployment is deleted")
        if event in NEXT_STEPS:
            self._show(f"{NEXT_STEPS[event]} …")
            if not self._console.is_terminal:
                self._print(NEXT_STEPS[event])

    def _print(self, text: str) -> None:
        from rich.text import Text

        # no markup, which a reason may look like; whole lines, which a log is searched for
        took = f"{time.monotonic() - self._since:5.1f} s"
        self._console.print(Text.assemble((took, "dim"), f"  {text}"), soft_wrap=True)


PIPE_WIDTH: Final = 10_000
"""Characters of a table that no terminal shows: what reads it gets each row as one line."""


def new_table() -> Table:
    """A table as commands print them."""
    from rich.table import Table

    return Table(box=None, pad_edge=False, header_style="bold")


def print_table(table: Table, *, min_width: int = 0) -> None:
    """Prints a table as wide as the terminal; a pipe gets it whole and without colours.

    Args:
        min_width: characters, also where the terminal has fewer.
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    console.width = max(console.width, min_width) if console.is_terminal else PIPE_WIDTH
    console.print(table)


def print_answer(answer: httpx.Response) -> None:
    """Prints what a server answered: text, an error on standard error, a file as it is.

    Raises:
        ClickException: it is a file, and would be printed on a terminal.
    """
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not answer.is_success or _is_text(kind):
        print_text(answer.text.rstrip("\r\n"), err=not answer.is_success)
        return
    if sys.stdout.isatty():
        raise click.ClickException(
            f"the answer is a file of {kind}, {len(answer.content)} bytes, which a terminal cannot"
            " show. `-o FILE` writes it, and `-o -` prints it all the same."
        )
    click.echo(answer.content, nl=False)


def _is_text(media_type: str) -> bool:
    return (
        not media_type
        or media_type.startswith("text/")
        or media_type in ("application/json", "application/x-ndjson", "image/svg+xml")
        or media_type.endswith(("+json", "+xml"))
    )
