"""``--only`` of a command: names out of those that there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click


def only(known: Iterable[str], parameter: str) -> Callable[[Any], Any]:
    """The option. The command is given a set of names as ``parameter``, all of them when it was called without."""
    names = tuple(known)

    def chosen(_context: click.Context, _parameter: click.Parameter, value: str) -> frozenset[str]:
        wanted = frozenset(filter(None, (name.strip() for name in value.split(","))))
        if unknown := sorted(wanted - set(names)):
            raise click.BadParameter(f"unknown: {', '.join(unknown)}. There are {', '.join(names)}.")
        return wanted or frozenset(names)

    said = f"Some of {', '.join(names)}, separated by commas."
    return click.option("--only", parameter, default="", callback=chosen, metavar="NAMES", help=said)
