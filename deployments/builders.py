"""What ``import_path`` names in ``serve_config.yaml``: a declaration in, a Ray Serve application out."""

from __future__ import annotations

from typing import Any

from ray import serve

from deployments.application import HEALTH_CHECKS, LOGGING, SURGE_PERCENT, application
from deployments.cataloguing import Catalogue
from deployments.hosting import DRAIN_S, Host
from deployments.packed import pack
from deployments.replica import DRAIN_LOOP_S
from runtime.spec import FunctionSpec

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
            deployment of its own.
    """
    hosts = args.get("hosts", 1)
    deployment = serve.deployment(
        name="Host",
        num_replicas=hosts,
        ray_actor_options={"num_cpus": 1},
        user_config={"functions": pack(args.get("functions", []))},
        max_ongoing_requests=100_000,  # each function admits and refuses by itself
        max_surge_percent=SURGE_PERCENT,
        **HEALTH_CHECKS,
        graceful_shutdown_timeout_s=DRAIN_S + 5,
        graceful_shutdown_wait_loop_s=DRAIN_LOOP_S,
        logging_config=LOGGING,
    )
    return deployment(serve.ingress()(Host)).bind(args.get("prefix", "/v2/models"), args.get("owner", ""), hosts)


def catalogue(args: dict[str, Any]) -> serve.Application:
    """The catalogue's application; ``args`` may list the ``functions`` that ``wakeful up`` knows, as ``seat.Seat`` wants them."""
    deployment = serve.deployment(
        name="Catalogue",
        ray_actor_options={"num_cpus": 0},
        user_config={"functions": pack(args.get("functions", []))},
        max_ongoing_requests=100,
        max_surge_percent=SURGE_PERCENT,
        **HEALTH_CHECKS,
        graceful_shutdown_wait_loop_s=DRAIN_LOOP_S,
        logging_config=LOGGING,
    )
    return deployment(serve.ingress()(Catalogue)).bind()
