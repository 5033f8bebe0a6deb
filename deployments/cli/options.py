"""What several commands have in common on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runtime.errors import DeclarationError, NotFound
from runtime.wording import did_you_mean

if TYPE_CHECKING:
    from runtime.settings import Settings
    from runtime.specfile import ServeFile

FILE: Final = "serve_config.yaml"

file_argument = click.argument("file", type=click.Path(path_type=Path), default=FILE)

secrets_option = click.option(
    "--secrets",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="NAME=value lines for what stages name as ${NAME} in `with`; before the environment.",
)

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


def checked(file: Path, settings: Settings) -> ServeFile:
    """The file, found to be right in all that can be known before something starts, with the functions that its parts become.

    Raises:
        DeclarationError: with everything that is wrong.
    """
    from deployments.plan import shadows, unappliable
    from deployments.rayenv import imported_from
    from runtime.check import check, linked
    from runtime.parts import parted

    declared = read(file, settings)
    folders = [Path(folder) for folder in imported_from(settings, file)]
    if problems := [*check(declared, settings), *unappliable(declared), *shadows(folders)]:
        raise DeclarationError(problems)
    return linked(parted(declared), settings)


def pick(name: str, known: list[str]) -> str:
    """The name, if it is known.

    Raises:
        NotFound: with the nearest that is.
    """
    if name not in known:
        others = ", ".join(known) or "none"
        raise NotFound(f"there is no function {name!r}{did_you_mean(name, known) or f'; there are: {others}.'}")
    return name
