"""What several commands have in common on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runtime.errors import NotFound
from runtime.wording import did_you_mean

if TYPE_CHECKING:
    from runtime.settings import Settings
    from runtime.specfile import ServeFile

FILE: Final = "serve_config.yaml"

file_argument = click.argument("file", type=click.Path(path_type=Path), default=FILE)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def echo_json(data: Any) -> None:
    """Plain data on standard output."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def read(file: Path, settings: Settings) -> ServeFile:
    """A file that declares functions; their stages can be imported afterwards, as they can in a replica.

    Raises:
        DeclarationError: with everything that is wrong.
    """
    from deployments.rayenv import imported_from
    from runtime import specfile

    sys.path[:0] = [folder for folder in imported_from(settings, file) if folder not in sys.path]
    return specfile.read(file)


def pick(name: str, known: list[str]) -> str:
    """The name, if it is known.

    Raises:
        NotFound: with the nearest that is.
    """
    if name not in known:
        others = ", ".join(known) or "none"
        raise NotFound(f"there is no function {name!r}{did_you_mean(name, known) or f'; there are: {others}.'}")
    return name
