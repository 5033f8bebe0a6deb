"""``wakeful join``: adds this machine to a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from deployments.cli.operations.foreground import StatusWords, count_signals, stay_attached
from deployments.cli.options import check_address, require_module
from deployments.cli.terminal import Progress
from runtime.system.files import LOCK_FILE

if TYPE_CHECKING:
    from runtime.settings import Settings

LEAVING: Final = StatusWords(
    "leaving",
    "left.",
    "the cluster has gone, or has given this machine up; what was left here has been taken down.",
)


@click.command(short_help="Add this machine to a cluster.")
@click.argument("address", metavar="HOST:PORT", callback=check_address)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The cluster's token, copied from its head.",
)
@click.option(
    "--lock",
    type=click.Path(path_type=Path),
    default=LOCK_FILE,
    show_default=True,
    help="Models to pull first, where the file is there.",
)
@click.option(
    "--node-ip-address",
    metavar="IP",
    default="",
    help="This machine's address, as the others reach it; by default Ray finds it.",
)
@click.option(
    "--num-gpus",
    type=click.IntRange(min=0),
    help="GPUs that Ray shall believe in here; by default those it finds.",
)
@click.option(
    "--detach",
    is_flag=True,
    help="Return once the machine has joined; `wakeful down` on it leaves.",
)
@click.pass_context
def join(
    ctx: click.Context,
    address: str,
    token_file: Path | None,
    lock: Path,
    node_ip_address: str,
    num_gpus: int | None,
    detach: bool,
) -> None:
    """Add this machine to the cluster whose Ray is at HOST:PORT, as `wakeful up --node-ip-address`
    printed it.

    Models of the lock are pulled first, those by their name or address among them. The machine gets
    a HAProxy, which answers for all functions, a shared host, and replicas where there is room. It
    needs the models, the files and the code that the head has: another model is not loaded, other
    code is reported.

    Stays until Ctrl-C or SIGTERM, upon which the others take over what it served.
    """
    from deployments.cluster.join import JoinedMachine
    from deployments.cluster.join import join as join_cluster
    from deployments.ray_support.state_dir import StateDir
    from runtime.settings import Settings

    require_module("ray")
    # read first: it may be the file that is replaced
    token = token_file.read_bytes() if token_file else None
    settings = Settings.read()
    state_dir = StateDir()
    _pull(lock, settings)
    with Progress("asking the cluster where it serves") as progress:
        up = join_cluster(
            state_dir, JoinedMachine(address, settings, node_ip_address, num_gpus, token), progress
        )
    click.echo(
        f"this machine has joined the cluster at {up.address}; it answers on the cluster's HTTP "
        "port."
    )
    if detach:
        return
    click.echo("\nCtrl-C leaves; the others take over what this machine serves.")
    with count_signals() as signals:
        ctx.exit(stay_attached(state_dir, settings.drain_s, signals, LEAVING))


def _pull(lock: Path, settings: Settings) -> None:
    """Fetches and prepares the lock's models that are not there yet."""
    from deployments.cli.models import import_builders_from, prepare_models, show_event
    from runtime.artifacts.lockfile import read_lock
    from runtime.artifacts.named_models.repositories import pull_repository
    from runtime.artifacts.pull import pull
    from runtime.artifacts.remote.pulling import pull_located

    if lock.exists():
        import_builders_from(lock)
        results = pull(lock, settings.models, show_event)
        found = read_lock(lock)
        for key, pinned in found.repositories.items():
            results.append(pull_repository(key, pinned, settings.models, show_event))
        for source in found.files:
            results.append(pull_located(source, None, lock, settings.models, show_event))
        prepare_models(
            [file for result in results for file in result.files if file.suffix == ".onnx"],
            settings,
        )
