"""``wakeful new``: writes a function that works, to be edited. ``wakeful completion``: prints what
a shell needs to complete commands, files and names of functions.
"""

from __future__ import annotations

import json
import keyword
import os
import re
import shlex
import sys
from importlib import resources, util
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from runtime.errors import WakefulError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TEMPLATES: Final = {
    "text": "a stage of plain Python, JSON in and out",
    "onnx": "a small ONNX model between two stages",
    "image": "a picture as the body of a call",
    "stream": "an answer that is sent item by item",
}

NAME: Final = "my-function"
MODULE: Final = "my_function"
"""What stands in the templates for the function's name, and for its module's."""

REQUESTS: Final = ("request.json", "sample.png")
"""What `wakeful call` sends, of which each template has one."""

SCHEMA: Final = "serve_config.schema.json"
"""Beside the file, which names it in its first line: editors then need neither this machine's
installation nor the network.
"""

NEEDED: Final = {"image": "PIL"}
"""A module beyond Wakeful's base that a template imports, and whose package is in its
``requirements.txt``.
"""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,127}")


class NotWritten(WakefulError):
    """A project cannot be written there, or under that name."""

    code = "not_written"
    fault = "operator"


@click.command(short_help="Write a function that works, to be edited.")
@click.argument("name")
@click.option(
    "--template",
    type=click.Choice(list(TEMPLATES)),
    default="text",
    show_default=True,
    help="; ".join(f"{name}: {about}" for name, about in TEMPLATES.items()) + ".",
)
def new(name: str, template: str) -> None:
    """Write a folder NAME with a function of that name: a module with its stages, a test, a sample
    request, serve_config.yaml, and its schema for editors.

    With `.` it is written into the working folder, and has that folder's name. No file is ever
    overwritten.
    """
    folder = Path.cwd() if name == "." else Path.cwd() / name
    name = folder.name
    module = module_name(name)
    texts = project_files(name, module, template)
    write_new(folder, texts)
    shown = os.path.relpath(folder)
    click.echo(f"{shown} has {', '.join(sorted(texts))}.\n")
    if folder != Path.cwd():
        click.echo(f"  cd {shlex.quote(shown)}")
    if (needed := NEEDED.get(template)) and util.find_spec(needed) is None:
        click.echo(f"  {shlex.quote(sys.executable)} -m pip install -r requirements.txt")
    steps = {"wakeful run --reload": "serves it, and each edit of it"}
    for request in REQUESTS:
        if request in texts:
            steps[f"wakeful call {name} @{request}"] = "calls it, in another terminal"
    steps["pytest"] = "its test, where pytest is installed"
    width = max(map(len, steps))
    for command, what in steps.items():
        click.echo(f"  {command:<{width}}   # {what}")


def module_name(name: str) -> str:
    """The module of a new function.

    Raises:
        NotWritten: the name cannot be a function's, or its module would hide another.
    """
    if not _NAME.fullmatch(name):
        raise NotWritten(
            f"{name!r} cannot be a new function's name: letters, digits, '.', '_' and '-', at most "
            "128, a letter first."
        )
    from deployments.rollout.project_folder import OURS

    module = re.sub(r"[.-]", "_", name).lower()
    reserved = keyword.iskeyword(module) or module in (*sys.stdlib_module_names, *OURS)
    if reserved or _is_installed(module):
        raise NotWritten(
            f"its module would be {module}.py, and {module!r} is Python's, or an installed "
            f"package's. Take another name, {name}-function for instance."
        )
    return module


def _is_installed(module: str) -> bool:
    """Whether a module would be found outside of the working folder."""
    from importlib.machinery import PathFinder

    elsewhere = [folder for folder in sys.path if folder and Path(folder) != Path.cwd()]
    return PathFinder.find_spec(module, elsewhere) is not None


def project_files(name: str, module: str, template: str) -> dict[str, bytes]:
    """The content of each file of a new project, by file name."""
    from runtime.declaration.editing.json_schema import file_schema

    found = {}
    for entry in _template_files(template):
        content = entry.read_bytes()
        if not entry.name.endswith((".onnx", ".png")):
            content = content.replace(NAME.encode(), name.encode())
            content = content.replace(MODULE.encode(), module.encode())
        found[entry.name.replace(MODULE, module)] = content
    schema = json.dumps(file_schema(), indent=1, ensure_ascii=False)
    return {**found, SCHEMA: f"{schema}\n".encode()}


def _template_files(template: str) -> Iterator[Traversable]:
    folder = resources.files("wakeful") / "templates" / template
    return (entry for entry in folder.iterdir() if entry.is_file())


def write_new(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a folder, which is made if it is not there, and so are those above it.

    Raises:
        NotWritten: one of them is there already, and nothing was written; or the folder cannot be
            written to.
    """
    if taken := sorted(name for name in contents if (folder / name).exists()):
        raise NotWritten(
            f"{', '.join(taken)} {'is' if len(taken) == 1 else 'are'} in {folder} already, and no "
            "file is overwritten. Take another name or folder."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            with (folder / name).open("xb") as out:
                out.write(content)
    except OSError as error:
        raise NotWritten(f"{folder} cannot be written to: {error.strerror or error}.") from error


@click.command(short_help="Print what a shell needs to complete commands and names.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, options, files and names of functions.

    For good, from the next shell on:

    \b
    bash  echo 'eval "$(wakeful completion bash)"' >> ~/.bashrc
    zsh   echo 'eval "$(wakeful completion zsh)"' >> ~/.zshrc
    fish  wakeful completion fish > ~/.config/fish/completions/wakeful.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root().command
    click.echo(kind(root, {}, "wakeful", "_WAKEFUL_COMPLETE").source())
