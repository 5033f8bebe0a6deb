"""What ``import_path`` names in ``serve_config.yaml``: a declaration in, a Ray Serve application out."""

from __future__ import annotations

from typing import Any

from ray import serve

from deployments.catalogue import Catalogue
from deployments.replica import DRAIN_LOOP_S, Replica
from runtime.spec import FunctionSpec, tunables

UNNAMED = "function"
"""Ray tells a builder its ``args`` only; the replica learns its name from where it runs."""

HEALTH_CHECK_PERIOD_S = 3.0
"""Ray's default of 10 s times three failures would leave a broken replica in service for half a minute."""


METRICS_INTERVAL_S = 1.0
"""How often a replica tells the controller what it has in flight. At Ray's defaults (10 s, over 30 s) a function at zero waits up to
16 s before its wake begins; at 0.2 s telling costs each replica 2 % of a core."""

LOGGING = {"enable_access_log": False, "log_level": "WARNING"}
"""Ray's access log is flushed on the event loop: a stall of 20 ms each 1,000 requests. At INFO its line is built for each request
even when it is switched off."""


def function(args: dict[str, Any]) -> serve.Application:
    """One function's application, from the ``args`` of its declaration.

    Raises:
        pydantic.ValidationError: a wrong declaration; ``wakeful check`` says it with its line.
    """
    return application(FunctionSpec.from_args(UNNAMED, f"/v2/models/{UNNAMED}", args))


def application(spec: FunctionSpec) -> serve.Application:
    """A function's application; batching and limits travel as ``user_config`` and change in place."""
    deployment = serve.deployment(name="Function", max_constructor_retry_count=1, **options(spec))
    return deployment(serve.ingress()(Replica)).bind(spec.to_args())


def options(spec: FunctionSpec) -> dict[str, Any]:
    """Ray's deployment options for a declaration.

    The replica admits and refuses by itself, in our error form and with the queue it knows, so Ray is told the sum of both limits:
    then nothing waits unseen before the replica, and the autoscaler counts what does wait.
    """
    resources, limits, scaling = spec.resources, spec.limits, spec.autoscaling
    actor: dict[str, Any] = {"num_cpus": resources.num_cpus, "num_gpus": resources.num_gpus}
    if resources.memory_mb is not None:
        actor["memory"] = resources.memory_mb * 1024 * 1024
    return {
        "ray_actor_options": actor,
        "max_ongoing_requests": limits.max_ongoing_requests + limits.max_queued_requests + 1,
        "user_config": tunables(spec),
        "autoscaling_config": {
            "min_replicas": scaling.min_replicas,
            "initial_replicas": scaling.min_replicas if scaling.initial_replicas is None else scaling.initial_replicas,
            "max_replicas": scaling.max_replicas,
            "target_ongoing_requests": scaling.target_ongoing_requests or max(1, limits.max_ongoing_requests // 2),
            "upscale_delay_s": scaling.upscale_delay_s,
            "downscale_delay_s": scaling.downscale_delay_s,
            "downscale_to_zero_delay_s": scaling.downscale_to_zero_delay_s,
            "policy": {"policy_function": "deployments.autoscale:policy"},
            "metrics_interval_s": METRICS_INTERVAL_S,
            "look_back_period_s": 4 * METRICS_INTERVAL_S,
        },
        "health_check_period_s": HEALTH_CHECK_PERIOD_S,
        "graceful_shutdown_timeout_s": limits.request_timeout_s + 5,
        "graceful_shutdown_wait_loop_s": DRAIN_LOOP_S,
        "logging_config": LOGGING,
    }


def catalogue(args: dict[str, Any]) -> serve.Application:
    """The catalogue's application; ``args`` may list the ``functions`` (name, url, description) that ``wakeful up`` knows."""
    deployment = serve.deployment(
        name="Catalogue",
        ray_actor_options={"num_cpus": 0},
        user_config={"functions": args.get("functions", [])},
        max_ongoing_requests=100,
        graceful_shutdown_wait_loop_s=DRAIN_LOOP_S,
        logging_config=LOGGING,
    )
    return deployment(serve.ingress()(Catalogue)).bind()
