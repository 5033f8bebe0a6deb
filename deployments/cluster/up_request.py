"""What ``up`` asks of a cluster, and what one that runs already cannot take: its addresses, its
root folder and the longest time of a call hold for as long as it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deployments.ray_support.deadlines import hard_stop_s, most_s
from deployments.ray_support.driver_client import RayError
from deployments.ray_support.environment import HARD_STOP, LOOPBACK
from deployments.ray_support.state_dir import WIRE, ClusterState
from deployments.rollout.plan import Plan
from deployments.rollout.plan_comparison import declared_functions
from runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class DriverRequest:
    """What ``up`` wants.

    Attributes:
        plan: what to deploy.
        file: the declaration, an absolute path.
        address: of a cluster to join; None starts one here.
        num_gpus: the GPUs that Ray counts with; None: those it finds.
        secrets: the values of the functions' secrets, by digest.
        has_any_port: no port was asked for, and a free one was found.
        node_ip: where the Ray of a cluster that is started here listens; other machines may join it
            unless this is the loopback address.
    """

    plan: Plan
    settings: Settings
    file: str
    address: str | None = None
    num_gpus: int | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    node_ip: str = LOOPBACK
    has_any_port: bool = False


def initial_state(request: DriverRequest) -> ClusterState:
    """A cluster that is started for a request, as it is written down before there is one."""
    return ClusterState(
        kind="own",
        address="",
        host=request.plan.host,
        port=request.plan.port,
        node_ip=request.node_ip,
        file=request.file,
        root=str(request.settings.root),
        models=str(request.settings.models),
        cors=request.plan.cors,
        auth=request.plan.auth,
        has_any_port=request.has_any_port,
        tls=request.plan.tls,
        per_address=request.plan.per_address,
        keep_alive_s=request.plan.keep_alive_s,
    )


def refuse_update(up: ClusterState, request: DriverRequest) -> None:
    """Refuses what a running cluster would have to be another one for.

    Raises:
        RayError: with what it is, and that `wakeful down` comes first.
    """
    plan = request.plan
    refuse_move(up, plan.host, plan.port)
    if up.kind == "own" and str(request.settings.root) != up.root:
        raise RayError(
            f"already up, and its processes find models and stages from {up.root}, not from "
            f"{request.settings.root}. Set WAKEFUL_ROOT={up.root}, or `wakeful down` first."
        )
    if request.address and request.address != up.address:
        raise RayError(f"already up on the cluster at {up.address}. `wakeful down` first.")
    if request.node_ip not in (LOOPBACK, up.node_ip):
        raise RayError(
            f"already up, and Ray listens on {up.node_ip}; it cannot move to "
            f"{request.node_ip}. `wakeful down` first."
        )
    if up.kind == "own" and plan.tls != up.tls:
        now = "without TLS"
        if up.tls:
            now = "with other files of TLS" if plan.tls else "with TLS"
        raise RayError(
            f"already up {now}, which is fixed when it starts. `wakeful down`, then `wakeful up`, "
            "serves as `http.tls` of the file says; what is in the files themselves may change."
        )
    refuse_longer_timeouts(up, plan)


def refuse_other_wire(wire: int) -> None:
    """Refuses a cluster whose processes were started by another version of Wakeful, where they and
    those of this one would not understand each other.

    Args:
        wire: of the cluster (``ClusterState.wire``).

    Raises:
        RayError: with what starts it anew.
    """
    if wire != WIRE:
        raise RayError(
            "what is up was started by another version of Wakeful, and its processes do not "
            "understand those of this one. `wakeful down`, then `wakeful up`, starts it with this "
            "version; on a machine that joins, install the version that the cluster has."
        )


def refuse_move(up: ClusterState, host: str, port: int) -> None:
    """Refuses to serve where the cluster that is up does not, and one of another version; known
    before anything is probed.

    Raises:
        RayError: with what to type to update it where it is.
    """
    if up.kind == "node":  # first: what else is said of it concerns the machine that it joined
        raise RayError(
            f"this machine has joined the cluster at {up.address}. Deploy where that was "
            "started, or `wakeful down` first."
        )
    refuse_other_wire(up.wire)
    if (host, port) == (up.host, up.port):
        return
    there = " ".join(
        f"--{name} {is_at}"
        for name, is_at, wanted in (("host", up.host, host), ("port", up.port, port))
        if is_at != wanted
    )
    raise RayError(
        f"already up at {up.url}, and it cannot move to {host}:{port}. `wakeful up {there}` "
        "updates it where it is. (`wakeful down`, which ends what it serves, comes before a move.)"
    )


def refuse_longer_timeouts(up: ClusterState, plan: Plan) -> None:
    """HAProxy's longest time for a call is in the environment that Ray was started with, and holds
    for as long as the cluster.

    Raises:
        RayError: a function may take longer.
    """
    longest = most_s(up.hard_stop_s, up.keep_alive_s)
    if plan.longest_s <= longest:
        return
    wanted_s = hard_stop_s(plan.longest_s, up.keep_alive_s)
    names = [
        name
        for name, args in declared_functions(plan.applications).items()
        if args.get("limits", {}).get("request_timeout_s", 0) > longest
    ]
    fix = (
        "`wakeful down`, then `wakeful up`, starts it with another."
        if up.kind == "own"
        else f"Start every machine's Ray, and run this, with {HARD_STOP}={wanted_s}."
    )
    raise RayError(
        f"limits.request_timeout_s of {', '.join(names)} is above {longest:.0f} s, the longest "
        "that a call may take on this cluster: its HAProxy was started to end a call "
        f"{up.hard_stop_s} s after a reload. {fix} Or lower the limit."
    )
