"""``wakeful join``: this machine becomes one more of a cluster."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from deployments.cli.models import LOCK
from deployments.cli.signals import counted
from deployments.cli.staying import Words, stay

if TYPE_CHECKING:
    from runtime.settings import Settings

LEAVING: Final = Words("leaving", "left.", "the cluster has gone, or has given this machine up; what was left here has been taken down.")


@click.command(short_help="Add this machine to a cluster.")
@click.argument("address", metavar="HOST:PORT")
@click.option(
    "--token-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="The cluster's token, copied from its head."
)
@click.option(
    "--lock", type=click.Path(path_type=Path), default=LOCK, show_default=True, help="Models to pull first, where the file is there."
)
@click.option(
    "--node-ip-address", metavar="IP", default="", help="This machine's address, as the others reach it; by default Ray finds it."
)
@click.option("--num-gpus", type=click.IntRange(min=0), help="GPUs that Ray shall believe in here; by default those it finds.")
@click.option("--detach", is_flag=True, help="Return once the machine has joined; `wakeful down` on it leaves.")
@click.pass_context
def join(
    ctx: click.Context, address: str, token_file: Path | None, lock: Path, node_ip_address: str, num_gpus: int | None, detach: bool
) -> None:
    """Add this machine to the cluster whose Ray is at HOST:PORT, as `wakeful up --node-ip-address` printed it.

    Models of the lock are pulled first. A machine on which a model, a file or the code of a stage is not the same as on the head is
    refused. It gets a HAProxy, which answers for all functions, a shared host, and replicas where there is room.

    Stays until Ctrl-C or SIGTERM, upon which the others take over what it served.
    """
    from deployments.cli.progress import Progress
    from deployments.home import Home
    from deployments.joining import Joining
    from deployments.joining import join as join_cluster
    from runtime.settings import Settings

    settings = Settings.read()
    home = Home()
    home.prepare()
    if token_file is not None:
        (home.path / "token").unlink()
        shutil.copyfile(token_file, home.path / "token")
        (home.path / "token").chmod(0o600)
    _pull(lock, settings)
    with Progress("comparing with the cluster") as progress:
        up = join_cluster(home, Joining(address, settings, node_ip_address, num_gpus), progress)
    click.echo(f"this machine has joined the cluster at {up.address}; it answers on the cluster's HTTP port.")
    if detach:
        return
    click.echo("\nCtrl-C leaves; the others take over what this machine serves.")
    with counted() as signals:
        ctx.exit(stay(home, settings.drain_s, signals, LEAVING))


def _pull(lock: Path, settings: Settings) -> None:
    """The lock's models are there afterwards; what is, is left alone."""
    from deployments.cli.models import prepare, show
    from runtime.store.pull import pull

    if lock.exists():
        results = pull(lock, settings.models, show)
        prepare([file for result in results for file in result.files if file.suffix == ".onnx"], settings)
