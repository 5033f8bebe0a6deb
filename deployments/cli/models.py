"""``wakeful models``: fetches models, and lists them."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from deployments.cli.options import echo_json, json_option

if TYPE_CHECKING:
    from runtime.artifacts.pull import Event
    from runtime.settings import Settings

LOCK: Final = "models.lock"

lock_option = click.option(
    "--lock",
    type=click.Path(path_type=Path),
    default=LOCK,
    show_default=True,
    help="File that pins the models.",
)


@click.group()
def models() -> None:
    """Fetch models, and list them."""


@models.command()
@click.argument("names", nargs=-1, metavar="[MODEL]...")
@lock_option
def pull(names: tuple[str, ...], lock: Path) -> None:
    """Fetch, check and build the models of the lock, or those named.

    Every file is checked against the lock's hashes. What is there already is left alone; an
    interrupted pull goes on where it was. ONNX models are prepared for this machine, so that
    functions wake fast.
    """
    from runtime.artifacts.pull import pull as pull_models
    from runtime.settings import Settings

    settings = Settings.read()
    results = pull_models(lock, settings.models, show_event, names)
    prepare_models(
        [file for result in results for file in result.files if file.suffix == ".onnx"], settings
    )
    made = [result for result in results if result.made]
    click.echo(f"{len(results)} models are there, {len(made)} of them new.")


@models.command(name="list")
@lock_option
@json_option
def list_models(lock: Path, as_json: bool) -> None:
    """List the models of the lock and whether they are there."""
    from rich.console import Console
    from rich.table import Table

    from runtime.artifacts.pull import list_models
    from runtime.settings import Settings

    listed = list_models(lock, Settings.read().models)
    if as_json:
        echo_json(
            [{**asdict(entry), "files": [str(file) for file in entry.files]} for entry in listed]
        )
        return
    table = Table(
        "model",
        "state",
        "MB",
        "files",
        "from",
        "licence",
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for entry in listed:
        files = "\n".join(file.name for file in entry.files)
        table.add_row(
            entry.model,
            entry.state,
            f"{entry.size_bytes / 1e6:.1f}",
            files,
            entry.source,
            entry.licence,
        )
    Console().print(table)


def prepare_models(files: list[Path], settings: Settings) -> None:
    """Prepares models for this machine, but for those whose prepared form is still valid."""
    from runtime.onnx.preparation import prepare_model
    from runtime.onnx.prepared_model import find_prepared
    from runtime.onnx.providers import plan_session

    for file in files:
        if find_prepared(file, plan_session(0, None), settings.models) is None:
            began = time.monotonic()
            form = prepare_model(file, plan_session(0, None), settings)
            what = f"stays as it is: {form.why}" if form.why else "prepared for this machine"
            click.echo(
                f"{file.parent.name}: {file.name} {what} in {time.monotonic() - began:.1f} s",
                err=True,
            )


def show_event(event: Event) -> None:
    """Prints one step of a pull."""
    size = f" {event.size_bytes / 1e6:.1f} MB" if event.size_bytes else ""
    took = f" in {event.seconds:.1f} s" if event.seconds else ""
    click.echo(
        f"{event.model}: {event.step}{f' {event.detail}' if event.detail else ''}{size}{took}",
        err=True,
    )
