"""``wakeful export``: a file in the form that another system takes."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deployments.cli.options import checked, file_argument

if TYPE_CHECKING:
    from runtime.settings import Settings
    from runtime.specfile import ServeFile


@click.group(short_help="Write a file in the form that another system takes.")
def export() -> None:
    """Write FILE in the form that another system takes."""


@export.command()
@file_argument
@click.option("--image", required=True, help="Image with Wakeful, the stages' code and the pulled models.")
@click.option("--name", default="wakeful", show_default=True, help="Of the RayService.")
@click.option("--root", default="/app", show_default=True, help="Folder of FILE in the image.")
@click.option("--bin", "bin_", default="/app/.venv/bin", show_default=True, help="Folder of the `wakeful` command in the image.")
@click.option("--cpus", type=click.IntRange(min=1), default=4, show_default=True, help="CPUs of a worker.")
@click.option("--memory", default="8Gi", show_default=True, help="Memory of a worker.")
@click.option("--gpus", type=click.IntRange(min=0), default=0, show_default=True, help="GPUs of a worker.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Workers that are always there.")
@click.option("--max-workers", type=click.IntRange(min=1), help="Workers at the most; by default as many as are always there.")
def kuberay(
    file: Path, image: str, name: str, root: str, bin_: str, cpus: int, memory: str, gpus: int, workers: int, max_workers: int | None
) -> None:
    """Print FILE as a RayService for KubeRay: `wakeful export kuberay --image IMAGE | kubectl apply -f -`.

    The service has the catalogue, a shared host on each worker, and a deployment of its own for each function that asks for one, as
    `wakeful up` deploys them. FILE is checked first. What stages name as ${NAME} is taken from a Secret, `NAME-secrets` of --name.
    """
    from ruamel.yaml.scalarstring import LiteralScalarString

    from deployments.kuberay import LISTENS, Pods, manifest, serve_config
    from deployments.plan import plan
    from runtime.declaration.references import names

    declared, settings = _read(file)
    secrets = tuple(names(stage.with_ for spec in declared.functions for stage in spec.graph))
    pods = Pods(name, image, root, bin_, cpus, memory, gpus, workers, max(workers, max_workers or 0), secrets)
    config = serve_config(plan(declared, settings, is_open=True), **LISTENS)
    click.echo(_text(manifest(pods, LiteralScalarString(_text(_plain(config))))), nl=False)


@export.command()
@file_argument
def serve(file: Path) -> None:
    """Print FILE as Ray Serve's own, with all that `wakeful up` adds: for `serve deploy`, which reads one application at a time.

    Functions that call others know these; a stage with a `deployment` is an application; the host is told whom it serves. FILE is checked
    first. What stages name as ${NAME} is taken from the environment of the cluster's processes.
    """
    from deployments.kuberay import serve_config
    from deployments.plan import plan

    click.echo(_text(_plain(serve_config(plan(*_read(file))))), nl=False)


def _read(file: Path) -> tuple[ServeFile, Settings]:
    """The file, checked, whose functions say what they are made of, and settings that disclose no secret."""
    from runtime.contents import written
    from runtime.secrets import Undisclosed
    from runtime.settings import Settings

    settings = replace(Settings.read(), secrets=Undisclosed())
    return written(checked(file, settings), settings), settings


def _plain(config: dict[str, Any]) -> Any:
    """What two applications are told is written out twice, without YAML's anchors, which are refused where the file is read."""
    return json.loads(json.dumps(config))


def _text(data: object) -> str:
    """As YAML."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 4096
    yaml.default_flow_style = False
    out = io.StringIO()
    yaml.dump(data, out)
    return out.getvalue()
