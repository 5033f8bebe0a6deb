"""What ``import_path`` names in ``serve_config.yaml``: a declaration in, a Ray Serve application out."""

from __future__ import annotations

from typing import Any, Final

from ray import serve

from deployments.application import HEALTH_CHECKS, LOGGING, SURGE_PERCENT, application
from deployments.cataloguing import Catalogue
from deployments.everywhere import MOST
from deployments.hosting import DRAIN_S, Host
from deployments.packed import pack
from deployments.rayprivate import HEAD
from deployments.replica import DRAIN_LOOP_S
from runtime.spec import FunctionSpec

HOST_CPUS: Final = 1

UNNAMED = "function"
"""Ray tells a builder its ``args`` only; the replica learns its name from where it runs."""


def function(args: dict[str, Any]) -> serve.Application:
    """One function's application, from the ``args`` of its declaration, as ``serve deploy`` builds it.

    Raises:
        pydantic.ValidationError: a wrong declaration; ``wakeful check`` says it with its line.
    """
    return application(FunctionSpec.from_args(UNNAMED, f"/v2/models/{UNNAMED}", args), is_named=False)


def host(args: dict[str, Any]) -> serve.Application:
    """The shared host's application; ``wakeful up`` tells it more than the file does.

    Args:
        args: ``prefix`` it is mounted at, ``owner`` of placement, ``hosts`` (processes) and ``functions`` (``name``, ``url``, ``args``,
            ``memory_bytes``, ``probed``); without any of them it serves nothing, as under ``serve deploy``, where every function has a
            deployment of its own. ``everywhere``: so many on each machine of the cluster, not in all.
    """
    hosts, everywhere = args.get("hosts", 1), args.get("everywhere", False)
    deployment = serve.deployment(
        name="Host",
        ray_actor_options={"num_cpus": HOST_CPUS},
        user_config={"functions": pack(args.get("functions", []))},
        max_ongoing_requests=100_000,  # each function admits and refuses by itself
        **HEALTH_CHECKS,
        graceful_shutdown_timeout_s=DRAIN_S + 5,
        graceful_shutdown_wait_loop_s=DRAIN_LOOP_S,
        logging_config=LOGGING,
        **(_everywhere(hosts) if everywhere else {"num_replicas": hosts, "max_surge_percent": SURGE_PERCENT}),
    )
    return deployment(serve.ingress()(Host)).bind(args.get("prefix", "/v2/models"), args.get("owner", ""), hosts, everywhere)


def _everywhere(each: int) -> dict[str, Any]:
    """Nobody comes beside a host that is replaced, since there is no room for more on a machine: its peers answer meanwhile."""
    return {
        "max_replicas_per_node": each,
        "max_surge_percent": 0,
        "autoscaling_config": {
            "min_replicas": 1,
            "initial_replicas": each,
            "max_replicas": MOST,
            "upscale_delay_s": 0,
            "downscale_delay_s": 0,
            "policy": {"policy_function": "deployments.everywhere:Everywhere", "policy_kwargs": {"each": each, "cpus": HOST_CPUS}},
        },
    }


def catalogue(args: dict[str, Any]) -> serve.Application:
    """The catalogue's application; ``args`` may list the ``functions`` that ``wakeful up`` knows, as ``seat.Seat`` wants them."""
    deployment = serve.deployment(
        name="Catalogue",
        ray_actor_options={"num_cpus": 0, "resources": HEAD},
        user_config={"functions": pack(args.get("functions", []))},
        max_ongoing_requests=100,
        max_surge_percent=SURGE_PERCENT,
        **HEALTH_CHECKS,
        graceful_shutdown_wait_loop_s=DRAIN_LOOP_S,
        logging_config=LOGGING,
    )
    return deployment(serve.ingress()(Catalogue)).bind()
