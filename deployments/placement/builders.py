"""The builders that ``import_path`` names in ``serve_config.yaml``: each turns the ``args`` of a
declaration into a Ray Serve application.
"""

from __future__ import annotations

from typing import Any, Final

from ray import serve

from deployments.control.declarations import LIST_KEYS
from deployments.ingress.haproxy.rules import CATALOGUE, HOST
from deployments.placement.catalogue import Catalogue
from deployments.ray_support.deadlines import DRAIN_LOOP_S, longest_s, stop_s
from deployments.ray_support.environment import HEAD
from deployments.ray_support.ray_internals import surge_options
from deployments.ray_support.serve_status import pack_config
from deployments.scaling.serve_policy import MAX_HOSTS
from deployments.serving.application import HEALTH_CHECKS, LOGGING, SURGE_PERCENT, build_application
from deployments.serving.host import Host
from runtime.artifacts.named_models.expansion import expand_model
from runtime.artifacts.remote.pinned_files import pin_stages
from runtime.declaration.function_spec import FunctionSpec
from runtime.onnx.model_info import inspect_model
from runtime.settings import Settings
from runtime.system.files import LOCK_FILE

HOST_CPUS: Final = 1

UNNAMED = "function"
"""Ray gives a builder its ``args`` only; the replica gets its name from Ray when it runs."""


def function(args: dict[str, Any]) -> serve.Application:
    """One function's application, from the ``args`` of its declaration, as ``serve deploy`` builds
    it.

    Raises:
        pydantic.ValidationError: a wrong declaration; ``wakeful check`` reports it with its line.
        StoreError: its model by name is not on this machine, or is none for its task.
    """
    spec = FunctionSpec.from_args(UNNAMED, f"/v2/models/{UNNAMED}", args)
    settings = Settings.read()
    spec = expand_model(pin_stages(spec, settings.root / LOCK_FILE), settings, inspect_model)
    return build_application(spec, is_named=False)


def host(args: dict[str, Any]) -> serve.Application:
    """The shared host's application; ``wakeful up`` gives it more ``args`` than the file.

    Args:
        args: ``prefix`` it is mounted at, ``owner`` of placement, ``hosts`` (processes), and
            ``functions`` with ``declarations`` (``pack_functions``); without any of them it serves
            nothing, as under ``serve deploy``, where every function has a deployment of its own.
            ``everywhere``: so many on each machine of the cluster, not in all. ``first``: what a
            host loads before it takes the place of another
            (``deployments.serving.host.load_first``).
    """
    hosts, everywhere = args.get("hosts", 1), args.get("everywhere", False)
    deployment = serve.deployment(
        name=HOST,
        ray_actor_options={"num_cpus": HOST_CPUS},
        user_config={
            "functions": pack_config(_listed(args)),
            "first": args.get("first", {}),
        },
        max_ongoing_requests=100_000,  # each function admits and refuses by itself
        **HEALTH_CHECKS,
        graceful_shutdown_timeout_s=stop_s(longest_s([{"args": args}])),
        graceful_shutdown_wait_loop_s=DRAIN_LOOP_S,
        logging_config=LOGGING,
        **(
            _everywhere(hosts)
            if everywhere
            else {"num_replicas": hosts, **surge_options(SURGE_PERCENT)}
        ),
    )
    return deployment(serve.ingress()(Host)).bind(
        args.get("prefix", "/v2/models"), args.get("owner", ""), hosts, everywhere
    )


def _listed(args: dict[str, Any]) -> dict[str, Any]:
    """The list of functions among the arguments of the host or the catalogue."""
    return {key: args[key] for key in LIST_KEYS if key in args}


def _everywhere(each: int) -> dict[str, Any]:
    """Hosts on every machine. No new host starts next to one that is replaced, since a machine has
    no resources for more; the other hosts answer meanwhile.
    """
    return {
        "max_replicas_per_node": each,
        **surge_options(0),
        "autoscaling_config": {
            "min_replicas": 1,
            "initial_replicas": each,
            "max_replicas": MAX_HOSTS,
            "upscale_delay_s": 0,
            "downscale_delay_s": 0,
            "policy": {
                "policy_function": "deployments.scaling.serve_policy:HostPerNodePolicy",
                "policy_kwargs": {"hosts_per_node": each, "cpus": HOST_CPUS},
            },
        },
    }


def catalogue(args: dict[str, Any]) -> serve.Application:
    """The catalogue's application.

    Args:
        args: ``functions`` that ``wakeful up`` knows, with ``declarations`` (``pack_functions``),
            and ``held``, names that it deploys itself meanwhile and that are to be left alone;
            ``console``: whether there is one.
    """
    deployment = serve.deployment(
        name=CATALOGUE,
        ray_actor_options={"num_cpus": 0, "resources": HEAD},
        user_config={
            "functions": pack_config(_listed(args)),
            "held": args.get("held", []),
        },
        max_ongoing_requests=100,
        **surge_options(SURGE_PERCENT),
        **HEALTH_CHECKS,
        graceful_shutdown_wait_loop_s=DRAIN_LOOP_S,
        logging_config=LOGGING,
    )
    return deployment(serve.ingress()(Catalogue)).bind(args.get("console", True))
