"""``wakeful export``: a file in the form that another system takes."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import click

from deployments.cli.options import checked, file_argument


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
    from ruamel.yaml import YAML
    from ruamel.yaml.scalarstring import LiteralScalarString

    from deployments.kuberay import Pods, manifest, serve_config
    from deployments.plan import plan
    from runtime.declaration.references import names
    from runtime.secrets import Undisclosed
    from runtime.settings import Settings

    settings = replace(Settings.read(), secrets=Undisclosed())
    declared = checked(file, settings)
    secrets = tuple(names(stage.with_ for spec in declared.functions for stage in spec.graph))
    wanted = plan(declared, settings, is_open=True)
    pods = Pods(name, image, root, bin_, cpus, memory, gpus, workers, max(workers, max_workers or 0), secrets)
    yaml = YAML()
    yaml.width = 4096
    yaml.default_flow_style = False

    def text(data: object) -> str:
        out = io.StringIO()
        yaml.dump(data, out)
        return out.getvalue()

    serve = json.loads(json.dumps(serve_config(wanted)))  # what two applications are told is written out twice, without YAML's anchors
    click.echo(text(manifest(pods, LiteralScalarString(text(serve)))), nl=False)
