"""The page of the command, written from its own help: ``python -m deployments.cli.reference docs``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from deployments.cli import main as wakeful

HEAD: Final = """# The command

`wakeful` ends with status 0 only on success, 2 if it was called wrongly or the declaration is refused, 1 otherwise.

This page is written by `python -m deployments.cli.reference docs`; a test fails when it is not up to date.
"""

WIDTH: Final = 110


def page() -> str:
    """``docs/cli.md``."""
    return "\n".join([HEAD, *(f"## `{name}`\n\n```text\n{text}\n```\n" for name, text in helps(wakeful, "wakeful"))])


def helps(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """The help of a command and of those below it, in their order, at a fixed width."""
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    ctx = click.Context(command, info_name=name.rpartition(" ")[2], parent=parent, **settings)
    yield name, command.get_help(ctx)
    if isinstance(command, click.Group):
        for below in command.list_commands(ctx):
            found = command.get_command(ctx, below)
            assert found
            yield from helps(found, f"{name} {below}", ctx)


def write(folder: Path) -> None:
    """Write the page into a folder."""
    (folder / "cli.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
